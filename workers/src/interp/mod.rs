//! Which contexts of a latent a person or a model should look at.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[harvest]`: what is collected about each latent once the dictionary is frozen.
///
/// Counts are per latent; conventions follow delphi, SAEBench and Neuronpedia
/// (`schemas/README.md` names each).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HarvestSpec {
    /// Tokens in one context window.
    pub context_tokens: usize,
    /// Highest-activating contexts.
    pub top: usize,
    /// Equal-count slices of the ranked list of active contexts.
    pub slices: usize,
    /// Contexts per slice.
    pub per_slice: usize,
    /// Contexts drawn with probability proportional to their peak activation.
    pub importance: usize,
    /// Active contexts drawn uniformly.
    pub random_active: usize,
    /// Contexts in which the latent never fires, drawn uniformly without replacement.
    pub random_inactive: usize,
    /// Contexts in which a co-firing neighbour fires and the latent does not.
    pub hard_negatives: usize,
    /// Share of contexts set aside for scoring explanations; the rest may be shown to the explainer.
    pub score_share: f64,
    /// Co-firing neighbours kept per latent.
    pub neighbours: usize,
    /// Tokens, over the whole run, on which co-firing is counted (a hash decides which).
    pub coactivation_tokens: u64,
    /// Contexts, over the whole run, from which inactive contexts and hard negatives are drawn.
    pub pool_contexts: usize,
}

impl Default for HarvestSpec {
    fn default() -> Self {
        HarvestSpec {
            context_tokens: 32,
            top: 20,
            slices: 10,
            per_slice: 4,
            importance: 10,
            random_active: 10,
            random_inactive: 20,
            hard_negatives: 10,
            score_share: 0.5,
            neighbours: 10,
            coactivation_tokens: 65_536,
            pool_contexts: 2_048,
        }
    }
}
