//! Matryoshka SAE: every prefix of the latents has to reconstruct alone, so that the first ones stay
//! general and later ones do not absorb them. Codes are BatchTopK, chosen once over all latents.
//!
//! Bussmann et al. 2025 (`bartbussmann/matryoshka_sae`, SAELens `matryoshka_batchtopk_sae.py`); sampled
//! prefixes: `noanabeshima/matryoshka-saes`. Weights are applied once: `saprmarks/dictionary_learning`
//! multiplies by weights 1/G and averages over the groups as well.

use std::borrow::Cow;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{DictLearner, Dictionary, Mismatch, Scales, Setup},
    random::{hash, unit},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::Parameters,
        spec::{k_of, positive, sae_config},
        threshold::Threshold,
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "matryoshka"`.
    pub struct Matryoshka {
        /// Latents kept per row, on average over the batch.
        pub k: usize,
        /// Ends of the prefixes, ascending up to n_latents. Left out: 1/16, 1/8, 1/4, 1/2 and all of them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub prefixes: Vec<usize>,
        /// What the error of each prefix weighs. Left out: all the same. The sum is divided by their number.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub weights: Vec<f64>,
        /// So many prefixes are drawn anew at every step, short ones more often, besides the whole; 0: the
        /// prefixes are fixed.
        #[serde(default)]
        pub sampled_prefixes: usize,
        /// Exponent of the truncated Pareto distribution that prefixes are drawn from.
        #[serde(default = "pareto_power")]
        pub pareto_power: f64,
    }
}

fn pareto_power() -> f64 {
    0.5
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "matryoshka",
    family: "sparse autoencoder",
    summary: "nested dictionaries: every prefix of the latents reconstructs alone, which lowers absorption",
    paper: "Bussmann et al. 2025, arXiv:2503.17547; https://github.com/noanabeshima/matryoshka-saes",
    columns: "",
    modes: &["prefixes: fixed", "sampled_prefixes: drawn at every step"],
    example: "jobs/specs/learners/matryoshka.toml",
    small: r#"{"kind": "matryoshka", "n_latents": 40, "k": 4, "dead_after_tokens": 200, "sampled_prefixes": 3}"#,
};

/// The default prefixes are these parts of the latents.
const PARTS: [usize; 5] = [16, 8, 4, 2, 1];
/// Stream of the random prefixes.
const PREFIXES: u64 = 0x5052_4546_4958;

impl LearnerConfig for Matryoshka {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(Nest::of(self, setup.seed), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        let ends = self.fixed();
        let ascend = ends.is_sorted_by(|a, b| a < b) && ends[0] > 0 && ends.ends_with(&[self.n_latents]);
        Invalid::unless(ascend, "prefixes", "must be positive and ascend up to n_latents")?;
        self.weights.iter().try_for_each(|&weight| positive("weights", weight))?;
        let fits = self.weights.is_empty()
            || self.sampled_prefixes == 0
                && self.weights.len() == ends.len()
                && self.weights.last().is_some_and(|&last| last > 0.0);
        Invalid::unless(fits, "weights", "must be one per fixed prefix, the last of them above 0")?;
        let few = self.sampled_prefixes < self.n_latents;
        Invalid::unless(few, "sampled_prefixes", "must be fewer than n_latents")?;
        let power = self.pareto_power;
        Invalid::unless(power.is_finite() && power > 0.0, "pareto_power", "must be positive")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }

    fn residuals(&self) -> usize {
        let drawn = self.sampled_prefixes + 1;
        1 + if self.sampled_prefixes > 0 { drawn } else { self.fixed().len() }
    }
}

impl Matryoshka {
    /// Where the prefixes end that are not drawn; never empty.
    fn fixed(&self) -> Cow<'_, [usize]> {
        if !self.prefixes.is_empty() {
            return Cow::Borrowed(&self.prefixes);
        }
        let mut ends: Vec<usize> = PARTS.iter().map(|part| (self.n_latents / part).max(1)).collect();
        ends.dedup();
        Cow::Owned(ends)
    }
}

/// What it remembers from step to step.
#[derive(Debug)]
struct Nest {
    config: Matryoshka,
    seed: u64,
    threshold: Threshold,
}

impl Nest {
    fn of(config: &Matryoshka, seed: u64) -> Self {
        Nest { config: config.clone(), seed, threshold: Threshold::default() }
    }

    /// Where the prefixes of step `number` end.
    fn ends(&self, number: u64) -> Cow<'_, [usize]> {
        let (config, n) = (&self.config, self.config.n_latents);
        if config.sampled_prefixes == 0 {
            return config.fixed();
        }
        let draw = |i: u64| pareto(unit(hash(&[self.seed, PREFIXES, number, i])), n, config.pareto_power);
        let mut ends = vec![n];
        // Tries are bounded: a distribution so steep that prefixes repeat gives fewer of them.
        for end in (0..64 * config.sampled_prefixes as u64).map(draw) {
            if ends.len() <= config.sampled_prefixes && !ends.contains(&end) {
                ends.push(end);
            }
        }
        ends.sort_unstable();
        Cow::Owned(ends)
    }
}

/// A length from 1 to `n − 1` with `P(length > l)` falling like `l^−power`, given a uniform number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and n")]
fn pareto(u: f64, n: usize, power: f64) -> usize {
    let rest = 1.0 - u * (1.0 - (n as f64).powf(-power));
    (rest.powf(-1.0 / power) as usize).clamp(1, n.max(2) - 1)
}

impl SaeVariant for Nest {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, threshold, .. } = loss.select(Selection::BatchTopK(self.config.k));
        self.threshold.observe(threshold.map(Real::f64));
        let ends = self.ends(loss.step.number);
        let weights = if self.config.weights.is_empty() {
            Cow::Owned(vec![1.0; ends.len()])
        } else {
            Cow::Borrowed(&self.config.weights[..])
        };
        let scale = loss.scale(Unit::Variance) / ends.len() as f64;
        let (main, suffixes) = loss.reconstruct_nested((codes, values), &ends, &weights, scale);
        aux.add(loss, &main);
        loss.push_nested(main, suffixes, &ends);
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
mod tests;
