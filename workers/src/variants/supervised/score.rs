//! Logistic regression learned like atoms are: from additive sums of quadratics that lie above its loss.
//!
//! `−log p` of two classes has a second derivative of at most ¼ in the score, of more classes at most
//! `½·(I − 11ᵀ/C)`, so ½, in the scores (Böhning & Lindsay 1988; Böhning 1992). With that bound c: about the
//! present weights β, with features F and slopes `g = p − y`, the loss is at most
//! `½·c·βᵀFᵀFβ − βᵀ(c·FᵀFβ₀ − Fᵀg)` and a constant, class by class. `FᵀF` and the bracket are sums over
//! rows; averaged over batches they are solved for β.

use crate::{
    kernels::{Path, lanes::LaneStarts},
    linear::{product, solve::Factor},
    surrogate::Decay,
};

/// `score = features·weights`, one for two classes (the label is 1 with probability `σ(score)`), else one
/// per class (a class has the probability `softmax(scores)`).
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Score {
    /// Scores per row: 1, or the number of classes.
    pub(super) heads: usize,
    /// `[heads, features]`.
    pub(super) weights: Vec<f64>,
    /// Average of `FᵀF`, `[features, features]`.
    pub(super) square: Vec<f64>,
    /// Average of `c·FᵀFβ₀ − Fᵀg`, `[heads, features]`.
    pub(super) linear: Vec<f64>,
}

/// Rows that have a label.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled<'a> {
    /// `[rows, features]`.
    pub(super) features: &'a [f64],
    /// 0 or 1 (or a probability), or the number of a class, `[rows]`.
    pub(super) labels: &'a [f64],
    /// First row of each lane.
    pub(super) lanes: LaneStarts<'a>,
}

impl Score {
    pub(super) fn zero(features: usize, classes: usize) -> Self {
        let heads = if classes > 2 { classes } else { 1 };
        let (square, zeros) = (vec![0.0; features * features], vec![0.0; heads * features]);
        Score { heads, weights: zeros.clone(), square, linear: zeros }
    }

    /// Number of features.
    pub(super) fn features(&self) -> usize {
        self.weights.len() / self.heads
    }

    /// Largest second derivative of the loss in a score.
    pub(super) fn curvature(&self) -> f64 {
        if self.heads > 1 { 0.5 } else { 0.25 }
    }

    /// Whether a number is the label of a row.
    pub(super) fn knows(&self, label: f64) -> bool {
        label.fract() == 0.0 && label >= 0.0 && label < self.heads.max(2) as f64
    }

    /// Of each row, `[rows, heads]`.
    pub(super) fn of(&self, features: &[f64]) -> Vec<f64> {
        let n = self.features().max(1);
        let dot = |row: &[f64], of: &[f64]| row.iter().zip(of).map(|(f, w)| f * w).sum();
        let heads = |row| self.weights.chunks_exact(n).map(move |of| dot(row, of));
        features.chunks_exact(n).flat_map(heads).collect()
    }

    /// `∂loss/∂score` of each row, `[rows, heads]`.
    pub(super) fn slopes(&self, scores: &[f64], labels: &[f64]) -> Vec<f64> {
        if self.heads == 1 {
            return scores.iter().zip(labels).map(|(&s, y)| sigma(s) - y).collect();
        }
        let of = |(scores, &label): (&[f64], &f64)| {
            let total = log_sum(scores);
            let is = move |class: usize| if class as f64 == label { 1.0 } else { 0.0 };
            scores.iter().enumerate().map(move |(class, s)| (s - total).exp() - is(class)).collect::<Vec<_>>()
        };
        scores.chunks_exact(self.heads).zip(labels).flat_map(of).collect()
    }

    /// Mean of the loss of scores, `[rows, heads]`; 0 without rows.
    pub(super) fn cross_entropy(&self, scores: &[f64], labels: &[f64]) -> f64 {
        if self.heads == 1 {
            return cross_entropy(scores, labels);
        }
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a class")]
        let of = |(scores, &label): (&[f64], &f64)| log_sum(scores) - scores[label as usize];
        scores.chunks_exact(self.heads).zip(labels).map(of).sum::<f64>() / labels.len().max(1) as f64
    }

    /// Adds the rows and solves; `ridge` is the weight of `½‖weights‖²`. On one batch again and again,
    /// with nothing kept, the penalised loss does not rise.
    pub(super) fn learn(&mut self, path: Path, rows: &Labelled, decay: Decay, ridge: f64) {
        let (n, heads, bound) = (self.features(), self.heads, self.curvature());
        let slopes = self.slopes(&self.of(rows.features), rows.labels);
        let square = product::cross(path, rows.lanes, (rows.features, n), (rows.features, n));
        let pull = product::cross(path, rows.lanes, (rows.features, n), (&slopes, heads));
        for (at, sum) in self.linear.iter_mut().enumerate() {
            let (head, j) = (at / n, at % n);
            let row = square[j * n..][..n].iter().zip(&self.weights[head * n..]);
            let curved: f64 = row.map(|(f, w)| f * w).sum();
            *sum = decay.old * *sum + decay.new * (bound * curved - pull[j * heads + head]);
        }
        self.square.iter_mut().zip(square).for_each(|(sum, v)| *sum = decay.old * *sum + decay.new * v);
        let mut left: Vec<f64> = self.square.iter().map(|v| bound * v).collect();
        (0..n).for_each(|j| left[j * n + j] += ridge);
        // Sums that are not finite have no factor: the weights stay.
        if let Some(factor) = Factor::of(path, &left, n) {
            let solved = factor.solve(path, &product::transpose(&self.linear, n), heads);
            self.weights = product::transpose(&solved, heads);
        }
    }
}

/// `ln Σ eˢ`.
fn log_sum(scores: &[f64]) -> f64 {
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + scores.iter().map(|s| (s - most).exp()).sum::<f64>().ln()
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
