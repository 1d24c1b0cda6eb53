//! AbsTopK: the k pre-activations of largest magnitude, with their signs: one latent for both directions.
//!
//! Zhu et al. 2025 (*AbsTopK: Rethinking Sparse Autoencoders For Bidirectional Features*): one
//! proximal step for the ℓ0 constraint, without non-negativity.

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
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
        spec::{k_of, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "abstopk"`.
    pub struct AbsTopK {
        /// Latents kept per row.
        pub k: usize,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "abstopk",
    family: "sparse autoencoder",
    summary: "keeps the k pre-activations of largest magnitude with their signs: both directions in one latent",
    paper: "Zhu et al. 2025, arXiv:2510.00404",
    columns: "",
    modes: &[],
    example: "jobs/specs/learners/abstopk.toml",
    small: r#"{"kind": "abstopk", "n_latents": 40, "k": 4, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for AbsTopK {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)
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
}

impl SaeVariant for AbsTopK {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::AbsTopK(self.k));
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::AbsTopK(self.k), folded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codes::Codes,
        planted::{self, ROWS, Recipe},
        skeleton::golden::{self, B, Case, F},
        threads::Threads,
        variants::LearnerSpec,
    };

    fn abs_top_k() -> AbsTopK {
        serde_json::from_value(serde_json::json!({ "n_latents": F, "k": 3 })).unwrap()
    }

    #[test]
    fn golden_numbers_and_gradients() {
        let case = Case::<f64>::default();
        let mut outcome = case.run(&mut abs_top_k());
        golden::central_differences(&case, &outcome.gradients, &[], |c| c.run(&mut abs_top_k()).losses.total);
        golden::paths_and_lanes(&Case::default(), &case, || Box::new(abs_top_k()));
        // The golden loss is not divided by the variance.
        let factor = outcome.losses.scatter / B as f64;
        outcome.losses.total *= factor;
        outcome.gradients.iter_mut().flatten().for_each(|v| *v *= factor);
        golden::check(
            &outcome,
            8.444_209_721_4,
            &[
                (5.061_677_28, -0.119_936_25),
                (1.075_681_03, -0.108_031_22),
                (7.431_139_91, 0.715_322_55),
                (2.775_716_56, -0.743_578_60),
            ],
        );
    }

    /// With orthonormal atoms and a tied encoder it is hard thresholding.
    #[test]
    fn orthonormal_atoms_give_hard_thresholding() {
        let d = 8;
        let identity: Vec<f32> = (0..d * d).map(|i| f32::from(u8::from(i % (d + 1) == 0))).collect();
        let folded = FrozenParameters {
            d_in: d,
            pre_bias: true,
            w_enc: identity.clone(),
            b_enc: vec![0.0; d],
            w_dec: identity,
            b_dec: vec![0.0; d],
            threads: Threads::new(1).unwrap(),
            card: None,
        };
        let x = [0.1, -0.9, 0.3, 0.0, -0.2, 0.8, 0.05, -0.4];
        let codes = FrozenSae::new(Inference::AbsTopK(3), folded).encode(&x);
        let mut expected = Codes::new(d);
        expected.push_row([(1, -0.9), (5, 0.8), (7, -0.4)]);
        assert_eq!(codes, expected);
    }

    /// Signed data of n atoms: AbsTopK finds them with n latents, TopK with as many does not.
    #[test]
    fn signed_data_need_half_the_atoms() {
        const N: usize = 96;
        let (atoms, recipe) = (planted::atoms_of(N, planted::D, 1), Recipe { signed: true, ..planted::T2 });
        let batches: Vec<Vec<f32>> =
            (0..24).map(|number| planted::rows_of(&atoms, planted::D, ROWS, recipe, number)).collect();
        let found = |kind: &str, n_latents: usize| {
            let spec = serde_json::json!({
                "kind": kind, "n_latents": n_latents, "k": 4, "dead_after_tokens": 20_000, "schedule": { "lr": 2e-3 },
            });
            let spec: LearnerSpec = serde_json::from_value(spec).unwrap();
            let threads = Threads::new(0).unwrap();
            let mut learner = spec.build(&Setup::plain(&planted::D, 2500, 1, &batches[0], threads)).unwrap();
            let last = planted::train(&mut *learner, &batches, 2500);
            let learned = learner.freeze(&Scales::of(1.0));
            let (mmcs, _) = planted::mmcs(&atoms, learned.atoms(), planted::D, true);
            (mmcs, last.squared_error / last.scatter)
        };
        let (signed, plain, twice) = (found("abstopk", N), found("topk", N), found("topk", 2 * N));
        println!("(MMCS, FVU): AbsTopK n {signed:?}, TopK n {plain:?}, TopK 2n {twice:?}");
        assert!(signed.0 > 0.98, "AbsTopK {signed:?}");
        assert!(plain.0 < signed.0 && plain.1 > 2.0 * signed.1, "TopK {plain:?}, AbsTopK {signed:?}");
        assert!(twice.1 < plain.1, "TopK with twice the latents {twice:?}");
    }
}
