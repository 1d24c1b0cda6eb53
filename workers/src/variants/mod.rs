//! One file per learner, one line each in the registry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[learner]`: what learns. `kind` chooses; the other fields belong to that kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LearnerSpec {
    /// k-sparse autoencoder with AuxK.
    Topk(TopkPlaceholder),
}

/// Filled by the learner's own file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopkPlaceholder {
    /// Number of latents.
    pub n_latents: usize,
    /// Latents per row.
    pub k: usize,
}

/// One line of `atomflow learners`.
#[derive(Debug, Clone, Serialize)]
pub struct LearnerInfo {
    /// The word in `[learner] kind`.
    pub kind: &'static str,
    /// `sparse autoencoder`, `classical`, …
    pub family: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// Where the method is published.
    pub paper: &'static str,
    /// An example spec in `jobs/specs/`.
    pub example: &'static str,
}

/// Every learner, in the order of the registry.
pub fn registry() -> Vec<LearnerInfo> {
    Vec::new()
}
