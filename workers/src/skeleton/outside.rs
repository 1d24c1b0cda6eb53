//! A loss that somebody else computes: whoever holds the model says how reconstructions should change.

use std::{fmt::Debug, sync::Arc};

/// Reconstructions of one step, in the units of the data.
#[derive(Debug, Clone, Copy)]
pub struct Reconstruction<'a> {
    /// Number of the step, counted from 1.
    pub step: u64,
    /// Width of the vectors.
    pub d: usize,
    /// What was encoded, `[rows, d]`.
    pub x: &'a [f32],
    /// What it was decoded to, `[rows, d]`.
    pub x_hat: &'a [f32],
    /// The columns beside, in the learner's order: which tokens these are.
    pub beside: &'a [Vec<f32>],
}

/// What the other side answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The loss of the batch.
    pub loss: f64,
    /// ∂loss/∂x_hat, `[rows, d]`.
    pub gradient: Vec<f32>,
}

/// The other side. Called once a step, in order; the answer must be a function of the question, or the
/// same bytes are not promised.
pub trait OutsideLoss: Send + Sync + Debug {
    /// Loss and gradient; `None` if there is no answer, which whoever made this knows the reason of.
    fn answer(&self, reconstruction: &Reconstruction) -> Option<Answer>;
}

/// As a learner holds it.
pub type Outside = Arc<dyn OutsideLoss>;
