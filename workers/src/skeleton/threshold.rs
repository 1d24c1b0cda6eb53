//! The threshold of inference, for learners that select over a batch: what a batch kept at least.
//!
//! saprmarks takes an average with β = .999 from step 1000, SAELens one with rate .01. Both say little
//! about a run of a hundred steps: here the rate begins at 1 and falls to .01, so that the average
//! always covers about the last quarter of the steps until then.

use crate::{learner::Mismatch, state::LearnerState};

/// Rate that the average ends with (SAELens `batchtopk_sae.py`).
const RATE: f64 = 0.01;

/// A moving average of the smallest value that each batch kept.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Threshold {
    value: f64,
    batches: u64,
}

impl Threshold {
    /// One more batch; `None` if it kept nothing.
    pub fn observe(&mut self, smallest: Option<f64>) {
        if let Some(smallest) = smallest {
            let rate = (4.0 / (self.batches as f64 + 4.0)).max(RATE);
            self.value += rate * (smallest - self.value);
            self.batches += 1;
        }
    }

    /// The threshold, for vectors that were multiplied by `scale`.
    #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
    pub fn unscaled(&self, scale: f32) -> f32 {
        self.value as f32 / scale
    }

    /// Adds it to a state.
    pub fn save(&self, state: &mut LearnerState) {
        state.push_u64("threshold", &[self.value.to_bits(), self.batches]);
    }

    /// What [`Threshold::save`] wrote.
    ///
    /// # Errors
    /// There is none.
    pub fn read(state: &LearnerState) -> Result<Self, Mismatch> {
        let words = state.u64("threshold", 2)?;
        Ok(Threshold { value: f64::from_bits(words[0]), batches: words[1] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_batches_and_survives_a_checkpoint() {
        let mut threshold = Threshold::default();
        threshold.observe(None);
        (0..1000).for_each(|_| threshold.observe(Some(3.0)));
        assert!((threshold.unscaled(2.0) - 1.5).abs() < 1e-6);
        (0..1000).for_each(|_| threshold.observe(Some(1.0)));
        assert!((threshold.unscaled(1.0) - 1.0).abs() < 1e-3, "the old value is forgotten");
        let mut state = LearnerState::default();
        threshold.save(&mut state);
        assert_eq!(Threshold::read(&state).unwrap(), threshold);
    }
}
