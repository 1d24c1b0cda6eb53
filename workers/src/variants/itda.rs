//! ITDA: the atoms are activations themselves. A row that the dictionary reconstructs badly becomes an
//! atom; nothing is optimised.
//!
//! Leask, Nanda, Al Moubayed 2025 (*Inference-Time Decomposition of Activations*), `davidkaczer/itda`.
//! Codes come from signed matching pursuit. Every atom knows where it came from, so dictionaries of
//! two models that read the same text are compared by the Jaccard index of their origins. Rows of a
//! batch are admitted in order, each against the dictionary with the rows admitted before it: the
//! reference code admits near copies within a batch. Latents not used yet are rows of zeros and never fire.

mod merge;
mod rows;

use std::collections::BTreeSet;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::rows::{direction_error, square, unit_rows};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    frozen::{Atoms, Frozen},
    kernels::Path,
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    pursuit::{NONE, Picks, Pursuit, Rounds, gram},
    state::LearnerState,
    threads::Threads,
};

/// `[learner] kind = "itda"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Itda {
    /// The most atoms there may be.
    pub n_latents: usize,
    /// Rounds of matching pursuit per row.
    #[serde(default = "k")]
    pub k: usize,
    /// A row becomes an atom if the mean over d_in of `(x/‖x‖ − x_hat/‖x_hat‖)²` is above this. The
    /// scale is 1/d_in: 0.5 at d_in 1000 is as 1.0 at d_in 500.
    pub tau: f64,
    /// Atoms to start with: the first rows of the calibration sample of different directions. Left out:
    /// d_in, or n_latents if that is less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial: Option<usize>,
    /// Directories of ITDA dictionaries that this one starts from: the first as it is, then the atoms of the
    /// others that it reconstructs worse than `tau`, in their order. Runs on parts of the data are merged
    /// so. The first number of an origin then has the place of its directory, counted from 1, times 2^48.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub merge: Vec<String>,
}

fn k() -> usize {
    40
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "itda",
    family: "classical",
    summary: "atoms are activations: what is reconstructed badly is admitted, with its origin",
    paper: "Leask et al. 2025, Inference-Time Decomposition of Activations, arXiv:2505.17769",
    columns: "",
    modes: &["merge: start from the merged dictionaries of other runs"],
    example: "jobs/specs/learners/itda.toml",
    small: r#"{"kind": "itda", "n_latents": 40, "k": 3, "tau": 1e-5, "initial": 5}"#,
};

impl LearnerConfig for Itda {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let mut method = Method {
            k: self.k,
            tau: self.tau,
            d: setup.d_in,
            n: self.n_latents,
            atoms: Vec::new(),
            origins: Vec::new(),
            gram: None,
        };
        let (merged, initial) = (self.merged(setup)?, self.initial.unwrap_or(setup.d_in).min(self.n_latents));
        setup.threads.install(|| match &merged[..] {
            [] => method.start(setup.sample, initial),
            merged => merged.iter().for_each(|other| method.merge(Path::best(), other)),
        });
        Ok(Box::new(Learner::new(method, 10_000_000, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n < u32::MAX as usize, "n_latents", "must be between 1 and 2^32 − 2")?;
        Invalid::unless(self.k > 0 && self.k <= n, "k", "must be between 1 and n_latents")?;
        Invalid::unless(self.initial.is_none_or(|i| i > 0), "initial", "must be at least 1")?;
        let once = self.merge.is_empty() || self.initial.is_none();
        Invalid::unless(once, "initial", "cannot be given with `merge`, which is what to start with")?;
        Invalid::unless(self.tau >= 0.0, "tau", "must be 0 or positive")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn files(&self) -> Vec<String> {
        self.merged_files()
    }
}

/// What is known.
#[derive(Debug, Clone)]
struct Method {
    k: usize,
    tau: f64,
    d: usize,
    n: usize,
    /// Unit rows, `[used, d]`.
    atoms: Vec<f32>,
    /// (step, row of its batch) of each atom; step 0 is the calibration sample.
    origins: Vec<(u64, u64)>,
    /// Of the atoms; made when it is first needed, never saved.
    gram: Option<gram::Gram<f32>>,
}

/// Unit rows and how well the atoms reconstruct them.
struct Judged {
    picks: Picks<f32>,
    /// `‖y − y_hat‖²`.
    residual: Vec<f64>,
    /// Mean over d_in of the squared difference of the two directions.
    error: Vec<f64>,
}

impl Method {
    fn used(&self) -> usize {
        self.origins.len()
    }

    /// The first `initial` rows of different directions.
    fn start(&mut self, sample: &[f32], initial: usize) {
        let y = unit_rows(sample, self.d);
        for (row, y) in y.chunks_exact(self.d).enumerate() {
            let cosine = |atom: &[f32]| atom.iter().zip(y).map(|(a, y)| a * y).sum::<f32>();
            let fresh = |atom: &[f32]| cosine(atom) < 1.0 - 1e-5;
            if self.used() < initial && y.iter().any(|&v| v != 0.0) && self.atoms.chunks(self.d).all(fresh) {
                self.admit(Path::best(), y, (0, row as u64));
            }
        }
    }

    fn admit(&mut self, path: Path, y: &[f32], origin: (u64, u64)) {
        self.atoms.extend_from_slice(y);
        self.origins.push(origin);
        if let Some(gram) = &mut self.gram {
            gram.push(path, y);
        }
    }

    fn judge(&mut self, path: Path, y: &[f32]) -> Judged {
        if self.gram.is_none() && self.n <= gram::MOST_ATOMS {
            self.gram = Some(gram::Gram::of(path, &self.atoms, self.d, self.n));
        }
        let mut rows = y.to_vec();
        let pursuit = Pursuit {
            atoms: &self.atoms,
            d_in: self.d,
            k: self.k,
            absolute: false,
            gram: self.gram.as_ref(),
        };
        let picks = pursuit.run(path, &mut rows);
        let pairs = y.par_chunks_exact(self.d).zip(rows.par_chunks_exact(self.d));
        let (residual, error) = pairs.map(|(y, r)| (square(r), direction_error(y, r))).unzip();
        Judged { picks, residual, error }
    }

    /// Admits the rows that are still badly reconstructed when their turn comes.
    fn admit_all(&mut self, path: Path, y: &[f32], error: &[f64], origin: impl Fn(usize) -> (u64, u64)) {
        let (at_start, tau) = (self.used(), self.tau);
        for (row, y) in y.chunks_exact(self.d).enumerate().filter(|(row, _)| error[*row] > tau) {
            if self.used() == self.n {
                return;
            }
            let changed = self.used() > at_start;
            if !changed || self.judge(path, y).error.iter().any(|error| *error > tau) {
                self.admit(path, y, origin(row));
            }
        }
    }

    fn origin_words(&self) -> Vec<u64> {
        let mut words: Vec<u64> = self.origins.iter().flat_map(|&(step, row)| [step, row]).collect();
        words.resize(2 * self.n, u64::MAX);
        words
    }

    /// Atoms, and zeros up to the most there may be.
    fn padded(&self) -> Vec<f32> {
        let mut atoms = self.atoms.clone();
        atoms.resize(self.n * self.d, 0.0);
        atoms
    }
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.d
    }

    fn n_latents(&self) -> usize {
        self.n
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let y = unit_rows(task.x, self.d);
        let Judged { picks, residual, error } = self.judge(task.path, &y);
        let lengths = task.x.chunks_exact(self.d).map(square);
        let mut fired = vec![false; self.n];
        let picked = picks.latents.iter().filter(|latent| **latent != NONE);
        picked.for_each(|&latent| fired[latent as usize] = true);
        self.admit_all(task.path, &y, &error, |row| (task.step, row as u64));
        Learned {
            nnz: picks.codes(self.n).nnz() as u64,
            squared_error: lengths.zip(&residual).map(|(length, residual)| length * residual).sum(),
            loss: error.iter().sum::<f64>() / task.rows as f64,
            lr: 0.0,
            fired,
        }
    }

    fn freeze(&self, _scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        let mut tensors = LearnerState::default();
        tensors.push_u64("provenance", &self.origin_words());
        Box::new(Frozen {
            kind: INFO.kind,
            atoms: Atoms { d_in: self.d, w_dec: self.padded(), b_dec: vec![0.0; self.d] },
            coder: Rounds::new(self.k, false),
            threads: threads.clone(),
            cfg: json!({ "k": self.k, "tau": self.tau, "used": self.used() }),
            tensors,
        })
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f32("atoms", vec![self.n, self.d], &self.padded());
        state.push_u64("provenance", &self.origin_words());
        state.push_u64("used", &[self.used() as u64]);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let used = state.u64("used", 1)?.first().map_or(0, |&used| used as usize).min(self.n);
        let words = state.u64("provenance", 2 * self.n)?;
        self.atoms = state.f32("atoms", &[self.n, self.d])?;
        self.atoms.truncate(used * self.d);
        self.origins = words.as_chunks::<2>().0.iter().take(used).map(|w| (w[0], w[1])).collect();
        self.gram = None;
        Ok(())
    }
}

/// Share of the origins that two dictionaries have in common, of all they have: how alike two models
/// are that read the same rows. `provenance` tensors as they are exported; 1 for equal, 0 for none.
pub fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let set = |words: &[u64]| {
        let origins = words.as_chunks::<2>().0.iter().copied();
        origins.filter(|origin| origin[0] != u64::MAX).collect::<BTreeSet<[u64; 2]>>()
    };
    let (a, b) = (set(a), set(b));
    a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
}

#[cfg(test)]
mod tests;
