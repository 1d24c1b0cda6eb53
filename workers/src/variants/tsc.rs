//! Ternary sparse coding: causes that are −1, 0 or 1, by truncated EM.
//!
//! `y = Σ s_h·W_h + σ·ε`, `s_h = ±1` with probability `π/2` each (`ml-uol/prosper`, `tsc_et.py`). A code
//! is the most probable state: a value is the length of its cause, with a sign.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::Learner,
    learner::{DictLearner, Setup},
    truncated::{digits::Digits, em::Em, spec::EmSpec},
};

/// `[learner] kind = "tsc"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tsc {
    /// Number of latents; a few hundred at most are practical.
    pub n_latents: usize,
    /// How EM is truncated and annealed.
    #[serde(default)]
    pub em: EmSpec,
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "tsc",
    family: "probabilistic",
    summary: "ternary sparse coding: causes are −1, 0 or 1",
    paper: "Exarchakis et al. 2012, https://github.com/ml-uol/prosper",
    columns: "",
    modes: &[],
    example: "jobs/specs/learners/tsc.toml",
    small: r#"{"kind": "tsc", "n_latents": 40, "em": {"candidates": 6, "active": 3}}"#,
};

impl LearnerConfig for Tsc {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let (n, active) = (self.n_latents, self.em.active as f64);
        let pi = (0.5 * active / n as f64).min(0.5);
        let prior = Digits { signed: true, n, pi };
        let method = Em::new(INFO.kind, n, prior, &self.em, setup);
        Ok(Box::new(Learner::new(method, 10_000_000, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        self.em.validate(self.n_latents)
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }
}
