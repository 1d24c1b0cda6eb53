//! One counter for every pair of latents `i < j`, row by row of a triangle.

/// Latents of rows that wait until they are counted together: then all that fire with one latent are
/// counted in turn, and its counters stay in the nearest cache. One row at a time, most counters come
/// from memory (3072 latents, k = 32: 11 ns a pair).
const WAITING: usize = 1 << 17;

/// Counts of all pairs, 4 bytes each.
#[derive(Debug)]
pub(crate) struct Triangle {
    n: usize,
    counts: Vec<u32>,
    /// Latents of rows that are not counted yet, one row after the other, and where each row ends.
    waiting: Vec<u32>,
    ends: Vec<u32>,
}

impl Triangle {
    /// Pairs among `n` latents.
    pub(crate) const fn cells(n: usize) -> usize {
        n * n.saturating_sub(1) / 2
    }

    pub(crate) fn new(n: usize) -> Self {
        Triangle { n, counts: vec![0; Self::cells(n)], waiting: Vec::new(), ends: Vec::new() }
    }

    /// Where the counters of `(i, i + 1..n)` are.
    fn row(&self, i: usize) -> std::ops::Range<usize> {
        let rest = self.n - i;
        self.counts.len() - Self::cells(rest)..self.counts.len() - Self::cells(rest - 1)
    }

    /// Adds to one pair, given as `i << 32 | j`.
    pub(crate) fn add(&mut self, pair: u64, count: u32) {
        let (i, j) = ((pair >> 32) as usize, pair as u32 as usize);
        let row = self.row(i);
        self.counts[row][j - i - 1] += count;
    }

    /// Counts all pairs of one row; `latents` ascend.
    pub(crate) fn add_row(&mut self, latents: &[u32]) {
        self.waiting.extend_from_slice(latents);
        self.ends.push(self.waiting.len() as u32);
        if self.waiting.len() >= WAITING {
            self.count();
        }
    }

    /// Counts what waits, by the smaller latent.
    fn count(&mut self) {
        // Where the partners of each occurrence of a latent lie: those after it in its row.
        let mut starts = vec![0usize; self.n + 1];
        self.waiting.iter().for_each(|&latent| starts[latent as usize + 1] += 1);
        (0..self.n).for_each(|i| starts[i + 1] += starts[i]);
        let (mut partners, mut next) = (vec![(0, 0); self.waiting.len()], starts.clone());
        let mut from = 0;
        for &end in &self.ends {
            for at in from..end {
                let slot = &mut next[self.waiting[at as usize] as usize];
                partners[*slot] = (at + 1, end);
                *slot += 1;
            }
            from = end;
        }
        for i in 0..self.n {
            let row = self.row(i);
            let counts = &mut self.counts[row];
            for &(from, to) in &partners[starts[i]..starts[i + 1]] {
                for &j in &self.waiting[from as usize..to as usize] {
                    counts[j as usize - i - 1] += 1;
                }
            }
        }
        self.waiting.clear();
        self.ends.clear();
    }

    /// Calls `each` with (i, j, count) of the pairs that were seen, ascending.
    pub(crate) fn each(mut self, mut each: impl FnMut(u32, u32, u32)) {
        self.count();
        for i in 0..self.n {
            for (j, &count) in (i as u32 + 1..).zip(&self.counts[self.row(i)]) {
                if count > 0 {
                    each(i as u32, j, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_wait_are_counted_once() {
        let mut table = Triangle::new(6);
        let rows = WAITING / 3 + 7;
        (0..rows).for_each(|_| table.add_row(&[1, 4, 5]));
        table.add_row(&[2]);
        table.add(2 << 32 | 3, 9);
        let mut counted = Vec::new();
        table.each(|i, j, n| counted.push((i, j, n as usize)));
        assert_eq!(counted, [(1, 4, rows), (1, 5, rows), (2, 3, 9), (4, 5, rows)]);
    }
}
