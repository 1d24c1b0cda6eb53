//! AuxK: dead latents explain what the others left, so that they come back to life.
//!
//! Gao et al. 2024, §A.2. Over the dead latents alone, and only while there are some.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::objective::{Loss, Part};
use crate::kernels::{Real, encode::Selected, vector};

/// How strongly dead latents are taught.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AuxK {
    /// Weight of the auxiliary loss, 1/32 in the paper; 0 turns it off.
    pub coefficient: f64,
    /// Dead latents that may explain the residual, per row.
    pub k: usize,
}

impl AuxK {
    /// No auxiliary loss.
    pub const OFF: AuxK = AuxK { coefficient: 0.0, k: 0 };

    /// The power of two nearest `d_in / 2` (Gao et al. 2024, §A.2), the lower one in a tie.
    pub fn rule(d_in: usize) -> usize {
        let half = (d_in / 2).max(1);
        let below = 1usize << half.ilog2();
        if half - below <= 2 * below - half { below } else { 2 * below }
    }

    /// Adds `coefficient·few·Σ‖e − ê‖² / Σ‖e − ē‖²`: e the detached residual of `main`, ê what the dead
    /// latents decode to without `b_dec`, `few = min(n_dead / k, 1)` (sparsify, SAELens). Nothing while
    /// there is nothing to explain or nobody to do it.
    pub fn add<R: Real>(&self, loss: &mut Loss<R>, main: &Part<R>) {
        let step = loss.step;
        let scatter = main.moments.scatter(step.rows());
        let idle = step.dead.is_empty() || self.k == 0 || self.coefficient == 0.0;
        if idle || scatter <= 0.0 || !scatter.is_finite() {
            return;
        }
        let Selected { codes, mut values, .. } = loss.select_dead();
        let left = loss.residual_of_dead(&main.e, &codes, &values);
        let few = (step.dead.len() as f64 / self.k as f64).min(1.0);
        let rate = R::of(-2.0 * self.coefficient * few / scatter);
        let mut slope = left.along_atoms;
        vector::scale(rate, &mut slope);
        vector::scale(rate, &mut values);
        loss.add_aux(self.coefficient, few * left.moments.squared_norm / scatter);
        loss.push_dead(codes, values, slope, left.e);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_aux_is_the_power_of_two_nearest_half_the_width() {
        assert_eq!([576, 384, 768, 4096, 1].map(AuxK::rule), [256, 128, 256, 2048, 1]);
    }
}
