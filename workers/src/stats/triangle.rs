//! One counter for every pair of latents `i < j`, row by row of a triangle.

/// Counts of all pairs, 4 bytes each.
#[derive(Debug)]
pub(crate) struct Triangle {
    n: usize,
    counts: Vec<u32>,
}

impl Triangle {
    /// Pairs among `n` latents.
    pub(crate) const fn cells(n: usize) -> usize {
        n * n.saturating_sub(1) / 2
    }

    pub(crate) fn new(n: usize) -> Self {
        Triangle { n, counts: vec![0; Self::cells(n)] }
    }

    /// The counters of `(i, i + 1..n)`.
    fn row(&mut self, i: usize) -> &mut [u32] {
        let rest = self.n - i;
        let (from, to) = (self.counts.len() - Self::cells(rest), self.counts.len() - Self::cells(rest - 1));
        &mut self.counts[from..to]
    }

    /// Adds to one pair, given as `i << 32 | j`.
    pub(crate) fn add(&mut self, pair: u64, count: u32) {
        let (i, j) = ((pair >> 32) as usize, pair as u32 as usize);
        self.row(i)[j - i - 1] += count;
    }

    /// Counts all pairs of one row; `latents` ascend.
    pub(crate) fn add_row(&mut self, latents: &[u32]) {
        for (at, &i) in latents.iter().enumerate() {
            let row = self.row(i as usize);
            for &j in &latents[at + 1..] {
                row[(j - i) as usize - 1] += 1;
            }
        }
    }

    /// Calls `each` with (i, j, count) of the pairs that were seen, ascending.
    pub(crate) fn each(mut self, mut each: impl FnMut(u32, u32, u32)) {
        for i in 0..self.n {
            for (j, &mut count) in (i as u32 + 1..).zip(self.row(i)) {
                if count > 0 {
                    each(i as u32, j, count);
                }
            }
        }
    }
}
