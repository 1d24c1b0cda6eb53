//! Which contexts of a latent a person or a model should look at.
//!
//! A context is a short stretch of one sequence ([`context`]). While a shard is harvested, each latent
//! keeps bounded samples of its active contexts ([`samples`]) and all latents share a pool of contexts
//! with their full codes ([`pool`]). [`select`] turns merged samples into the published examples.

pub(crate) mod bounds;
pub mod context;
pub mod pool;
pub mod samples;
pub mod select;
pub(crate) mod smallest;

pub use context::Split;
pub use samples::List;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::coders::CoderSpec;

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
    /// What finds the codes by search, on the atoms that were learned, instead of the learner's own encoder:
    /// `coder = { kind = "omp", k = 32 }`. Everything that is collected then tells of its codes. Held-out
    /// rows are encoded both ways, and the run ends with the amortisation gap: FVU of the encoder less FVU
    /// of the coder, at the `k` of the learner if that is to mean anything. Left out: the encoder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coder: Option<CoderSpec>,
}

impl HarvestSpec {
    /// The part of `count` that belongs to `split`; both parts together are `count`.
    pub fn part(&self, split: Split, count: usize) -> usize {
        let score = ((count as f64 * self.score_share).round() as usize).min(count);
        match split {
            Split::Explain => count - score,
            Split::Score => score,
        }
    }

    /// How many contexts a latent keeps in `list` of `split`. Merging lists of shards keeps as many.
    pub fn capacity(&self, list: List, split: Split) -> usize {
        match list {
            List::Top => self.part(split, self.top),
            List::Uniform => {
                self.slices * self.part(split, self.per_slice) + self.part(split, self.random_active)
            }
            List::Importance => self.part(split, self.importance),
        }
    }

    /// Entries that one latent keeps at most, over all lists.
    pub fn entries_per_latent(&self) -> usize {
        List::ALL.iter().flat_map(|&list| Split::ALL.map(|split| self.capacity(list, split))).sum()
    }

    /// Share of rows to count co-firing on, for a run that will harvest `rows` rows.
    pub fn coactivation_rate(&self, rows: u64) -> f64 {
        if rows == 0 { 0.0 } else { (self.coactivation_tokens as f64 / rows as f64).min(1.0) }
    }
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
            coder: None,
        }
    }
}
