//! SAE Boost: a small dictionary for what a frozen one leaves unexplained on a new domain.
//!
//! Koriagin et al. 2025 (*Teach Old SAEs New Domain Tricks with Boosting*, arXiv:2507.12990). Encodes x,
//! reconstructs `t = x − SAE₀(x)`; the base is read from an exported dictionary (SAELens layout, see
//! [`FrozenSae::import`]). What it says of a row is added to what the base says.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{ActivationBatch, DictLearner, Dictionary, LinearEncoder, Mismatch, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::{Extra, Parameters},
        spec::{k_of, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "boost"`.
    pub struct Boost {
        /// Latents kept per row.
        pub k: usize,
        /// Directory of the frozen dictionary: `cfg.json` and `sae_weights.safetensors`.
        pub base: String,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "boost",
    family: "sparse autoencoder",
    summary: "learns what a frozen dictionary leaves unexplained on a new domain (SAE Boost)",
    paper: "Koriagin et al. 2025, arXiv:2507.12990",
    columns: "base: an exported dictionary",
    modes: &[],
    example: "jobs/specs/learners/boost.toml",
    small: r#"{"kind": "boost", "n_latents": 40, "k": 4, "base": "base", "dead_after_tokens": 200}"#,
};

impl Boost {
    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.base.trim_end_matches('/'))
    }

    fn read(&self, setup: &Setup) -> Result<FrozenSae, Invalid> {
        let missing = Invalid { field: "base", reason: "must hold cfg.json and sae_weights.safetensors" };
        let file = |name| setup.files.get(&self.file(name)).ok_or_else(|| missing.clone());
        let (cfg, weights) = (file("cfg.json")?, file("sae_weights.safetensors")?);
        let unreadable = Invalid {
            field: "base",
            reason: "must be a TopK, AbsTopK, JumpReLU, ReLU or gated dictionary in the layout of SAELens",
        };
        let base = FrozenSae::import(cfg, weights, setup.threads.clone()).map_err(|_| unreadable)?;
        Invalid::unless(base.d_in() == setup.d_in, "base", "must be of the same width as the activations")?;
        Ok(base)
    }
}

impl LearnerConfig for Boost {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let base = std::sync::Arc::new(self.read(setup)?);
        let learner = Learner { k: self.k, base, scale: setup.scales.first(), d: setup.d_in };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        Invalid::unless(!self.base.is_empty(), "base", "must name the directory of a dictionary")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn files(&self) -> Vec<String> {
        vec![self.file("cfg.json"), self.file("sae_weights.safetensors")]
    }

    fn uncodable(&self) -> Option<&'static str> {
        Some("what it adds to is the reconstruction of its base")
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

/// The frozen base, which speaks of rows that are not scaled.
#[derive(Debug)]
struct Learner {
    k: usize,
    base: std::sync::Arc<FrozenSae>,
    scale: f32,
    d: usize,
}

/// Numbers that one task scales.
const TASK: usize = 16_384;

impl SaeVariant for Learner {
    fn target<'b>(&self, batch: &ActivationBatch<'b>) -> Option<(usize, Cow<'b, [f32]>)> {
        let mut x = vec![0f32; batch.x.len()];
        let rows = x.par_chunks_mut(TASK).zip(batch.x.par_chunks(TASK));
        rows.for_each(|(x, scaled)| x.iter_mut().zip(scaled).for_each(|(x, v)| *x = v / self.scale));
        let mut left = vec![0f32; x.len()];
        self.base.decode(&self.base.encode(&x), &mut left);
        let rows = left.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
        rows.for_each(|(left, x)| {
            left.iter_mut().zip(x).for_each(|(left, x)| *left = (x - *left) * self.scale);
        });
        Some((self.d, Cow::Owned(left)))
    }

    /// Zero atoms cannot be normalised, and the base has its bias: this one starts without.
    fn begin(&mut self, parameters: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        parameters.b_dec.value.fill(0.0);
        parameters.w_enc.value.clone_from(&parameters.w_dec.value);
        Vec::new()
    }

    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.k));
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
    }

    /// The decoder bias of a booster stays zero: what is the same for all rows is the base's to say.
    fn project(&self, parameters: &mut Parameters<f32>) {
        parameters.b_dec.value.fill(0.0);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        let booster = FrozenSae::new(Inference::TopK(self.k), folded);
        Box::new(Boosted { booster, base: self.base.clone() })
    }
}

/// Base and booster: latents are the booster's, reconstructions the sum of both.
#[derive(Debug)]
struct Boosted {
    booster: FrozenSae,
    base: std::sync::Arc<FrozenSae>,
}

impl Dictionary for Boosted {
    fn d_in(&self) -> usize {
        self.booster.d_in()
    }

    fn n_latents(&self) -> usize {
        self.booster.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.booster.encode(x)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.booster.decode(codes, x_hat);
    }

    fn reconstruct(&self, x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
        self.base.decode(&self.base.encode(x), x_hat);
        let mut more = vec![0f32; x_hat.len()];
        self.booster.decode(codes, &mut more);
        x_hat.iter_mut().zip(more).for_each(|(x_hat, more)| *x_hat += more);
    }

    fn atoms(&self) -> &[f32] {
        self.booster.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.booster.linear_encoder()
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        self.booster.export()
    }
}

#[cfg(test)]
mod tests;
