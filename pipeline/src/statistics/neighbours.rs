//! The strongest co-firing neighbours of every latent, from the pair counts of a set of shards.
//!
//! Pair counts are sorted runs of integers; adding or taking away a shard is one merge with a sign. A
//! dataflow over them was written first: it held every pair in two arrangements and, to stay small,
//! read each partial once per 64 latents (n=3072, 400 k rows: 5 s against 0.2 s for the merge).

use std::ops::Range;

use super::totals::Neighbour;
use crate::{Error, Result};

/// Pairs merged at a time: 16 bytes each, twice while two runs are merged.
const PAIRS_AT_A_TIME: u64 = 1 << 21;

/// A pair `i << 32 | j`, `i < j`, and on how many sampled rows both fired.
pub(super) type Pair = (u64, i64);

/// Cuts the latents so that about [`PAIRS_AT_A_TIME`] of `pairs` have their smaller latent in each range.
pub(super) fn ranges(n_latents: u32, pairs: u64) -> impl Iterator<Item = Range<u32>> {
    let ranges = u32::try_from(pairs.div_ceil(PAIRS_AT_A_TIME)).unwrap_or(u32::MAX).max(1);
    let step = n_latents.div_ceil(ranges).max(1);
    (0..n_latents).step_by(step as usize).map(move |from| from..n_latents.min(from + step))
}

/// `total + times · counts`; both ascend, pairs that come to zero are gone.
pub(super) fn add(total: Vec<Pair>, counts: &[Pair], times: i64) -> Result<Vec<Pair>> {
    let mut sum = Vec::with_capacity(total.len() + counts.len());
    let mut counts = counts.iter().peekable();
    let scaled =
        |n: i64| n.checked_mul(times).ok_or_else(|| Error::bug("a pair count needs more than 64 bits"));
    for (pair, n) in total {
        while let Some(&(before, m)) = counts.next_if(|(other, _)| *other < pair) {
            sum.push((before, scaled(m)?));
        }
        match counts.next_if(|(other, _)| *other == pair) {
            Some(&(_, m)) => sum.push((pair, n + scaled(m)?)),
            None => sum.push((pair, n)),
        }
    }
    for &(pair, m) in counts {
        sum.push((pair, scaled(m)?));
    }
    sum.retain(|&(_, n)| n != 0);
    Ok(sum)
}

/// The best partners of every latent so far.
///
/// Ranked by Jaccard on the co-activation sample, then count, then smaller latent; pairs that fired
/// together once only are left out, because one coincidence of two rare latents has Jaccard 1.
pub(super) struct Best<'a> {
    /// Fires of each latent on the sample.
    fires: &'a [i64],
    limit: usize,
    lists: Vec<Vec<Ranked>>,
}

/// (2^64 − 1 − Jaccard, −count, latent): the best is the smallest.
type Ranked = (u64, i64, u32);

impl<'a> Best<'a> {
    pub(super) fn new(fires: &'a [i64], limit: usize) -> Self {
        Best { fires, limit, lists: vec![Vec::new(); fires.len()] }
    }

    /// Offers both directions of a pair.
    pub(super) fn offer(&mut self, (pair, n): Pair) {
        let (i, j) = ((pair >> 32) as u32, pair as u32);
        if n < 2 || self.limit == 0 {
            return;
        }
        let union = self.fires[i as usize] + self.fires[j as usize] - n;
        let jaccard = ((n as u64) << 32).checked_div(union.max(0) as u64).unwrap_or(0);
        self.insert(i, (u64::MAX - jaccard, -n, j));
        self.insert(j, (u64::MAX - jaccard, -n, i));
    }

    fn insert(&mut self, latent: u32, ranked: Ranked) {
        let list = &mut self.lists[latent as usize];
        if list.len() == self.limit && list.last().is_some_and(|worst| *worst <= ranked) {
            return;
        }
        let at = list.partition_point(|kept| *kept < ranked);
        list.insert(at, ranked);
        list.truncate(self.limit);
    }

    /// One list per latent, best first.
    pub(super) fn finish(self) -> Vec<Vec<Neighbour>> {
        let named = |(_, n, latent): Ranked| Neighbour { latent, n_both: -n };
        self.lists.into_iter().map(|list| list.into_iter().map(named).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sums_of_runs_equal_a_map(runs in prop::collection::vec((prop::collection::btree_map(0u64..30, 1i64..9, 0..20), -2i64..3), 0..6)) {
            let (mut fast, mut slow) = (Vec::new(), BTreeMap::new());
            for (run, times) in &runs {
                let run: Vec<Pair> = run.iter().map(|(&pair, &n)| (pair, n)).collect();
                fast = add(fast, &run, *times).unwrap();
                for (pair, n) in run {
                    *slow.entry(pair).or_insert(0) += n * times;
                }
            }
            slow.retain(|_, n| *n != 0);
            prop_assert_eq!(fast, slow.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn ranges_cover_every_latent_once(n in 1u32..5000, pairs in 0u64..(1 << 26)) {
            let mut next = 0;
            for range in ranges(n, pairs) {
                prop_assert_eq!(range.start, next);
                next = range.end;
            }
            prop_assert_eq!(next, n);
        }
    }
}
