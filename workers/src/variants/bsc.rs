//! Binary sparse coding: causes that are on or off, by truncated EM.
//!
//! `y = Σ s_h·W_h + σ·ε`, `s_h = 1` with probability `π` (`ml-uol/prosper`, `bsc_et.py`). A code is the
//! most probable state: a value is the length of its cause.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::Learner,
    learner::{DictLearner, Setup},
    truncated::{digits::Digits, em::Em, spec::EmSpec},
};

/// `[learner] kind = "bsc"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bsc {
    /// Number of latents; a few hundred at most are practical.
    pub n_latents: usize,
    /// How EM is truncated and annealed.
    #[serde(default)]
    pub em: EmSpec,
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "bsc",
    family: "probabilistic",
    summary: "binary sparse coding: causes are on or off, with one strength each",
    paper: "Henniges et al. 2010, https://github.com/ml-uol/prosper; Lücke & Eggert 2010, https://jmlr.org/papers/v11/lucke10a.html",
    columns: "",
    modes: &[],
    example: "jobs/specs/learners/bsc.toml",
    small: r#"{"kind": "bsc", "n_latents": 40, "em": {"candidates": 6, "active": 3}}"#,
};

impl LearnerConfig for Bsc {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let (n, active) = (self.n_latents, self.em.active as f64);
        let pi = (0.5 * active / n as f64).min(0.5);
        let prior = Digits { signed: false, n, pi };
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
