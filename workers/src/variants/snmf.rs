//! Semi-NMF: `x ≈ g·F` with codes `g ≥ 0` and features `F` of any sign; optionally a hierarchy, codes
//! of codes.
//!
//! Ding, Li, Jordan 2010; Shafran et al. 2025 (*Decomposing MLP Activations into Interpretable Features
//! via Semi-Nonnegative Matrix Factorization*). `GᵀG` and `GᵀX` are sums over rows: a step finds the
//! codes of its batch by multiplicative updates, adds its sums to what is left of the old ones, and
//! solves for F. Codes have no exact zeros, so a frozen dictionary keeps the k largest and refits them.
//!
//! With `levels`, the codes of a level are the rows of the next one. The latents are those of the last
//! level; their atoms are `F_L·…·F_1`, the features of the levels go into the export.

mod coder;
mod level;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::{coder::LevelCoder, level::Level};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    frozen::{Atoms, Frozen},
    kernels::Path,
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    linear::{
        multiplicative::Features,
        product::{self, Panels},
    },
    state::LearnerState,
    threads::Threads,
};

/// `[learner] kind = "snmf"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snmf {
    /// Number of latents: of the last level.
    pub n_latents: usize,
    /// Features of each level, the last one `n_latents`. Left out: one level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<usize>,
    /// Latents a frozen dictionary keeps per row.
    #[serde(default = "k")]
    pub k: usize,
    /// Multiplicative updates per batch and level.
    #[serde(default = "rounds")]
    pub rounds: usize,
    /// Share of the old sums that each step keeps; 0 learns from the batch alone.
    #[serde(default = "keep")]
    pub keep: f64,
    /// Share of the entries of a feature that are kept, the largest (winner takes all; 0.01 to 0.05 for
    /// neurons of an MLP). 1 keeps all.
    #[serde(default = "winners")]
    pub winners: f64,
}

fn k() -> usize {
    32
}

fn rounds() -> usize {
    20
}

fn keep() -> f64 {
    0.95
}

fn winners() -> f64 {
    1.0
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "snmf",
    family: "classical",
    summary: "semi-NMF: non-negative codes, features of any sign; levels make a hierarchy",
    paper: "Shafran et al. 2025, arXiv:2506.10920; Ding et al. 2010, https://doi.org/10.1109/TPAMI.2008.277",
    columns: "",
    modes: &["levels"],
    example: "jobs/specs/learners/snmf.toml",
    small: r#"{"kind": "snmf", "n_latents": 40, "k": 6, "levels": [44, 40], "keep": 0.5}"#,
};

impl LearnerConfig for Snmf {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let sizes = if self.levels.is_empty() { vec![self.n_latents] } else { self.levels.clone() };
        let mut width = setup.d_in;
        let start = |(at, &n): (usize, &usize)| {
            let level = Level::random(n, width, setup.seed.wrapping_add(at as u64));
            width = n;
            level
        };
        let levels = setup.threads.install(|| sizes.iter().enumerate().map(start).collect());
        Ok(Box::new(Learner::new(Method { spec: self.clone(), levels }, 10_000_000, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 16_384, "n_latents", "must be between 1 and 16384: sums are n by n")?;
        let last = self.levels.last().is_none_or(|&last| last == n);
        Invalid::unless(last, "levels", "must end with n_latents")?;
        let fine = self.levels.iter().all(|&n| n > 0 && n <= 16_384);
        Invalid::unless(fine, "levels", "must be between 1 and 16384 each")?;
        Invalid::unless(self.k > 0, "k", "must be at least 1")?;
        Invalid::unless(self.rounds > 0, "rounds", "must be at least 1")?;
        Invalid::unless((0.0..1.0).contains(&self.keep), "keep", "must be at least 0 and below 1")?;
        Invalid::unless(self.winners > 0.0 && self.winners <= 1.0, "winners", "must be above 0 and at most 1")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }
}

/// What is learned.
#[derive(Debug, Clone)]
struct Method {
    spec: Snmf,
    levels: Vec<Level>,
}

impl Method {
    /// `F_L·…·F_1`, `[n_latents, d_in]`.
    fn atoms(&self, path: Path) -> Vec<f64> {
        let down = |atoms: Option<Vec<f64>>, level: &Level| match atoms {
            Some(atoms) => {
                Some(product::product(path, &atoms, &Panels::of_columns(&level.features, level.width)))
            }
            None => Some(level.features.clone()),
        };
        self.levels.iter().rev().fold(None, down).unwrap_or_default()
    }
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.levels.first().map_or(0, |level| level.width)
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let (x, d, n) = (task.wide(), self.d_in(), self.n_latents());
        let atoms = self.atoms(task.path);
        let mut rows = x.clone();
        for level in &mut self.levels {
            let codes = level.codes(task.path, &rows, self.spec.rounds);
            level.update(task, &codes, &rows, &self.spec);
            rows = codes;
        }
        let x_hat = product::product(task.path, &rows, &Panels::of_columns(&atoms, d));
        let squared_error = x.iter().zip(&x_hat).map(|(x, h)| (x - h) * (x - h)).sum::<f64>();
        let mut fired = vec![false; n];
        rows.chunks(n).for_each(|row| fired.iter_mut().zip(row).for_each(|(f, g)| *f |= *g > 0.0));
        let kept = |row: &[f64]| row.iter().filter(|g| **g > 0.0).count().min(self.spec.k) as u64;
        Learned { nnz: rows.chunks(n).map(kept).sum(), squared_error, loss: squared_error, lr: 0.0, fired }
    }

    fn freeze(&self, _scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        // Codes are proportional to rows, so a scale of the data is one of the codes.
        let (d, path) = (self.d_in(), Path::best());
        let (atoms, norms) = Atoms::normalised(&self.atoms(path), d, vec![0.0; d]);
        let mut tensors = LearnerState::default();
        for (at, level) in self.levels.iter().enumerate() {
            #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
            let features: Vec<f32> = level.features.iter().map(|&v| v as f32).collect();
            tensors.push_f32(&format!("features.{at}"), vec![level.n, level.width], &features);
        }
        let levels = self.levels.iter().map(|l| Features::of(path, &l.features, l.width)).collect();
        let (k, rounds) = (self.spec.k, self.spec.rounds);
        let sizes: Vec<usize> = self.levels.iter().map(|level| level.n).collect();
        Box::new(Frozen {
            kind: INFO.kind,
            atoms,
            coder: LevelCoder { levels, norms, k, rounds },
            threads: threads.clone(),
            cfg: json!({ "k": k, "rounds": rounds, "levels": sizes }),
            tensors,
        })
    }

    fn save(&self, state: &mut LearnerState) {
        for (at, level) in self.levels.iter().enumerate() {
            state.push_f64(&format!("features.{at}"), &level.features);
            state.push_f64(&format!("gg.{at}"), &level.gg);
            state.push_f64(&format!("gx.{at}"), &level.gx);
        }
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        for (at, level) in self.levels.iter_mut().enumerate() {
            level.features = state.f64(&format!("features.{at}"), level.features.len())?;
            level.gg = state.f64(&format!("gg.{at}"), level.gg.len())?;
            level.gx = state.f64(&format!("gx.{at}"), level.gx.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
