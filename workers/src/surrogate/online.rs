//! Online dictionary learning, one mini-batch at a time: code, add to the statistics, sweep the atoms.
//!
//! Mairal et al. 2010; the order of things and the schedule of forgetting are those of scikit-learn's
//! `MiniBatchDictionaryLearning`, and steps agree with it.

use super::{
    Decay, Statistics,
    statistics::Rows,
    sweep::{Constraint, sweep, used},
    unused,
};
use crate::{
    coders::{AnyCoder, Gram, block::Coded},
    kernels::{Path, Real, lanes::LaneStarts, product::Panels},
};

/// Atoms being learned and what they are learned from.
#[derive(Debug, Clone)]
pub struct Online<R> {
    /// `[n_latents, d]`, norm at most 1.
    pub atoms: Vec<R>,
    /// Of all rows so far.
    pub statistics: Statistics<R>,
    /// Mini-batches so far.
    pub step: u64,
}

/// What stays the same from step to step.
#[derive(Debug, Clone, Copy)]
pub struct Settings<R> {
    /// Finds the codes.
    pub coder: AnyCoder<R>,
    /// What old statistics are multiplied with at each step; `None`: see [`decay`].
    pub forgetting: Option<f64>,
    /// On the atoms.
    pub constraint: Constraint,
    /// Of what is drawn for atoms that are not used.
    pub seed: u64,
}

/// Weights of old and new statistics at `step`, counted from 0, of `rows` rows.
///
/// scikit-learn: `β = (θ + 1 − rows)/(θ + 1)` with `θ = (step + 1)·rows` at first and
/// `rows² + step + 1 − rows` from step `rows − 1` on; new rows weigh `1/rows`.
#[allow(clippy::cast_precision_loss, reason = "steps and rows are far below 2^53")]
pub fn decay(forgetting: Option<f64>, step: u64, rows: usize) -> Decay {
    let (step, rows) = (step as f64, rows as f64);
    let theta = if step < rows - 1.0 { (step + 1.0) * rows } else { rows * rows + step + 1.0 - rows };
    Decay { old: forgetting.unwrap_or((theta + 1.0 - rows) / (theta + 1.0)), new: 1.0 / rows }
}

impl<R: Real> Online<R> {
    /// Starts from `atoms`, `[n_latents, d]`.
    pub fn new(atoms: Vec<R>, d: usize) -> Self {
        let statistics = Statistics::zero(atoms.len() / d.max(1), d);
        Online { atoms, statistics, step: 0 }
    }

    /// Codes of `x`, `[rows, d]`, with the present atoms.
    pub fn code(&self, path: Path, coder: &AnyCoder<R>, x: &[R]) -> Coded<R> {
        let (n, d) = (self.statistics.n_latents(), self.statistics.d);
        let panels = Panels::of_rows(&self.atoms, d);
        let mut gram = vec![R::ZERO; n * n];
        panels.times(path, &self.atoms, &mut gram);
        coder.code(path, &panels, Gram::new(&self.atoms, d, Some(&gram)), x)
    }

    /// Learns from the rows `x`, `[rows, d]`, whose codes are `coded`. Runs on the current rayon pool.
    pub fn learn(
        &mut self,
        path: Path,
        settings: &Settings<R>,
        coded: &Coded<R>,
        x: &[R],
        lanes: LaneStarts,
    ) {
        let decay = decay(settings.forgetting, self.step, coded.codes.rows());
        let rows = Rows { codes: &coded.codes, values: &coded.values, x, lanes };
        self.statistics.absorb(path, decay, &rows);
        unused::resample(&mut self.statistics, x, &mut self.atoms, settings.seed, self.step);
        sweep(path, &self.statistics, settings.constraint, &mut self.atoms);
        self.step += 1;
    }

    /// Latents that nothing has used.
    pub fn unused(&self) -> usize {
        let n = self.statistics.n_latents();
        (0..n).filter(|j| !used(self.statistics.a[j * n + j])).count()
    }
}
