//! Co-firing counts of pairs of latents: sorted runs while there are few pairs, then a table of all.

use super::triangle::Triangle;

/// Ranges of the smaller latent that are kept apart, so that merging needs room for one of them only.
const PARTS: usize = 16;

/// Pairs buffered per part before they are sorted into its run.
const BUFFER: usize = 1 << 16;

/// Cells of the largest table of all pairs: 64 MiB, so up to 5792 latents.
const CELLS_MAX: usize = 1 << 24;

/// A table pays once its cells are no more than so many times the pairs seen.
const CELLS_PER_PAIR: usize = 8;

/// Counts of pairs `i < j`.
#[derive(Debug)]
pub(crate) struct PairCounts {
    n_latents: usize,
    parts: Vec<Part>,
    seen: usize,
    /// All counts, once there is a table: adding to it costs a tenth of sorting (3072 latents, 33 M pairs).
    table: Option<Triangle>,
}

/// Sorted distinct pairs with their counts, and pairs not yet sorted in. A pair is `i << 32 | j`.
#[derive(Debug, Default)]
struct Part {
    keys: Vec<u64>,
    counts: Vec<u32>,
    buffer: Vec<u64>,
}

impl PairCounts {
    pub(crate) fn new(n_latents: usize) -> Self {
        let parts = (0..PARTS).map(|_| Part::default()).collect();
        PairCounts { n_latents, parts, seen: 0, table: None }
    }

    /// Counts all pairs of one row; `latents` ascend.
    pub(crate) fn add_row(&mut self, latents: &[u32]) {
        if let Some(table) = &mut self.table {
            return table.add_row(latents);
        }
        for (at, &i) in latents.iter().enumerate() {
            let part = &mut self.parts[i as usize * PARTS / self.n_latents];
            part.buffer.extend(latents[at + 1..].iter().map(|&j| u64::from(i) << 32 | u64::from(j)));
            // A buffer that grows with its run keeps the cost of merging per pair constant.
            if part.buffer.len() >= BUFFER.max(part.keys.len() / 2) {
                part.merge();
            }
        }
        self.seen += latents.len() * latents.len().saturating_sub(1) / 2;
        let cells = Triangle::cells(self.n_latents);
        if cells <= CELLS_MAX && self.seen.saturating_mul(CELLS_PER_PAIR) >= cells {
            self.tabulate();
        }
    }

    /// Moves what is counted into a table.
    fn tabulate(&mut self) {
        let mut table = Triangle::new(self.n_latents);
        for part in self.parts.drain(..) {
            part.keys.iter().zip(&part.counts).for_each(|(&key, &count)| table.add(key, count));
            part.buffer.iter().for_each(|&key| table.add(key, 1));
        }
        self.table = Some(table);
    }

    /// Calls `each` with (i, j, count), ascending, and frees as it goes.
    pub(crate) fn drain(self, mut each: impl FnMut(u32, u32, u32)) {
        for mut part in self.parts {
            part.merge();
            for (key, count) in part.keys.iter().zip(&part.counts) {
                each((key >> 32) as u32, *key as u32, *count);
            }
        }
        if let Some(table) = self.table {
            table.each(each);
        }
    }
}

impl Part {
    /// Sorts the buffer and merges it into the run.
    fn merge(&mut self) {
        self.buffer.sort_unstable();
        let (keys, counts) = (std::mem::take(&mut self.keys), std::mem::take(&mut self.counts));
        self.keys.reserve(keys.len() + self.buffer.len() / 2);
        self.counts.reserve(keys.len() + self.buffer.len() / 2);
        let mut old = keys.into_iter().zip(counts).peekable();
        for fresh in std::mem::take(&mut self.buffer) {
            while let Some((key, count)) = old.next_if(|(key, _)| *key <= fresh) {
                self.push(key, count);
            }
            self.push(fresh, 1);
        }
        old.for_each(|(key, count)| self.push(key, count));
    }

    fn push(&mut self, key: u64, count: u32) {
        match (self.keys.last(), self.counts.last_mut()) {
            (Some(&last), Some(total)) if last == key => *total += count,
            _ => {
                self.keys.push(key);
                self.counts.push(count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_equal_a_map(rows in prop::collection::vec(prop::collection::btree_set(0u32..40, 0..8), 0..60), merge_every in 1usize..10, tabulate_at in 0usize..90) {
            let mut fast = PairCounts::new(40);
            let mut slow = BTreeMap::new();
            for (at, row) in rows.iter().enumerate() {
                let row: Vec<u32> = row.iter().copied().collect();
                fast.add_row(&row);
                if at == tabulate_at && fast.table.is_none() {
                    fast.tabulate();
                }
                if at % merge_every == 0 {
                    fast.parts.iter_mut().for_each(Part::merge);
                }
                for (a, i) in row.iter().enumerate() {
                    for j in &row[a + 1..] {
                        *slow.entry((*i, *j)).or_insert(0u32) += 1;
                    }
                }
            }
            let mut counted = Vec::new();
            fast.drain(|i, j, n| counted.push(((i, j), n)));
            prop_assert_eq!(counted, slow.into_iter().collect::<Vec<_>>());
        }
    }
}
