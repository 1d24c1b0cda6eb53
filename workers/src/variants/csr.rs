//! CSR, contrastive sparse representation: TopK codes that also tell rows apart, for retrieval with few
//! latents. Multi-TopK, AuxK, and InfoNCE on the codes with the other rows of the batch as negatives.
//!
//! Wen et al. 2025 (*Beyond Matryoshka*), `neilwen987/CSR_Adaptive_Rep`. Without pairs both views are the
//! row itself; with a column that says which rows belong together, one row is the view of another. Negatives
//! are all rows of the batch, whichever lane they are in.

mod pairs;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
        vector,
    },
    learner::{Beside, Columns, DictLearner, Dictionary, Role, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        contrast::{Contrast, View, info_nce},
        objective::{Loss, Part, Unit},
        parameters::Parameters,
        spec::{k_of, positive, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "csr"`.
    pub struct Csr {
        /// Latents kept per row.
        pub k: usize,
        /// Weight of a second reconstruction from the 4·k largest.
        #[serde(default = "multi_coefficient")]
        pub multi_coefficient: f64,
        /// Weight of the contrastive loss.
        #[serde(default = "contrast_coefficient")]
        pub contrast_coefficient: f64,
        /// What cosines of codes are divided by (τ).
        #[serde(default = "temperature")]
        pub temperature: f64,
        /// Column with a number for what a row belongs to, such as a class or a pair (up to 2^24; null is
        /// unknown): rows of one number that are in one batch are each other's positives, two by two. Left
        /// out: every row is its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub positives: Option<String>,
    }
}

fn multi_coefficient() -> f64 {
    0.125
}

fn contrast_coefficient() -> f64 {
    0.1
}

fn temperature() -> f64 {
    0.2
}

/// The second reconstruction looks at this many times k latents.
const MULTI: usize = 4;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "csr",
    family: "sparse autoencoder",
    summary: "Multi-TopK whose codes also tell rows apart (InfoNCE), for retrieval with few latents",
    paper: "Wen et al. 2025, arXiv:2503.01776",
    columns: "positives: numbers, optional",
    modes: &["positives: rows of one number are pairs"],
    example: "jobs/specs/learners/csr.toml",
    small: r#"{"kind": "csr", "n_latents": 40, "k": 4, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Csr {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let one_each = setup.beside_widths.iter().all(|&width| width == 1);
        Invalid::unless(one_each, "positives", "must be a column of one number per row")?;
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        positive("multi_coefficient", self.multi_coefficient)?;
        positive("contrast_coefficient", self.contrast_coefficient)?;
        let named = self.positives.as_ref().is_none_or(|name| !name.is_empty());
        Invalid::unless(named, "positives", "must name a column")?;
        // e^(1/τ) has to be a number.
        let fine = self.temperature.is_finite() && self.temperature >= 0.01;
        Invalid::unless(fine, "temperature", "must be 0.01 or more")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        let label = |name: &String| Beside { name: name.clone(), role: Role::Label };
        Columns { inputs: Vec::new(), beside: self.positives.iter().map(label).collect() }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }

    fn residuals(&self) -> usize {
        if self.multi_coefficient > 0.0 { 3 } else { 2 }
    }
}

impl Csr {
    fn contrast<R: Real>(&self, loss: &mut Loss<R>, part: &mut Part<R>) {
        let (path, weight) = (loss.step.path, R::of(self.contrast_coefficient));
        if let (Some(_), Some(groups)) = (&self.positives, loss.step.beside.first()) {
            let (cost, slopes) = pairs::contrast(path, part, &pairs::rounds(groups), self.temperature);
            loss.add(self.contrast_coefficient * cost);
            vector::axpy_on(path, weight, &slopes, &mut part.slope);
            return;
        }
        let view = View { codes: &part.codes, values: &part.values };
        let Contrast { loss: cost, slopes } = info_nce(path, [view, view], self.temperature);
        loss.add(self.contrast_coefficient * cost);
        slopes.iter().for_each(|of| vector::axpy_on(path, weight, of, &mut part.slope));
    }
}

impl SaeVariant for Csr {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let scale = loss.scale(Unit::Variance);
        let multi = if self.multi_coefficient > 0.0 { MULTI } else { 1 };
        let Selected { codes: wide, values, .. } = loss.select(Selection::TopK(multi * self.k));
        let (codes, largest) = wide.largest(&values, |_| self.k);
        let mut main = loss.reconstruct(codes, largest, scale);
        aux.add(loss, &main);
        if self.contrast_coefficient > 0.0 {
            self.contrast(loss, &mut main);
        }
        loss.push(main);
        if self.multi_coefficient > 0.0 {
            let wide = loss.reconstruct(wide, values, self.multi_coefficient * scale);
            loss.push(wide);
        }
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(self.k), folded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        planted::{self, ATOMS},
        skeleton::golden::{self, Case, F},
        threads::Threads,
        variants::topk::TopK,
    };

    fn csr(contrast_coefficient: f64, multi_coefficient: f64) -> Csr {
        let spec = serde_json::json!({
            "n_latents": F, "k": 2, "contrast_coefficient": contrast_coefficient,
            "multi_coefficient": multi_coefficient,
        });
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn without_contrast_it_is_multi_top_k() {
        for multi in [0.0, 0.125] {
            let spec = serde_json::json!({ "n_latents": F, "k": 2, "multi_coefficient": multi });
            let mut top_k: TopK = serde_json::from_value(spec).unwrap();
            let case = Case::<f64>::default();
            assert_eq!(case.run(&mut csr(0.0, multi)), case.run(&mut top_k));
        }
    }

    #[test]
    fn gradients_equal_central_differences() {
        let (case, mut variant) = (Case::<f64>::default(), csr(0.7, 0.125));
        let outcome = case.run(&mut variant);
        assert!(outcome.losses.penalty > 0.05);
        let loss = |case: &Case<f64>| case.run(&mut variant).losses.total;
        golden::central_differences(&case, &outcome.gradients, &[], loss);
    }

    #[test]
    fn paths_and_lanes_change_no_bit() {
        golden::paths_and_lanes(&Case::default(), &Case::default(), || Box::new(csr(0.7, 0.125)));
    }

    #[test]
    fn recovers_a_planted_dictionary() {
        let (atoms, steps) = (planted::atoms(), 1500);
        let spec = serde_json::json!({
            "n_latents": ATOMS, "k": 4, "dead_after_tokens": 20_000, "schedule": { "lr": 3e-3 },
        });
        let config: Csr = serde_json::from_value(spec).unwrap();
        let batches = planted::batches(&atoms);
        let setup = Setup::plain(&planted::D, steps as u64, 1, &batches[0], Threads::new(0).unwrap());
        let mut learner = config.build(&setup).unwrap();
        let last = planted::train(&mut *learner, &batches, steps);
        let dictionary = learner.freeze(&Scales::of(1.0));
        let (mmcs, _) = planted::mmcs(&atoms, dictionary.atoms(), planted::D, false);
        println!("csr: MMCS {mmcs}, FVU {}", last.squared_error / last.scatter);
        assert!(mmcs >= 0.95, "MMCS {mmcs}");
    }
}
