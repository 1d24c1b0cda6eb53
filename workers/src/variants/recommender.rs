//! Prediction-aware SAE of a recommender: users and items are rows of one SAE, which also has to keep what
//! the recommender makes of them, `φ = σ(⟨user, item⟩)`.
//!
//! *Extracting Interaction-Aware Monosemantic Concepts in Recommender Systems*, `DeltaLabTLV/Monosemanticity4Rec`.
//! `2·‖e‖²/variance + 10·BCE(φ(û, î), φ(u, i))`. A row of the table is a user and an item: two rows for the
//! SAE. φ is the scorer of matrix factorisation; a neural one would have to run here. Differences: codes are
//! TopK (the source is sparse by a KL term), and the encoder is free after a tied start. `RecSAE` is kind
//! `topk` with k = 32 and `n_latents` = 32·d (its code flips the sign of AuxK's target; ours does not).

mod frozen;
mod sides;

use rayon::prelude::*;

use self::{frozen::PairDictionary, sides::TwoSided};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
        vector,
    },
    learner::{Columns, DictLearner, Dictionary, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Part, Unit},
        parameters::Parameters,
        spec::{k_of, positive, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "recommender"`. Latents are counted for one side: the dictionary has each of them
    /// twice, for users and then for items.
    pub struct Recommender {
        /// Latents kept per vector.
        pub k: usize,
        /// Column of users' vectors.
        #[serde(default = "user")]
        pub user: String,
        /// Column of items' vectors, as wide.
        #[serde(default = "item")]
        pub item: String,
        /// Weight of the reconstruction.
        #[serde(default = "reconstruction_weight")]
        pub reconstruction_weight: f64,
        /// Weight of the cross-entropy of predictions; 0 leaves it out. The reference code has 10; on planted
        /// embeddings predictions are kept best at 0.1 to 1, and worse than without the term from 3 on.
        #[serde(default = "prediction_weight")]
        pub prediction_weight: f64,
    }
}

fn user() -> String {
    "user".to_owned()
}

fn item() -> String {
    "item".to_owned()
}

fn reconstruction_weight() -> f64 {
    2.0
}

fn prediction_weight() -> f64 {
    1.0
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "recommender",
    family: "sparse autoencoder",
    summary: "users and items in one dictionary that keeps the predictions of a dot-product recommender",
    paper: "https://github.com/DeltaLabTLV/Monosemanticity4Rec",
    columns: "user and item: vectors of one width",
    modes: &[],
    example: "jobs/specs/learners/recommender.toml",
    small: r#"{"kind": "recommender", "n_latents": 24, "k": 3, "dead_after_tokens": 400}"#,
};

/// Users and their items that one task scores.
const BLOCK_PAIRS: usize = 64;

impl LearnerConfig for Recommender {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let scales = match (setup.input_widths, &setup.scales.inputs[..]) {
            (&[user, item], &[of_user, of_item]) if user == item => [of_user, of_item],
            _ => return Err(Invalid { field: "user", reason: "must be as wide as learner.item" }),
        };
        let d = setup.d_in / 2;
        let one = Setup { d_in: d, input_widths: &setup.input_widths[..1], ..setup.clone() };
        let inner = Sae::new(Scorer { config: self.clone(), scales }, &self.sae(), &one);
        Ok(Box::new(TwoSided::new(inner, setup.threads.clone())))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in / 2)?;
        k_of(self.k, self.n_latents)?;
        positive("prediction_weight", self.prediction_weight)?;
        let weight = self.reconstruction_weight;
        let positive = weight.is_finite() && weight > 0.0;
        Invalid::unless(positive, "reconstruction_weight", "must be positive")
    }

    fn n_latents(&self) -> usize {
        2 * self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(2 * self.k)
    }

    fn columns(&self) -> Columns {
        Columns { inputs: vec![self.user.clone(), self.item.clone()], beside: Vec::new() }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }

    fn residuals(&self) -> usize {
        3
    }
}

/// The SAE of single vectors, users and items in turn.
#[derive(Debug)]
struct Scorer {
    config: Recommender,
    /// What users and items were multiplied by.
    scales: [f32; 2],
}

impl Scorer {
    /// `weight/pairs · Σ BCE(σ(⟨û, î⟩), σ(⟨u, i⟩))`, in the units of the data, and its gradient with respect
    /// to û and î, `[rows, d]`.
    fn prediction<R: Real>(&self, x: &[R], e: &[R], d: usize) -> (f64, Vec<R>) {
        let [of_user, of_item] = self.scales.map(f64::from);
        let (unit, weight) = (1.0 / (of_user * of_item), self.config.prediction_weight);
        let weight = weight / (x.len() / d / 2).max(1) as f64;
        let mut gradient = vec![R::ZERO; x.len()];
        let of_block = |((x, e), gradient): ((&[R], &[R]), &mut [R])| {
            let (mut hat, mut cost) = (vec![R::ZERO; 2 * d], 0f64);
            let pairs = x.chunks_exact(2 * d).zip(e.chunks_exact(2 * d));
            for ((x, e), gradient) in pairs.zip(gradient.chunks_exact_mut(2 * d)) {
                hat.iter_mut().zip(x.iter().zip(e)).for_each(|(hat, (&x, &e))| *hat = x - e);
                let [wanted, logit] =
                    [x, &hat[..]].map(|pair| unit * vector::dot(&pair[..d], &pair[d..]).f64());
                let share = sigmoid(wanted);
                cost += cross_entropy(logit, share);
                let slope = R::of(weight * unit * (sigmoid(logit) - share));
                let (to_user, to_item) = gradient.split_at_mut(d);
                vector::axpy(slope, &hat[d..], to_user);
                vector::axpy(slope, &hat[..d], to_item);
            }
            cost
        };
        let block = 2 * d * BLOCK_PAIRS;
        let pairs = x.par_chunks(block).zip(e.par_chunks(block)).zip(gradient.par_chunks_mut(block));
        let costs: Vec<f64> = pairs.map(of_block).collect();
        (weight * costs.iter().sum::<f64>(), gradient)
    }

    fn predict<R: Real>(&self, loss: &mut Loss<R>, part: &mut Part<R>) {
        let (cost, gradient) = self.prediction(loss.step.x, &loss.here(&part.e), loss.step.parameters.d_in);
        loss.add(cost);
        loss.pull_decoded(part, &gradient);
    }
}

/// `−share·ln σ(logit) − (1 − share)·ln(1 − σ(logit))`, without overflow.
fn cross_entropy(logit: f64, share: f64) -> f64 {
    logit.max(0.0) + (-logit.abs()).exp().ln_1p() - share * logit
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl SaeVariant for Scorer {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.config.k));
        let scale = self.config.reconstruction_weight * loss.scale(Unit::Variance);
        let mut main = loss.reconstruct(codes, values, scale);
        aux.add(loss, &main);
        if self.config.prediction_weight > 0.0 {
            self.predict(loss, &mut main);
        }
        loss.push(main);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(self.config.k), folded))
    }
}

#[cfg(test)]
mod tests;
