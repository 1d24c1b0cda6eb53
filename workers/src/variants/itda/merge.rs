//! Merging dictionaries of other runs: the greedy pass that admits rows, over their atoms.
//!
//! The first dictionary is taken as it is; of the atoms of the others, in order, those are admitted which
//! the dictionary so far reconstructs worse than `tau`. So a dictionary merged with itself is itself, and
//! nobody's atoms are lost or invented. Runs on parts of the data can be made side by side and merged.

use serde_json::Value;

use super::{Itda, Method};
use crate::{
    kernels::Path,
    learner::{Mismatch, Setup},
    state::LearnerState,
    variants::Invalid,
};

/// Bits of the first word of an origin that count steps; above them stands the run.
const STEP_BITS: u32 = 48;

/// A dictionary as it was exported.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Exported {
    /// `[used, d]`, unit.
    pub(super) atoms: Vec<f32>,
    /// (step, row) of each.
    pub(super) origins: Vec<(u64, u64)>,
}

impl Exported {
    /// From `cfg.json` and `sae_weights.safetensors`, of width `d`.
    ///
    /// # Errors
    /// The files are something else.
    pub(super) fn read(cfg: &[u8], weights: &[u8], d: usize) -> Result<Self, Mismatch> {
        let cfg: Value = serde_json::from_slice(cfg).map_err(|e| Mismatch(e.to_string()))?;
        if cfg["architecture"] != "atomflow_itda" {
            return Err(Mismatch("not a dictionary of kind itda".to_owned()));
        }
        let size = |name: &str| {
            let size = cfg[name].as_u64().and_then(|n| usize::try_from(n).ok());
            size.ok_or_else(|| Mismatch(format!("cfg.json has no number `{name}`")))
        };
        let (weights, n) = (LearnerState::from_bytes(weights)?, size("d_sae")?);
        let (mut atoms, words) = (weights.f32("W_dec", &[n, d])?, weights.u64("provenance", 2 * n)?);
        let used = size("used")?.min(n);
        atoms.truncate(used * d);
        let origins = words.as_chunks::<2>().0.iter().take(used).map(|w| (w[0], w[1])).collect();
        Ok(Exported { atoms, origins })
    }

    /// The same, marked as the `run`-th of those that are merged, counted from 1. What was marked at an
    /// earlier merge keeps its mark.
    fn of_run(mut self, run: usize) -> Self {
        let mark = |step: u64| if step >> STEP_BITS == 0 { (run as u64) << STEP_BITS | step } else { step };
        self.origins.iter_mut().for_each(|origin| origin.0 = mark(origin.0));
        self
    }
}

impl Itda {
    fn file(directory: &str, name: &str) -> String {
        format!("{}/{name}", directory.trim_end_matches('/'))
    }

    /// The files of the dictionaries to merge.
    pub(super) fn merged_files(&self) -> Vec<String> {
        let of = |directory: &String| {
            ["cfg.json", "sae_weights.safetensors"].map(|name| Itda::file(directory, name))
        };
        self.merge.iter().flat_map(of).collect()
    }

    /// The dictionaries to merge.
    ///
    /// # Errors
    /// One of them is missing, or not of this kind and width.
    pub(super) fn merged(&self, setup: &Setup) -> Result<Vec<Exported>, Invalid> {
        let reason = "must be directories of exported ITDA dictionaries of the same d_in";
        let wrong = Invalid { field: "merge", reason };
        let read = |(at, directory): (usize, &String)| {
            let file = |name| setup.files.get(&Itda::file(directory, name)).ok_or_else(|| wrong.clone());
            let (cfg, weights) = (file("cfg.json")?, file("sae_weights.safetensors")?);
            let exported = Exported::read(cfg, weights, setup.d_in).map_err(|_| wrong.clone())?;
            Ok(exported.of_run(at + 1))
        };
        self.merge.iter().enumerate().map(read).collect()
    }
}

impl Method {
    /// Takes all atoms of `other` if there are none yet, else those that are badly reconstructed when their
    /// turn comes. Runs on the current rayon pool.
    pub(super) fn merge(&mut self, path: Path, other: &Exported) {
        if self.used() == 0 {
            let atoms = other.atoms.chunks_exact(self.d).zip(&other.origins);
            atoms.take(self.n).for_each(|(atom, &origin)| self.admit(path, atom, origin));
            return;
        }
        let error = self.judge(path, &other.atoms).error;
        self.admit_all(path, &other.atoms, &error, |at| other.origins[at]);
    }
}

#[cfg(test)]
mod tests;
