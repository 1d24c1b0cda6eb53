//! Bounded samples of active contexts: per latent and split, the smallest of three orders.
//!
//! "Keep the k smallest of a total order" is associative and commutative: shards can be merged in any
//! order, and the result is the sample of all their contexts.

use super::{
    HarvestSpec,
    bounds::{Bound, Bounds},
    context::{Context, Pair, Split},
    smallest::{Entry, Smallest},
};
use crate::random::{mix, unit};

/// Stream of the draws of [`List::Uniform`].
pub const UNIFORM_STREAM: u64 = 0x756e_6966_0000_0004;
/// Stream of the draws of [`List::Importance`].
pub const IMPORTANCE_STREAM: u64 = 0x696d_706f_0000_0005;

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
        // A margin far above the rounding of either side. A list that takes all has a limit that is
        // no number, and nothing exceeds that.
        (1.0 - u) * (1.0 - 1e-9) > f64::from_bits(limit) * f64::from(peak)
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

/// The lists of all latents.
#[derive(Debug)]
pub(crate) struct Samples {
    capacity: [[usize; 3]; 2],
    /// Index `(latent * 2 + split) * 3 + list`.
    lists: Vec<Smallest>,
    /// Largest order that each list may still take; index `latent * 2 + split`. Nearly all offers are
    /// refused, and this way one cache line is enough to refuse them.
    limits: Vec<[u64; 3]>,
}

impl Samples {
    pub(crate) fn new(n_latents: usize, spec: &HarvestSpec) -> Self {
        let capacity = Split::ALL.map(|split| List::ALL.map(|list| spec.capacity(list, split)));
        Samples {
            capacity,
            lists: (0..n_latents * 6).map(|_| Smallest::default()).collect(),
            limits: vec![[u64::MAX; 3]; n_latents * 2],
        }
    }

    /// What the lists may still take, `[n_latents]`. It only shrinks, so that what these bounds leave out is refused
    /// later, too.
    pub(crate) fn bounds(&self) -> Vec<Bounds> {
        let of = |(limits, split): (&[u64; 3], usize)| Bound::of(*limits, self.capacity[split]);
        self.limits.as_chunks::<2>().0.iter().map(|[a, b]| [of((a, 0)), of((b, 1))]).collect()
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
            taken |= order <= limit && self.take(list, split, order, context, pairs);
        }
        taken
    }

    fn take(&mut self, list: List, split: Split, order: u64, context: &Context, pairs: &[Pair]) -> bool {
        let capacity = self.capacity[split as usize][list as usize];
        if capacity == 0 {
            return false;
        }
        let at = pairs[0].latent as usize * 2 + split as usize;
        let entry = Entry::new(order, context.seq, context.start, context.first_row);
        let activations = pairs.iter().map(|pair| (pair.offset, pair.value));
        if let Some(limit) = self.lists[at * 3 + list as usize].push(capacity, entry, activations) {
            self.limits[at][list as usize] = limit;
        }
        true
    }

    /// Cuts every list to its capacity and sorts it; nothing is offered afterwards.
    pub(crate) fn settle(&mut self) {
        for (at, list) in self.lists.iter_mut().enumerate() {
            list.settle(self.capacity[at / 3 % 2][at % 3]);
        }
    }

    /// Identities of the contexts that some list holds, with repetitions.
    pub(crate) fn contexts(&self) -> impl Iterator<Item = u64> {
        self.lists.iter().flat_map(Smallest::entries).map(|entry| entry.context)
    }

    /// Everything, by latent, then list, then split, then order; frees as it goes. Lists are settled.
    pub(crate) fn drain(self, mut each: impl FnMut(u32, List, Split, &Entry, &[(u16, f32)])) {
        let mut lists = self.lists.into_iter();
        for latent in 0.. {
            let of_latent: Vec<Smallest> = lists.by_ref().take(6).collect();
            if of_latent.is_empty() {
                return;
            }
            for list in List::ALL {
                for split in Split::ALL {
                    let held = &of_latent[split as usize * 3 + list as usize];
                    let entries = held.entries().iter();
                    entries.for_each(|entry| each(latent, list, split, entry, held.activations(entry)));
                }
            }
        }
    }
}
