//! Discrete: each row becomes one integer, its strongest latent; which integers occur with which label says
//! which head of a model does the work.
//!
//! O'Neill & Bui 2024. It learns as ReLU with L1 (form "2023") from the outputs of all heads, one row per
//! head and example; once frozen, the code of a row is `argmax f`, none if no latent is positive. The tables
//! of a run hold how often each integer occurs. The comparison by label, [`Contrast`], is of a head: counts
//! that add up over shards. How the paper normalises its overlaps is not known here; this is the total
//! variation between the integers of positive and of negative examples.

use super::{Invalid, LearnerConfig, LearnerInfo, relu};
use crate::{
    codes::Codes,
    kernels::Real,
    learner::{DictLearner, Dictionary, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::Loss,
        parameters::Parameters,
        spec::{positive, sae_config, share},
    },
};

sae_config! {
    /// `[learner] kind = "discrete"`.
    pub struct Discrete {
        /// λ, what an activation of 1 costs, for vectors of mean squared norm 1.
        pub l1_coefficient: f64,
        /// λ grows from 0 during this share of the steps.
        #[serde(default = "crate::skeleton::spec::sparsity_warmup_share")]
        pub sparsity_warmup_share: f64,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "discrete",
    family: "sparse autoencoder",
    summary: "one integer per row, its strongest latent; tells heads apart by label",
    paper: "O'Neill & Bui 2024, arXiv:2405.12522",
    columns: "",
    modes: &[],
    example: "jobs/specs/learners/discrete.toml",
    small: r#"{"kind": "discrete", "n_latents": 40, "l1_coefficient": 0.05, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Discrete {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        positive("l1_coefficient", self.l1_coefficient)?;
        share("sparsity_warmup_share", self.sparsity_warmup_share)
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    /// Of the frozen dictionary.
    fn k(&self) -> Option<usize> {
        Some(1)
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

impl SaeVariant for Discrete {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let weight = loss.step.warmed(self.l1_coefficient, self.sparsity_warmup_share);
        relu::forward(loss, aux, |loss, part| {
            loss.penalise(part, weight, |_, value| (value, R::ONE));
        });
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(1), folded))
    }
}

/// How often each integer occurs with either label. Counts of shards add up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contrast {
    /// Negative and positive rows of each integer; the last is that of rows without one.
    pub counts: Vec<[u64; 2]>,
}

impl Contrast {
    /// Nothing is counted yet.
    pub fn new(n_latents: usize) -> Self {
        Contrast { counts: vec![[0; 2]; n_latents + 1] }
    }

    /// Counts the rows of one head; `labels[row]` is 1 for a positive example, 0 for a negative one and
    /// anything else for a row that does not count.
    pub fn add(&mut self, codes: &Codes, labels: &[f32]) {
        let none = self.counts.len() - 1;
        for (row, &label) in (0..codes.rows()).zip(labels) {
            let integer = codes.row(row).0.first().map_or(none, |&latent| latent as usize);
            if (label == 0.0 || label == 1.0) && integer <= none {
                self.counts[integer][usize::from(label == 1.0)] += 1;
            }
        }
    }

    /// Counts of another shard.
    pub fn merge(&mut self, other: &Contrast) {
        for (ours, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *ours = [ours[0] + theirs[0], ours[1] + theirs[1]];
        }
    }

    /// `½Σ|share among positives − share among negatives|`: 1 if no integer occurs with both labels, 0 if
    /// all occur as often with either. 0 while a label is missing.
    pub fn score(&self) -> f64 {
        let of = |label: usize| self.counts.iter().map(|count| count[label]).sum::<u64>() as f64;
        let (negative, positive) = (of(0), of(1));
        if negative == 0.0 || positive == 0.0 {
            return 0.0;
        }
        let gap = |count: &[u64; 2]| (count[1] as f64 / positive - count[0] as f64 / negative).abs();
        self.counts.iter().map(gap).sum::<f64>() / 2.0
    }
}

#[cfg(test)]
mod tests;
