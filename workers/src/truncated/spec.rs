//! Settings of truncated EM.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::prior::MOST_ACTIVE;
use crate::variants::Invalid;

/// `[learner.em]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmSpec {
    /// Latents of a row of which sets are weighed (H′).
    pub candidates: usize,
    /// The most latents of a row that are active together (γ), at most 6.
    pub active: usize,
    /// Share of the old sums that each step keeps; 0 learns from the batch alone.
    pub keep: f64,
    /// Log-probabilities are divided by this at the start: states that are far off count, too, and
    /// local optima matter less. 1 turns it off.
    pub temperature: f64,
    /// Noise added to the causes after each step, as a share of how far rows spread; falls to 0 with the
    /// temperature. Causes that are alike part, and those that settled too early move on.
    pub jitter: f64,
    /// Share of the steps over which the temperature falls to 1.
    pub anneal_share: f64,
    /// Subtract the mean of the calibration sample.
    pub centre: bool,
}

impl Default for EmSpec {
    fn default() -> Self {
        EmSpec {
            candidates: 8,
            active: 3,
            keep: 0.9,
            temperature: 2.0,
            jitter: 0.3,
            anneal_share: 0.5,
            centre: true,
        }
    }
}

impl EmSpec {
    /// Checks the fields.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self, n_latents: usize) -> Result<(), Invalid> {
        Invalid::unless(n_latents > 0 && n_latents <= 16_384, "n_latents", "must be between 1 and 16384")?;
        let fine = self.candidates > 0 && self.candidates <= n_latents.min(20);
        Invalid::unless(fine, "em.candidates", "must be between 1 and n_latents, and at most 20")?;
        let fine = self.active > 0 && self.active <= self.candidates.min(MOST_ACTIVE);
        Invalid::unless(fine, "em.active", "must be between 1 and em.candidates, and at most 6")?;
        Invalid::unless((0.0..1.0).contains(&self.keep), "em.keep", "must be at least 0 and below 1")?;
        let fine = self.temperature >= 1.0 && self.temperature.is_finite();
        Invalid::unless(fine, "em.temperature", "must be at least 1")?;
        let fine = self.jitter >= 0.0 && self.jitter.is_finite();
        Invalid::unless(fine, "em.jitter", "must be 0 or positive")?;
        let fine = (0.0..=1.0).contains(&self.anneal_share);
        Invalid::unless(fine, "em.anneal_share", "must be between 0 and 1")
    }

    /// How much of the annealing is left at step `step` (from 1) of `steps`: from 1 to 0.
    pub fn left(&self, step: u64, steps: u64) -> f64 {
        let length = self.anneal_share * steps as f64;
        if length > 0.0 { (1.0 - (step as f64 - 1.0) / length).max(0.0) } else { 0.0 }
    }

    /// `1/T` where `left` of the annealing is left.
    pub fn sharpness(&self, left: f64) -> f64 {
        1.0 / (1.0 + (self.temperature - 1.0) * left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_temperature_falls_to_one() {
        let spec = EmSpec { temperature: 5.0, anneal_share: 0.5, ..EmSpec::default() };
        let at = |step| spec.sharpness(spec.left(step, 10));
        assert_eq!((at(1), at(6), at(10)), (0.2, 1.0, 1.0));
        assert!(at(2) > at(1));
    }
}
