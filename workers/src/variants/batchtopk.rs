//! BatchTopK: the `k·rows` largest pre-activations of a batch, so that a row takes as many as it needs.
//!
//! Bussmann et al. 2024; `bartbussmann/BatchTopK`, `saprmarks/dictionary_learning`
//! `trainers/batch_top_k.py`. At harvest a threshold takes the place of the batch, as in SAELens, which
//! saves it as a JumpReLU.

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{DictLearner, Dictionary, Mismatch, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::Parameters,
        spec::{k_of, sae_config},
        threshold::Threshold,
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "batchtopk"`.
    pub struct BatchTopK {
        /// Latents kept per row, on average over a batch.
        pub k: usize,
        /// Share of the run during which k falls linearly to its value from `k_start`.
        #[serde(default)]
        pub anneal_share: f64,
        /// Where k starts if it falls. Left out: 4·k.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub k_start: Option<usize>,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "batchtopk",
    family: "sparse autoencoder",
    summary: "keeps the k·rows largest pre-activations of a batch; a threshold at harvest",
    paper: "Bussmann et al. 2024, arXiv:2412.06410",
    columns: "",
    modes: &["anneal_share: k falls from k_start"],
    example: "jobs/specs/learners/batchtopk.toml",
    small: r#"{"kind": "batchtopk", "n_latents": 40, "k": 4, "dead_after_tokens": 200, "anneal_share": 0.5}"#,
};

impl LearnerConfig for BatchTopK {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let learner = Learner { config: self.clone(), threshold: Threshold::default() };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        let start = self.k_start.unwrap_or(self.k);
        let fine = start >= self.k && start <= self.n_latents;
        Invalid::unless(fine, "k_start", "must be between k and n_latents")?;
        Invalid::unless((0.0..=1.0).contains(&self.anneal_share), "anneal_share", "must be between 0 and 1")
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

/// The settings and what batches have kept.
#[derive(Debug)]
struct Learner {
    config: BatchTopK,
    threshold: Threshold,
}

impl Learner {
    /// k of a step.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between k and k_start")]
    fn k(&self, progress: f64) -> usize {
        let BatchTopK { k, anneal_share, k_start, n_latents, .. } = self.config;
        let left = if anneal_share > 0.0 { (1.0 - progress / anneal_share).max(0.0) } else { 0.0 };
        k + ((k_start.unwrap_or(4 * k).min(n_latents) - k) as f64 * left).round() as usize
    }
}

impl SaeVariant for Learner {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let k = self.k(loss.step.progress());
        let Selected { codes, values, threshold, .. } = loss.select(Selection::BatchTopK(k));
        self.threshold.observe(threshold.map(Real::f64));
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        let threshold = self.threshold.unscaled(scales.first());
        Box::new(FrozenSae::new(Inference::Above(vec![threshold]), folded))
    }

    fn save(&self, state: &mut LearnerState) {
        self.threshold.save(state);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        self.threshold = Threshold::read(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        planted::{self, ATOMS},
        skeleton::golden::{self, B, Case, D, F, close},
        threads::Threads,
    };

    fn learner(k: usize) -> Learner {
        let spec = serde_json::json!({ "n_latents": F, "k": k });
        Learner { config: serde_json::from_value(spec).unwrap(), threshold: Threshold::default() }
    }

    /// The golden loss is not divided by the variance.
    fn unscaled(mut outcome: golden::Outcome) -> golden::Outcome {
        let factor = outcome.losses.scatter / B as f64;
        outcome.losses.total *= factor;
        outcome.gradients.iter_mut().flatten().for_each(|v| *v *= factor);
        outcome
    }

    #[test]
    fn golden_numbers() {
        let (case, mut learner) = (Case::<f64>::default(), learner(3));
        let outcome = unscaled(case.run(&mut learner));
        golden::check(
            &outcome,
            8.055_068_946_1,
            &[
                (5.172_622_45, 0.149_292_29),
                (2.873_293_74, 0.773_146_46),
                (5.867_818_31, 0.259_615_35),
                (5.562_723_77, 1.176_984_73),
            ],
        );
        close(f64::from(learner.threshold.unscaled(1.0)), 0.386_688_16, 1e-7);
        assert_eq!(outcome.nnz, 15);
    }

    #[test]
    fn gradients_equal_central_differences() {
        let (case, mut learner) = (Case::<f64>::default(), learner(3));
        let outcome = case.run(&mut learner);
        golden::central_differences(&case, &outcome.gradients, &[], |c| c.run(&mut learner).losses.total);
        golden::paths_and_lanes(&Case::default(), &case, || Box::new(self::learner(3)));
    }

    #[test]
    fn a_batch_of_one_row_is_top_k() {
        for row in 0..B {
            let x = golden::rows::<f64>()[row * D..][..D].to_vec();
            let case = Case { x, lanes: vec![0, 1], ..Case::default() };
            let spec = serde_json::json!({ "n_latents": F, "k": 3 });
            let mut top_k: super::super::topk::TopK = serde_json::from_value(spec).unwrap();
            assert_eq!(case.run(&mut learner(3)), case.run(&mut top_k));
        }
    }

    /// The planted dictionary is found, and the threshold keeps as many pairs as the batches did.
    #[test]
    fn recovers_a_planted_dictionary_and_keeps_k_at_inference() {
        let (atoms, steps) = (planted::atoms(), 3000);
        let spec = serde_json::json!({
            "n_latents": ATOMS, "k": 4, "dead_after_tokens": 20_000, "schedule": { "lr": 2e-3 },
        });
        let spec: BatchTopK = serde_json::from_value(spec).unwrap();
        let (sample, threads) = (planted::batch(&atoms, 9999), Threads::new(0).unwrap());
        let mut learner = spec.build(&Setup::plain(&planted::D, steps as u64, 1, &sample, threads)).unwrap();
        planted::train(&mut *learner, &planted::batches(&atoms), steps);
        let dictionary = learner.freeze(&Scales::of(1.0));
        let (mmcs, _) = planted::mmcs(&atoms, dictionary.atoms(), planted::D, false);
        assert!(mmcs >= 0.99, "MMCS {mmcs}");
        let unseen = planted::batch(&atoms, 777);
        let l0 = dictionary.encode(&unseen).nnz() as f64 / planted::ROWS as f64;
        assert!((l0 / 4.0 - 1.0).abs() < 0.05, "L0 {l0}");
    }
}
