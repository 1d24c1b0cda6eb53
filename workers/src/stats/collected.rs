//! The contexts of a shard that somebody should look at, with the tokens of each.

use std::collections::BTreeMap;

use super::latents::LatentTable;
use crate::interp::{
    HarvestSpec,
    context::{Context, Pair, Split},
    pool::Pool,
    samples::Samples,
};

/// A context whose rows are all known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closed<'a> {
    pub(super) context: &'a Context,
    /// Hash of its content key.
    pub(super) hash: u64,
    pub(super) split: Split,
}

/// Samples of each latent, the pool, and the tokens of the contexts that these refer to.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) samples: Samples,
    pub(super) pool: Pool,
    /// By first row.
    contexts: BTreeMap<u64, Context>,
    sweep_at: usize,
}

impl Collected {
    pub(super) fn new(n_latents: usize, spec: &HarvestSpec) -> Self {
        let (samples, pool) = (Samples::new(n_latents, spec), Pool::new(spec));
        Collected { samples, pool, contexts: BTreeMap::new(), sweep_at: 0 }
    }

    /// Offers a context with all its pairs, which are sorted here, to the pool and to the latents that fire in it.
    pub(super) fn offer(&mut self, closed: Closed, pairs: &mut [Pair], latents: &mut LatentTable) {
        pairs.sort_unstable_by_key(|pair| u64::from(pair.latent) << 16 | u64::from(pair.offset));
        let Closed { context, hash, split } = closed;
        let mut taken = self.pool.offer(context, hash, split, pairs);
        for same in pairs.chunk_by(|a, b| a.latent == b.latent) {
            latents.add_context(same[0].latent);
            taken |= self.samples.offer(context, hash, split, same);
        }
        if taken {
            self.keep(context);
        }
    }

    /// Offers a context to the one latent of `pairs`.
    pub(super) fn offer_to_one(&mut self, closed: Closed, pairs: &[Pair]) {
        if self.samples.offer(closed.context, closed.hash, closed.split, pairs) {
            self.keep(closed.context);
        }
    }

    fn keep(&mut self, context: &Context) {
        self.contexts.entry(context.first_row).or_insert_with(|| context.clone());
        // Sweeps whenever the store has doubled since the last sweep: the cost per context stays constant,
        // and the store stays within twice of what is used.
        if self.contexts.len() >= self.sweep_at.max(4096) {
            self.sweep();
            self.sweep_at = 2 * self.contexts.len();
        }
    }

    /// Sorts everything and forgets the tokens that nothing refers to; nothing is offered afterwards.
    pub(super) fn settle(&mut self) {
        self.samples.settle();
        self.sweep();
    }

    fn sweep(&mut self) {
        let mut used: Vec<u64> = self.samples.contexts().chain(self.pool.contexts()).collect();
        used.sort_unstable();
        self.contexts.retain(|row, _| used.binary_search(row).is_ok());
    }

    /// Samples, pool, and the contexts that they refer to, in storage order.
    pub(super) fn into_parts(self) -> (Samples, Pool, Vec<Context>) {
        (self.samples, self.pool, self.contexts.into_values().collect())
    }
}
