//! What a label asks of atoms and codes, as quadratics that lie above its loss.

use crate::surrogate::Statistics;

/// Rounds of the power iteration, and what it is taken to be too low by.
const POWER_ROUNDS: usize = 16;
const MARGIN: f64 = 1.1;

/// For the filter form: the mean loss at atoms `W` is at most
/// `½·curvature·‖W − W₀‖² + Σ_hj weights_hj·⟨mean_h, W_j − W₀_j⟩` and a constant, over the scores h.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pull {
    /// Mean of `slope·x` of each score, `[heads, d]`.
    pub(super) mean: Vec<f64>,
    /// What each score makes of each filter, `[heads, n_latents]`.
    pub(super) weights: Vec<f64>,
    pub(super) curvature: f64,
}

impl Pull {
    /// Of labelled rows `x`, `[rows, d]`, with `slopes`, `[rows, heads]`, of scores whose loss curves by at
    /// most `bound`.
    pub(super) fn of(
        x: &[f32],
        slopes: &[f64],
        (d, heads): (usize, usize),
        weights: Vec<f64>,
        bound: f64,
    ) -> Pull {
        let rows = (slopes.len() / heads).max(1) as f64;
        let mut mean = vec![0f64; heads * d];
        for (row, slopes) in x.chunks_exact(d).zip(slopes.chunks_exact(heads)) {
            for (mean, slope) in mean.chunks_exact_mut(d).zip(slopes) {
                mean.iter_mut().zip(row).for_each(|(m, &x)| *m += slope * f64::from(x) / rows);
            }
        }
        let square = together(&weights, heads);
        Pull { mean, curvature: bound * square * MARGIN * largest(x, d) / rows, weights }
    }

    /// The sums that a sweep is to minimise, so that it minimises
    /// `reconstruction·(½ tr(WWᵀA) − tr(WᵀB)) + label·(the quadratic)`.
    #[allow(clippy::cast_possible_truncation, reason = "atoms are f32")]
    pub(super) fn joined(
        &self,
        sums: &Statistics<f32>,
        atoms: &[f32],
        (reconstruction, label): (f64, f64),
    ) -> Statistics<f32> {
        let (mut joined, n, d) = (sums.clone(), sums.n_latents(), sums.d);
        let all = joined.a.iter_mut().chain(&mut joined.b);
        all.for_each(|v| *v *= reconstruction as f32);
        for j in 0..n {
            joined.a[j * n + j] += (label * self.curvature) as f32;
            let asked = |c: usize| {
                let heads = self.weights.chunks_exact(n).zip(self.mean.chunks_exact(d));
                heads.map(|(weights, mean)| weights[j] * mean[c]).sum::<f64>()
            };
            let atom = atoms[j * d..][..d].iter().enumerate();
            for (b, (c, &w)) in joined.b[j * d..][..d].iter_mut().zip(atom) {
                *b += (label * (self.curvature * f64::from(w) - asked(c))) as f32;
            }
        }
        joined
    }
}

/// The largest eigenvalue of `Σ xᵀx`.
fn largest(x: &[f32], d: usize) -> f64 {
    let mut v: Vec<f64> = (0..d).map(|i| 1.0 + 0.5 * (i as f64 * 0.7).sin()).collect();
    let mut value = 0.0;
    for _ in 0..POWER_ROUNDS {
        let norm = v.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        v.iter_mut().for_each(|v| *v /= norm);
        let mut next = vec![0f64; d];
        for row in x.chunks_exact(d) {
            let along: f64 = row.iter().zip(&v).map(|(&x, v)| f64::from(x) * v).sum();
            next.iter_mut().zip(row).for_each(|(n, &x)| *n += along * f64::from(x));
        }
        v = next;
        value = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    }
    value
}

/// The largest eigenvalue of `Σ_h weights_hᵀ·weights_h`, or something above it.
#[allow(clippy::cast_possible_truncation, reason = "with a margin")]
fn together(weights: &[f64], heads: usize) -> f64 {
    let square: f64 = weights.iter().map(|w| w * w).sum();
    if heads == 1 {
        return square;
    }
    let rows: Vec<f32> = weights.iter().map(|&w| w as f32).collect();
    square.min(MARGIN * largest(&rows, weights.len() / heads))
}

/// For the feature form: what the codes' part of a score is drawn to. The loss of a label is at most
/// `½·bound·(score − (score₀ − slope/bound))²` and a constant; `rest` is the part of the score that is not
/// codes.
pub(super) fn aim(score: f64, slope: f64, rest: f64, bound: f64) -> f64 {
    score - slope / bound - rest
}
