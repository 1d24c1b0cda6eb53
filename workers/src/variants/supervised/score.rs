//! Logistic regression learned like atoms are: from additive sums of quadratics that lie above its loss.
//!
//! `−log p` has a second derivative of at most ¼ (Böhning & Lindsay 1988): about the present weights β,
//! with features F and slopes `g = σ(Fβ) − y`, it is at most `½·¼·βᵀFᵀFβ − βᵀ(¼·FᵀFβ₀ − Fᵀg)` and a
//! constant. `FᵀF` and the bracket are sums over rows; averaged over batches they are solved for β.

use crate::{
    kernels::{Path, lanes::LaneStarts},
    linear::{product, solve::Factor},
    surrogate::Decay,
};

/// `score = features·weights`; the label is 1 with probability `σ(score)`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Score {
    /// `[features]`.
    pub(super) weights: Vec<f64>,
    /// Average of `FᵀF`, `[features, features]`.
    pub(super) square: Vec<f64>,
    /// Average of `¼·FᵀFβ₀ − Fᵀg`, `[features]`.
    pub(super) linear: Vec<f64>,
}

/// Rows that have a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled<'a> {
    /// `[rows, features]`.
    pub(super) features: &'a [f64],
    /// 0 or 1, or a probability, `[rows]`.
    pub(super) labels: &'a [f64],
    /// First row of each lane.
    pub(super) lanes: LaneStarts<'a>,
}

impl Score {
    pub(super) fn zero(features: usize) -> Self {
        let square = vec![0.0; features * features];
        Score { weights: vec![0.0; features], square, linear: vec![0.0; features] }
    }

    /// Of each row.
    pub(super) fn of(&self, features: &[f64]) -> Vec<f64> {
        let dot = |row: &[f64]| row.iter().zip(&self.weights).map(|(f, w)| f * w).sum();
        features.chunks_exact(self.weights.len().max(1)).map(dot).collect()
    }

    /// Adds the rows and solves; `ridge` is the weight of `½‖weights‖²`. On one batch again and again,
    /// with nothing kept, the penalised loss does not rise.
    pub(super) fn learn(&mut self, path: Path, rows: &Labelled, decay: Decay, ridge: f64) {
        let n = self.weights.len();
        let slopes: Vec<f64> =
            self.of(rows.features).iter().zip(rows.labels).map(|(&s, y)| sigma(s) - y).collect();
        let square = product::cross(path, rows.lanes, (rows.features, n), (rows.features, n));
        let pull = product::cross(path, rows.lanes, (rows.features, n), (&slopes, 1));
        for (j, sum) in self.linear.iter_mut().enumerate() {
            let row = square[j * n..][..n].iter().zip(&self.weights);
            let curved: f64 = row.map(|(f, w)| f * w).sum();
            *sum = decay.old * *sum + decay.new * (0.25 * curved - pull[j]);
        }
        self.square.iter_mut().zip(square).for_each(|(sum, v)| *sum = decay.old * *sum + decay.new * v);
        let mut left: Vec<f64> = self.square.iter().map(|v| 0.25 * v).collect();
        (0..n).for_each(|j| left[j * n + j] += ridge);
        // Sums that are not finite have no factor: the weights stay.
        if let Some(factor) = Factor::of(path, &left, n) {
            self.weights = factor.solve(path, &self.linear, 1);
        }
    }
}

/// `1/(1 + e^−s)`.
pub(super) fn sigma(s: f64) -> f64 {
    1.0 / (1.0 + (-s).exp())
}

/// Mean of `−y·ln σ(s) − (1 − y)·ln(1 − σ(s))`; 0 without rows.
pub(super) fn cross_entropy(scores: &[f64], labels: &[f64]) -> f64 {
    let softplus = |v: f64| v.max(0.0) + (-v.abs()).exp().ln_1p();
    let of = |(&s, &y): (&f64, &f64)| y * softplus(-s) + (1.0 - y) * softplus(s);
    scores.iter().zip(labels).map(of).sum::<f64>() / labels.len().max(1) as f64
}
