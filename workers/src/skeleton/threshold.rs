//! The threshold a batch-wide selection leaves behind: what a row is encoded with when it is alone.
//!
//! `saprmarks/dictionary_learning` and SAELens keep an exponential average of the smallest value that a
//! batch kept. This one is free of its start (weights sum to 1 from the first step on), and it forgets in
//! at most 1/20 of the run, so that short runs do not remember how they began.

use crate::{kernels::Real, learner::Mismatch, state::LearnerState};

/// Steps the average looks back, at most (`saprmarks/dictionary_learning`: 0.999).
const LONGEST: f64 = 1000.0;

/// An exponential average of thresholds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Threshold {
    /// `Σ weight·threshold`, and the sum of the weights.
    sums: [f64; 2],
}

impl Threshold {
    /// Takes the threshold of one batch of a run of `steps`; `None`: the batch had none.
    pub fn observe<R: Real>(&mut self, threshold: Option<R>, steps: u64) {
        let Some(threshold) = threshold.map(Real::f64).filter(|t| t.is_finite()) else { return };
        let rate = 1.0 / (steps as f64 / 20.0).clamp(1.0, LONGEST);
        let [sum, weight] = self.sums;
        self.sums = [sum + rate * (threshold - sum), weight + rate * (1.0 - weight)];
    }

    /// The average; 0 before there is one.
    pub fn value(&self) -> f64 {
        let [sum, weight] = self.sums;
        if weight > 0.0 { sum / weight } else { 0.0 }
    }

    /// The threshold in units of vectors that were multiplied by `scale`.
    #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
    pub fn unscaled(&self, scale: f32) -> f32 {
        (self.value() / f64::from(scale)) as f32
    }

    /// Adds it to a state.
    pub fn save(&self, state: &mut LearnerState) {
        state.push_u64("threshold", &self.sums.map(f64::to_bits));
    }

    /// What [`Threshold::save`] wrote.
    ///
    /// # Errors
    /// It is absent.
    pub fn read(state: &LearnerState) -> Result<Self, Mismatch> {
        let bits = state.u64("threshold", 2)?;
        Ok(Threshold { sums: [f64::from_bits(bits[0]), f64::from_bits(bits[1])] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_mean_that_forgets() {
        let mut threshold = Threshold::default();
        assert_eq!(threshold.value(), 0.0);
        for _ in 0..3 {
            threshold.observe(Some(0.5f32), 100);
            assert!((threshold.value() - 0.5).abs() < 1e-15, "a constant is its own mean");
        }
        threshold.observe::<f32>(None, 100);
        threshold.observe(Some(f32::NAN), 100);
        assert!((threshold.value() - 0.5).abs() < 1e-15);
        (0..60).for_each(|_| threshold.observe(Some(2.0f32), 100));
        assert!((threshold.value() - 2.0).abs() < 1e-4, "60 steps of 1/5 leave 1e-6 of the start");
        let mut state = LearnerState::default();
        threshold.save(&mut state);
        assert_eq!(Threshold::read(&state).unwrap(), threshold);
        assert!((threshold.unscaled(4.0) - 0.5).abs() < 1e-4);
    }
}
