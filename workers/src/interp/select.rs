//! From merged samples to the examples that are published.

use crate::random::mix;

use super::{HarvestSpec, context::Split};

const INACTIVE_STREAM: u64 = 0x696e_6163_0000_0006;
const NEGATIVE_STREAM: u64 = 0x6e65_6761_0000_0007;

/// Where a context is: shard number and first row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContextRef {
    /// Number of the shard.
    pub shard: u32,
    /// Row of the shard at which the context begins.
    pub row: u64,
}

/// An active context of one latent, as a merged list holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// Sequence half of the content key.
    pub seq: i64,
    /// Start half of the content key.
    pub start: i64,
    /// Where it is.
    pub context: ContextRef,
    /// (token, activation), tokens ascending.
    pub activations: Vec<(u32, f32)>,
}

impl Sample {
    /// Largest magnitude and its token, the first of equals.
    pub fn peak(&self) -> (u32, f32) {
        peak(&self.activations)
    }
}

/// Largest magnitude among (token, activation) pairs and its token, the first of equals.
pub fn peak(activations: &[(u32, f32)]) -> (u32, f32) {
    activations.iter().fold(
        (0, 0.0),
        |best, &(token, value)| {
            if value.abs() > best.1 { (token, value.abs()) } else { best }
        },
    )
}

/// Why an example was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Among the largest peaks.
    Top,
    /// From an equal-count slice of a ranked uniform sample.
    Quantile,
    /// Drawn in proportion to the peak.
    Importance,
    /// Drawn uniformly from active contexts.
    RandomActive,
    /// Drawn uniformly from contexts in which the latent never fires.
    RandomInactive,
    /// A co-firing neighbour fires, the latent does not.
    HardNegative,
}

impl Kind {
    /// The word in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Top => "top",
            Kind::Quantile => "quantile",
            Kind::Importance => "importance",
            Kind::RandomActive => "random_active",
            Kind::RandomInactive => "random_inactive",
            Kind::HardNegative => "hard_negative",
        }
    }
}

/// One example of one latent.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Which side of the border.
    pub split: Split,
    /// Why it was chosen.
    pub kind: Kind,
    /// Slice, for [`Kind::Quantile`].
    pub slice_index: Option<u32>,
    /// From 0 inside (split, kind, slice).
    pub rank: u32,
    /// Which context.
    pub context: ContextRef,
    /// (token, activation) of the latent; empty for inactive kinds.
    pub activations: Vec<(u32, f32)>,
    /// For [`Kind::HardNegative`]: the neighbour and its (token, activation).
    pub neighbour: Option<(u32, Vec<(u32, f32)>)>,
}

/// The active examples of one latent and split, from its merged lists (each in list order).
///
/// Kinds are independent samples, so a context may serve several of them; inside a kind it occurs
/// once. The uniform list serves two kinds without overlap: its first entries, themselves a uniform
/// sample, are `random_active`; the rest is ranked by peak and cut into equal-count slices.
pub fn active(
    spec: &HarvestSpec,
    split: Split,
    top: &[Sample],
    uniform: &[Sample],
    importance: &[Sample],
) -> Vec<Example> {
    let random = random_part(spec, split, uniform.len());
    let (random, ranked) = uniform.split_at(random);
    let mut examples = listed(split, Kind::Top, top);
    examples.extend(slices(spec, split, ranked));
    examples.extend(listed(split, Kind::Importance, importance));
    examples.extend(listed(split, Kind::RandomActive, random));
    examples
}

/// How many of `len` uniform contexts become `random_active`: its share of the list's capacity.
fn random_part(spec: &HarvestSpec, split: Split, len: usize) -> usize {
    let random = spec.part(split, spec.random_active);
    let all = spec.slices * spec.part(split, spec.per_slice) + random;
    if len >= all { random } else { len * random / all.max(1) }
}

fn listed(split: Split, kind: Kind, samples: &[Sample]) -> Vec<Example> {
    samples.iter().zip(0..).map(|(sample, rank)| example(split, kind, None, rank, sample)).collect()
}

fn example(split: Split, kind: Kind, slice_index: Option<u32>, rank: u32, sample: &Sample) -> Example {
    let (context, activations) = (sample.context, sample.activations.clone());
    Example { split, kind, slice_index, rank, context, activations, neighbour: None }
}

/// Sorts by peak, strongest first, and cuts into equal-count slices.
fn slices(spec: &HarvestSpec, split: Split, samples: &[Sample]) -> Vec<Example> {
    let mut ranked: Vec<&Sample> = samples.iter().collect();
    ranked.sort_by(|a, b| {
        b.peak().1.total_cmp(&a.peak().1).then((a.seq, a.start, a.context).cmp(&(b.seq, b.start, b.context)))
    });
    let mut rank = 0;
    let mut last = None;
    let cut = |(at, sample): (usize, &&Sample)| {
        let slice = (at * spec.slices / samples.len()) as u32;
        rank = if last == Some(slice) { rank + 1 } else { 0 };
        last = Some(slice);
        example(split, Kind::Quantile, Some(slice), rank, sample)
    };
    ranked.iter().enumerate().map(cut).collect()
}

/// A context of the merged pool with all its codes, sorted by (latent, token).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PoolContext {
    /// Hash of its content key.
    pub order: u64,
    /// Shard number and first row.
    pub shard: u32,
    /// First row in the shard.
    pub row: u64,
    /// Latent of each pair.
    pub latents: Vec<u32>,
    /// Token of each pair.
    pub offsets: Vec<u32>,
    /// Activation of each pair.
    pub values: Vec<f32>,
}

impl PoolContext {
    /// (token, activation) of one latent; empty if it is silent over the whole context.
    pub fn activations(&self, latent: u32) -> Vec<(u32, f32)> {
        let from = self.latents.partition_point(|&l| l < latent);
        let to = self.latents.partition_point(|&l| l <= latent);
        (from..to).map(|at| (self.offsets[at], self.values[at])).collect()
    }

    fn context(&self) -> ContextRef {
        ContextRef { shard: self.shard, row: self.row }
    }
}

/// The merged pool of one split, with an index from latent to the contexts in which it fires.
#[derive(Debug)]
pub struct PoolIndex {
    contexts: Vec<PoolContext>,
    /// (latent, context), ascending.
    postings: Vec<(u32, u32)>,
}

impl PoolIndex {
    /// Indexes the contexts of one split.
    pub fn new(contexts: Vec<PoolContext>) -> Self {
        let mut postings = Vec::new();
        for (context, at) in contexts.iter().zip(0..) {
            postings.extend(context.latents.chunk_by(|a, b| a == b).map(|same| (same[0], at)));
        }
        postings.sort_unstable();
        PoolIndex { contexts, postings }
    }

    /// The contexts.
    pub fn contexts(&self) -> &[PoolContext] {
        &self.contexts
    }

    fn firing(&self, latent: u32) -> impl Iterator<Item = usize> {
        let from = self.postings.partition_point(|&(l, _)| l < latent);
        self.postings[from..].iter().take_while(move |(l, _)| *l == latent).map(|&(_, at)| at as usize)
    }

    /// Which contexts may still be drawn as negatives of `latent`.
    fn silent(&self, latent: u32) -> Vec<bool> {
        let mut silent = vec![true; self.contexts.len()];
        self.firing(latent).for_each(|at| silent[at] = false);
        silent
    }

    /// Order of the draw of context `at` for `latent`: uniform, different for every latent.
    fn draw(&self, stream: u64, latent: u32, at: usize) -> (u64, usize) {
        (mix(self.contexts[at].order ^ mix(stream ^ u64::from(latent))), at)
    }
}

/// The inactive examples of one latent and split: contexts of the pool in which it never fires.
///
/// Drawn without replacement over both kinds. Hard negatives take one context of each neighbour (given
/// in rank order) in turn, so that the closest neighbour does not fill the list alone.
pub fn inactive(
    spec: &HarvestSpec,
    split: Split,
    latent: u32,
    neighbours: &[u32],
    pool: &PoolIndex,
) -> Vec<Example> {
    let mut free = pool.silent(latent);
    let mut examples = random_inactive(spec, split, latent, pool, &mut free);
    examples.extend(hard_negatives(spec, split, latent, neighbours, pool, &mut free));
    examples
}

fn negative(split: Split, kind: Kind, rank: usize, context: ContextRef) -> Example {
    Example {
        split,
        kind,
        slice_index: None,
        rank: rank as u32,
        context,
        activations: Vec::new(),
        neighbour: None,
    }
}

fn random_inactive(
    spec: &HarvestSpec,
    split: Split,
    latent: u32,
    pool: &PoolIndex,
    free: &mut [bool],
) -> Vec<Example> {
    let mut draws: Vec<_> =
        (0..free.len()).filter(|&at| free[at]).map(|at| pool.draw(INACTIVE_STREAM, latent, at)).collect();
    let wanted = spec.part(split, spec.random_inactive);
    if wanted < draws.len() {
        draws.select_nth_unstable(wanted);
        draws.truncate(wanted);
    }
    draws.sort_unstable();
    let take = |(rank, &(_, at)): (usize, &(u64, usize))| {
        free[at] = false;
        negative(split, Kind::RandomInactive, rank, pool.contexts[at].context())
    };
    draws.iter().enumerate().map(take).collect()
}

fn hard_negatives(
    spec: &HarvestSpec,
    split: Split,
    latent: u32,
    neighbours: &[u32],
    pool: &PoolIndex,
    free: &mut [bool],
) -> Vec<Example> {
    let wanted = spec.part(split, spec.hard_negatives);
    let mut examples: Vec<Example> = Vec::new();
    loop {
        let before = examples.len();
        for &neighbour in neighbours {
            if examples.len() == wanted {
                return examples;
            }
            let Some(at) = next(latent, neighbour, pool, free) else { continue };
            free[at] = false;
            let mut example =
                negative(split, Kind::HardNegative, examples.len(), pool.contexts[at].context());
            example.neighbour = Some((neighbour, pool.contexts[at].activations(neighbour)));
            examples.push(example);
        }
        if examples.len() == before {
            return examples;
        }
    }
}

/// The free context with the first draw among those in which `neighbour` fires. Few are taken of each
/// neighbour, so looking through all again costs less than sorting them.
fn next(latent: u32, neighbour: u32, pool: &PoolIndex, free: &[bool]) -> Option<usize> {
    let drawn =
        pool.firing(neighbour).filter(|&at| free[at]).map(|at| pool.draw(NEGATIVE_STREAM, latent, at));
    drawn.min().map(|(_, at)| at)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::random::{hash, unit};

    fn sample(at: u64) -> Sample {
        let peak = unit(hash(&[3, at])) as f32 + 0.1;
        let context = ContextRef { shard: 0, row: at * 32 };
        Sample { seq: at as i64, start: 0, context, activations: vec![(1, peak / 2.0), (4, peak)] }
    }

    fn pool(contexts: usize, latents: u32) -> PoolIndex {
        let fires = |at: usize, latent: u32| unit(hash(&[4, at as u64, u64::from(latent)])) < 0.3;
        let context = |at: usize| {
            let fired: Vec<u32> = (0..latents).filter(|&latent| fires(at, latent)).collect();
            let n = fired.len();
            let (order, row) = (hash(&[at as u64]) >> 1, at as u64 * 32);
            PoolContext { order, shard: 1, row, latents: fired, offsets: vec![2; n], values: vec![0.5; n] }
        };
        PoolIndex::new((0..contexts).map(context).collect())
    }

    proptest! {
        #[test]
        fn active_kinds_are_full_distinct_and_ranked(n in 0usize..60) {
            let spec = HarvestSpec::default();
            let uniform: Vec<_> = (0..n.min(spec.capacity(super::super::List::Uniform, Split::Score)) as u64).map(sample).collect();
            let examples = active(&spec, Split::Score, &[], &uniform, &[]);
            prop_assert_eq!(examples.len(), uniform.len());
            let distinct: BTreeSet<_> = examples.iter().map(|e| e.context).collect();
            prop_assert_eq!(distinct.len(), uniform.len());
            let quantile: Vec<_> = examples.iter().filter(|e| e.kind == Kind::Quantile).collect();
            prop_assert!(quantile.is_sorted_by(|a, b| peak(&a.activations).1 >= peak(&b.activations).1));
            let count = |slice: u32| quantile.iter().filter(|e| e.slice_index == Some(slice)).count();
            let counts: Vec<_> = (0..spec.slices as u32).map(count).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            prop_assert!(most - least <= 1 && *most <= spec.part(Split::Score, spec.per_slice));
        }

        #[test]
        fn inactive_kinds_are_silent_and_distinct(contexts in 0usize..80, latent in 0u32..12) {
            let spec = HarvestSpec::default();
            let pool = pool(contexts, 12);
            let neighbours: Vec<u32> = (0..12).filter(|&n| n != latent && n % 3 == 0).collect();
            let examples = inactive(&spec, Split::Explain, latent, &neighbours, &pool);
            let at = |example: &Example| &pool.contexts[(example.context.row / 32) as usize];
            let distinct: BTreeSet<_> = examples.iter().map(|e| e.context).collect();
            prop_assert_eq!(distinct.len(), examples.len());
            for example in &examples {
                prop_assert!(at(example).activations(latent).is_empty());
                if let Some((neighbour, activations)) = &example.neighbour {
                    prop_assert!(neighbours.contains(neighbour) && !activations.is_empty());
                    prop_assert_eq!(activations, &at(example).activations(*neighbour));
                }
            }
            let silent = (0..contexts).filter(|&at| pool.contexts[at].activations(latent).is_empty()).count();
            let random = examples.iter().filter(|e| e.kind == Kind::RandomInactive).count();
            prop_assert_eq!(random, silent.min(spec.part(Split::Explain, spec.random_inactive)));
        }
    }

    #[test]
    fn hard_negatives_take_neighbours_in_turn() {
        let (spec, pool) = (HarvestSpec::default(), pool(400, 12));
        let examples = inactive(&spec, Split::Explain, 0, &[3, 6, 9], &pool);
        let turns: Vec<u32> = examples.iter().filter_map(|e| e.neighbour.as_ref().map(|n| n.0)).collect();
        assert_eq!(turns, [3, 6, 9, 3, 6]);
    }
}
