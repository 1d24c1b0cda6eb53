//! The learning rate as a function of the step, never of the clock.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::variants::Invalid;

/// Linear warm-up, constant, linear decay to zero.
///
/// The default rate is `2e-4 / √(n_latents / 2¹⁴)` (`saprmarks/dictionary_learning`, `trainers/top_k.py`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleSpec {
    /// Peak learning rate; left out, the rule above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Share of all steps spent warming up (at most 1000 steps).
    pub warmup_share: f64,
    /// Share of all steps spent decaying, at the end.
    pub decay_share: f64,
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        ScheduleSpec { lr: None, warmup_share: 0.05, decay_share: 0.2 }
    }
}

impl ScheduleSpec {
    /// Checks the ranges.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let lr = self.lr.unwrap_or(1.0);
        Invalid::unless(lr.is_finite() && lr > 0.0, "schedule.lr", "must be positive")?;
        let shares = self.warmup_share + self.decay_share;
        let fine = self.warmup_share >= 0.0 && self.decay_share >= 0.0 && shares <= 1.0;
        let reason = "warmup_share and decay_share must be positive and at most 1 together";
        Invalid::unless(fine, "schedule", reason)
    }
}

/// The schedule of one run.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    peak: f64,
    warmup: f64,
    decay: f64,
    steps: f64,
}

impl Schedule {
    /// For a dictionary of `n_latents` and a run of `steps`.
    pub fn new(spec: &ScheduleSpec, n_latents: usize, steps: u64) -> Self {
        let rule = 2e-4 / (n_latents as f64 / 16_384.0).sqrt();
        Schedule {
            peak: spec.lr.unwrap_or(rule),
            warmup: (spec.warmup_share * steps as f64).min(1000.0),
            decay: spec.decay_share * steps as f64,
            steps: steps as f64,
        }
    }

    /// Learning rate of step `t`, counted from 1.
    pub fn lr(&self, t: u64) -> f64 {
        let t = t as f64;
        let up = if self.warmup > 0.0 { (t / self.warmup).min(1.0) } else { 1.0 };
        let left = self.steps - t + 1.0;
        let down = if self.decay > 0.0 { (left / self.decay).clamp(0.0, 1.0) } else { 1.0 };
        self.peak * up.min(down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_stays_and_falls() {
        let s = Schedule::new(&ScheduleSpec { lr: Some(1.0), ..Default::default() }, 10, 100);
        assert_eq!((s.lr(1), s.lr(5), s.lr(50), s.lr(100)), (0.2, 1.0, 1.0, 0.05));
    }

    #[test]
    fn the_rule_is_2e_4_at_2_to_the_14() {
        let s = Schedule::new(&ScheduleSpec::default(), 16_384, 10);
        assert!((s.lr(5) - 2e-4).abs() < 1e-18);
    }
}
