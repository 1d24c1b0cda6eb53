//! How complex the context of a row is, as a linear probe reads it, and what k follows.

use rayon::prelude::*;

use crate::{
    kernels::{Path, Real, vector},
    linear::ridge::Ridge,
};

/// Reads the complexity off a row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Probe {
    pub(super) weights: Vec<f64>,
    pub(super) intercept: f64,
    /// Of the ridge regression, per row: it minimised the mean of `(s − y)²` and this times `‖weights‖²`.
    pub(super) penalty: f64,
}

impl Probe {
    /// From the rows whose label is a number; `None` if there are none.
    pub(super) fn fit(x: &[f32], d: usize, labels: &[f32]) -> Option<Probe> {
        let known = |(row, &label): (&[f32], &f32)| {
            let finite = label.is_finite() && row.iter().all(|v| v.is_finite());
            finite.then(|| (row.to_vec(), label))
        };
        let (rows, labels): (Vec<Vec<f32>>, Vec<f32>) =
            x.chunks_exact(d).zip(labels).filter_map(known).unzip();
        let Ridge { weights, intercept, penalty } = Ridge::fit(Path::best(), &rows.concat(), d, &labels)?;
        Some(Probe { weights, intercept, penalty: penalty / labels.len() as f64 })
    }

    /// Before anything was read.
    pub(super) fn unknown(d: usize) -> Probe {
        Probe { weights: vec![0.0; d], intercept: 0.0, penalty: 0.0 }
    }

    /// The probe of a complexity from 0 to 10, given one of 0 to `most`.
    pub(super) fn of_ten(mut self, most: f64) -> Probe {
        vector::scale(10.0 / most, &mut self.weights);
        self.intercept *= 10.0 / most;
        self
    }

    /// The probe for rows that are `1/scale` as large.
    pub(super) fn unscaled(&self, scale: f32) -> Probe {
        let weights = self.weights.iter().map(|w| w * f64::from(scale)).collect();
        Probe { weights, ..*self }
    }

    /// The complexity of a row.
    pub(super) fn read<R: Real>(&self, row: &[R]) -> f64 {
        let products = row.iter().zip(&self.weights).map(|(&x, w)| x.f64() * w);
        products.sum::<f64>() + self.intercept
    }

    /// Latents of each row. Runs on the current rayon pool.
    pub(super) fn latents<R: Real>(&self, x: &[R], (k_min, k_max): (usize, usize)) -> Vec<usize> {
        let of = |row: &[R]| latents_of(self.read(row), k_min, k_max);
        x.par_chunks(self.weights.len()).with_min_len(64).map(of).collect()
    }
}

/// `round(k_min + σ(6(s/10 − ½))·(k_max − k_min))`; `k_min` if the complexity is not a number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between k_min and k_max")]
pub(super) fn latents_of(complexity: f64, k_min: usize, k_max: usize) -> usize {
    let share = 1.0 / (1.0 + (-6.0 * (complexity / 10.0 - 0.5)).exp());
    k_min + (share * (k_max - k_min) as f64).round() as usize
}
