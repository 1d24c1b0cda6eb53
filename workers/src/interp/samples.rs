//! Bounded samples of active contexts: per latent and split, the smallest of three orders.
//!
//! "Keep the k smallest of a total order" is associative and commutative: shards can be merged in any
//! order, and the result is the sample of all their contexts.

use std::collections::BinaryHeap;

use super::{
    HarvestSpec,
    context::{Context, Pair, Split},
};
use crate::random::{mix, unit};

const UNIFORM_STREAM: u64 = 0x756e_6966_0000_0004;
const IMPORTANCE_STREAM: u64 = 0x696d_706f_0000_0005;

/// The three lists a latent keeps per split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// Largest peak first.
    Top,
    /// Uniform over active contexts: smallest hash first.
    Uniform,
    /// Weighted by peak, without replacement (Efraimidis and Spirakis 2006): smallest −ln(u)/peak first.
    Importance,
}

impl List {
    /// All lists.
    pub const ALL: [List; 3] = [List::Top, List::Uniform, List::Importance];

    /// The word in tables.
    pub const fn name(self) -> &'static str {
        match self {
            List::Top => "top",
            List::Uniform => "uniform",
            List::Importance => "importance",
        }
    }

    /// The list with this name.
    pub fn from_name(name: &str) -> Option<List> {
        List::ALL.into_iter().find(|list| list.name() == name)
    }

    /// Whether the order of `importance` certainly lies above `limit`: −ln(u) ≥ 1 − u.
    fn exceeds(self, context_hash: u64, latent: u32, peak: f32, limit: u64) -> bool {
        let u = unit(mix(context_hash ^ mix(IMPORTANCE_STREAM ^ u64::from(latent))));
        // A margin far above the rounding of either side.
        ((1.0 - u) * (1.0 - 1e-9) / f64::from(peak)).to_bits() > limit
    }

    /// What the list keeps the smallest of; below 2^63, so that tables can hold it as int64.
    pub(crate) fn order(self, context_hash: u64, latent: u32, peak: f32) -> u64 {
        let draw = |stream: u64| mix(context_hash ^ mix(stream ^ u64::from(latent)));
        match self {
            // Bits of non-negative floats ascend with their values.
            List::Top => u64::from(u32::MAX - peak.to_bits()),
            List::Uniform => draw(UNIFORM_STREAM) >> 1,
            List::Importance => (-unit(draw(IMPORTANCE_STREAM)).ln() / f64::from(peak)).abs().to_bits(),
        }
    }
}

/// An active context of a latent, with the latent's activations.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) order: u64,
    pub(crate) seq: i64,
    pub(crate) start: i64,
    pub(crate) context: u64,
    pub(crate) activations: Box<[(u16, f32)]>,
}

impl Entry {
    fn key(&self) -> (u64, i64, i64, u64) {
        (self.order, self.seq, self.start, self.context)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

/// The lists of all latents.
#[derive(Debug)]
pub(crate) struct Samples {
    capacity: [[usize; 3]; 2],
    /// Largest order on top; index `(latent * 2 + split) * 3 + list`.
    heaps: Vec<BinaryHeap<Entry>>,
    /// Largest order that each list may still take; index `latent * 2 + split`. Nearly all offers are
    /// refused, and this way one cache line is enough to refuse them.
    limits: Vec<[u64; 3]>,
}

impl Samples {
    pub(crate) fn new(n_latents: usize, spec: &HarvestSpec) -> Self {
        Samples {
            capacity: Split::ALL.map(|split| List::ALL.map(|list| spec.capacity(list, split))),
            heaps: (0..n_latents * 6).map(|_| BinaryHeap::new()).collect(),
            limits: vec![[u64::MAX; 3]; n_latents * 2],
        }
    }

    /// Offers one context to the latent of `pairs` (all of one latent). Says whether a list took it.
    pub(crate) fn offer(
        &mut self,
        context: &Context,
        context_hash: u64,
        split: Split,
        pairs: &[Pair],
    ) -> bool {
        let Some(first) = pairs.first() else { return false };
        let peak = pairs.iter().fold(0f32, |peak, pair| peak.max(pair.value.abs()));
        let limits = self.limits[first.latent as usize * 2 + split as usize];
        let mut taken = false;
        for list in List::ALL {
            let limit = limits[list as usize];
            let order = match list {
                // A logarithm costs more than all the rest of a refusal.
                List::Importance if list.exceeds(context_hash, first.latent, peak, limit) => continue,
                _ => list.order(context_hash, first.latent, peak),
            };
            taken |= order <= limit && self.offer_to(list, split, order, context, pairs);
        }
        taken
    }

    fn offer_to(&mut self, list: List, split: Split, order: u64, context: &Context, pairs: &[Pair]) -> bool {
        let capacity = self.capacity[split as usize][list as usize];
        let at = pairs[0].latent as usize * 2 + split as usize;
        let heap = &mut self.heaps[at * 3 + list as usize];
        let full = heap.len() >= capacity;
        let key = (order, context.seq, context.start, context.first_row);
        if capacity == 0 || (full && heap.peek().is_some_and(|worst| worst.key() <= key)) {
            return false;
        }
        if full {
            heap.pop();
        }
        let activations = pairs.iter().map(|pair| (pair.offset, pair.value)).collect();
        heap.push(Entry { order, seq: key.1, start: key.2, context: key.3, activations });
        if heap.len() == capacity {
            self.limits[at][list as usize] = heap.peek().map_or(u64::MAX, |worst| worst.order);
        }
        true
    }

    /// Identities of the contexts that some list holds, with repetitions.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = u64> {
        self.heaps.iter().flatten().map(|entry| entry.context)
    }

    /// Everything, by latent, then list, then split, then order; frees as it goes.
    pub(crate) fn drain(self, mut each: impl FnMut(u32, List, Split, Entry)) {
        let mut heaps = self.heaps.into_iter();
        for latent in 0.. {
            let mut lists: Vec<Vec<Entry>> =
                heaps.by_ref().take(6).map(BinaryHeap::into_sorted_vec).collect();
            if lists.is_empty() {
                return;
            }
            for list in List::ALL {
                for split in Split::ALL {
                    let entries = std::mem::take(&mut lists[split as usize * 3 + list as usize]);
                    entries.into_iter().for_each(|entry| each(latent, list, split, entry));
                }
            }
        }
    }
}
