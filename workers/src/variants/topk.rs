//! TopK with AuxK: `codes = ReLU(TopK_k(pre_acts))`. L0 is set, not bargained for.
//!
//! Makhzani & Frey 2013 (k-sparse autoencoders, with αk latents at inference); Gao et al. 2024
//! (*Scaling and evaluating sparse autoencoders*, with Multi-TopK), `openai/sparse_autoencoder`.

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    codes::Codes,
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{DictLearner, Dictionary, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::Parameters,
        spec::{k_of, positive, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "topk"`.
    pub struct TopK {
        /// Latents kept per row.
        pub k: usize,
        /// Weight of a second reconstruction from the 4·k largest (Multi-TopK): 1/8 keeps quality when k
        /// is changed later. 0 leaves it out.
        #[serde(default)]
        pub multi_coefficient: f64,
        /// At harvest `inference_factor`·k latents are kept (the α of k-sparse autoencoders).
        #[serde(default = "one")]
        pub inference_factor: f64,
    }
}

fn one() -> f64 {
    1.0
}

/// Multi-TopK looks at this many times k latents (Gao et al. 2024, §A.5).
const MULTI: usize = 4;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "topk",
    family: "sparse autoencoder",
    summary: "keeps the k largest pre-activations of a row; AuxK revives dead latents",
    paper: "Gao et al. 2024, arXiv:2406.04093; Makhzani & Frey 2013, arXiv:1312.5663",
    columns: "",
    modes: &["multi_coefficient: Multi-TopK", "inference_factor: alpha k"],
    example: "jobs/specs/quickstart.toml",
    small: r#"{"kind": "topk", "n_latents": 40, "k": 4, "dead_after_tokens": 200, "multi_coefficient": 0.125}"#,
};

impl LearnerConfig for TopK {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        positive("multi_coefficient", self.multi_coefficient)?;
        let factor = self.inference_factor;
        Invalid::unless(factor.is_finite() && factor >= 1.0, "inference_factor", "must be 1 or more")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }

    fn residuals(&self) -> usize {
        if self.multi_coefficient > 0.0 { 3 } else { 2 }
    }
}

impl TopK {
    fn code<R: Real>(&self, loss: &mut Loss<R>, aux: &AuxK, codes: Codes, values: Vec<R>, scale: f64) {
        let main = loss.reconstruct(codes, values, scale);
        aux.add(loss, &main);
        loss.push(main);
    }
}

impl SaeVariant for TopK {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let (multi, scale) = (self.multi_coefficient, loss.scale(Unit::Variance));
        if multi == 0.0 {
            let Selected { codes, values, .. } = loss.select(Selection::TopK(self.k));
            return self.code(loss, aux, codes, values, scale);
        }
        let Selected { codes: wide, values, .. } = loss.select(Selection::TopK(MULTI * self.k));
        let (codes, largest) = wide.largest(&values, |_| self.k);
        self.code(loss, aux, codes, largest, scale);
        let wide = loss.reconstruct(wide, values, multi * scale);
        loss.push(wide);
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small count")]
        let k = (self.inference_factor * self.k as f64).round() as usize;
        Box::new(FrozenSae::new(Inference::TopK(k.min(self.n_latents)), folded))
    }
}

#[cfg(test)]
mod tests;
