//! A bounded uniform sample of contexts with all their codes: what "does not fire here" is read from.

use std::collections::BinaryHeap;

use super::{
    HarvestSpec,
    context::{Context, Pair, Split},
};

/// A context of the pool.
#[derive(Debug, Clone)]
pub(crate) struct Pooled {
    pub(crate) order: u64,
    pub(crate) seq: i64,
    pub(crate) start: i64,
    pub(crate) context: u64,
    pub(crate) pairs: Box<[Pair]>,
}

impl Pooled {
    fn key(&self) -> (u64, i64, i64, u64) {
        (self.order, self.seq, self.start, self.context)
    }
}

impl PartialEq for Pooled {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Pooled {}

impl PartialOrd for Pooled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pooled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

fn key(context: &Context, context_hash: u64) -> (u64, i64, i64, u64) {
    (context_hash >> 1, context.seq, context.start, context.first_row)
}

/// Per split, the contexts with the smallest hashes.
#[derive(Debug)]
pub(crate) struct Pool {
    capacity: [usize; 2],
    heaps: [BinaryHeap<Pooled>; 2],
}

impl Pool {
    pub(crate) fn new(spec: &HarvestSpec) -> Self {
        Pool {
            capacity: Split::ALL.map(|split| spec.part(split, spec.pool_contexts)),
            heaps: [BinaryHeap::new(), BinaryHeap::new()],
        }
    }

    /// Offers a context with its pairs sorted by (latent, offset). Says whether the pool took it.
    pub(crate) fn offer(
        &mut self,
        context: &Context,
        context_hash: u64,
        split: Split,
        pairs: &[Pair],
    ) -> bool {
        if !self.wants(context, context_hash, split) {
            return false;
        }
        let (capacity, heap) = (self.capacity[split as usize], &mut self.heaps[split as usize]);
        if heap.len() >= capacity {
            heap.pop();
        }
        let (order, seq, start, context) = key(context, context_hash);
        heap.push(Pooled { order, seq, start, context, pairs: pairs.into() });
        true
    }

    /// Whether it would take a context. One that it does not want now it does not want later.
    pub(crate) fn wants(&self, context: &Context, context_hash: u64, split: Split) -> bool {
        let (capacity, heap) = (self.capacity[split as usize], &self.heaps[split as usize]);
        let beaten = || heap.peek().is_none_or(|worst| key(context, context_hash) < worst.key());
        capacity > 0 && (heap.len() < capacity || beaten())
    }

    /// Identities of the contexts in the pool.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = u64> {
        self.heaps.iter().flatten().map(|pooled| pooled.context)
    }

    /// Everything, by split, then order.
    pub(crate) fn drain(self, mut each: impl FnMut(Split, Pooled)) {
        for (split, heap) in Split::ALL.into_iter().zip(self.heaps) {
            heap.into_sorted_vec().into_iter().for_each(|pooled| each(split, pooled));
        }
    }
}
