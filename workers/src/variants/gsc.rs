//! Gaussian sparse coding: spike and slab, by truncated EM.
//!
//! `y = Σ s_h·z_h·W_h + σ·ε`, `s_h` on with probability `π_h`, `z ~ N(μ, Ψ)`, Ψ diagonal or full. The update of σ² is
//! exact: the one in `ml-uol/prosper` leaves the posterior covariance out. A code is the most probable
//! set of causes with the expected values given that set.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::Learner,
    learner::{DictLearner, Setup},
    truncated::{em::Em, slab::Slab, spec::EmSpec},
};

/// `[learner] kind = "gsc"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gsc {
    /// Number of latents; a few hundred at most are practical.
    pub n_latents: usize,
    /// Whether the values of causes that are on together have covariances.
    #[serde(default)]
    pub covariance: Covariance,
    /// How EM is truncated and annealed.
    #[serde(default)]
    pub em: EmSpec,
}

/// What is learned of Ψ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Covariance {
    /// A variance per cause.
    #[default]
    Diagonal,
    /// All of it, n by n.
    Full,
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "gsc",
    family: "probabilistic",
    summary: "spike-and-slab sparse coding: causes that are on or off, with normal values",
    paper: "Sheikh, Shelton, Lücke 2014, https://jmlr.org/papers/v15/sheikh14a.html",
    columns: "",
    modes: &["covariance: diagonal, full"],
    example: "jobs/specs/learners/gsc.toml",
    small: r#"{"kind": "gsc", "n_latents": 40, "em": {"candidates": 6, "active": 3}}"#,
};

impl LearnerConfig for Gsc {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let (n, active) = (self.n_latents, self.em.active as f64);
        let pi = (0.5 * active / n as f64).min(0.5);
        let prior = match self.covariance {
            Covariance::Diagonal => Slab::new(n, pi),
            Covariance::Full => Slab::coupled(n, pi),
        };
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
