//! The latents of each row that the integer products do not rule out.

use super::{avx512, order};

/// Latents offered at once.
pub(super) const LANES: usize = 16;
/// How far below the integers' estimate the guess lies: this many times `d_in^-½`, in units of the
/// bound. The bound assumes that all errors point one way; if they are independent, their sum is about
/// `½·d_in^-½` of it. The k-th estimate was off by at most `2.2·d_in^-½` of the bound over 516 rows of
/// real activations and of Gaussian noise.
const GUESS_MARGIN: f32 = 3.5;
/// Candidates beyond `k` before the first pruning.
const SLACK: usize = 64;
/// Candidates between two prunings: one costs about 400 cycles.
const MORE: usize = 112;

/// Lists of candidates, in the order of their columns.
///
/// A row's threshold is a *guess* of its k-th largest pre-activation: the k-th largest of the
/// estimates so far, less a margin. It is much higher than what the lower bounds prove. What lies
/// below it is dropped; when the exact values are known, the guess is checked against them.
#[derive(Debug)]
pub(super) struct Candidates {
    k: usize,
    /// What an upper bound is lowered by to give a guess, in units of the bound.
    pub(super) below_upper: f32,
    /// Entries of a list: beyond that, rescoring costs more than the integers save.
    room: usize,
    /// Below this an upper bound is dropped. +∞: the row is left to the f32 encoder.
    pub(super) thresholds: Vec<f32>,
    /// Entries in use.
    pub(super) lengths: Vec<usize>,
    /// Length at which a row is pruned.
    limits: Vec<usize>,
    columns: Vec<u32>,
    uppers: Vec<f32>,
    /// Estimates less the margin; later the pre-activations.
    guesses: Vec<f32>,
}

/// Room for 16 more entries of a list: columns, upper bounds, guesses.
type Room<'a> = (&'a mut [u32; LANES], &'a mut [f32; LANES], &'a mut [f32; LANES]);

impl Candidates {
    /// Empty lists for so many rows of width `d`. `usable` says which rows have integers.
    pub(super) fn new(rows: usize, k: usize, d: usize, usable: impl Fn(usize) -> bool) -> Self {
        let room = 8 * k + 2 * MORE + SLACK;
        let entries = rows * room;
        Candidates {
            k,
            below_upper: 1.0 + GUESS_MARGIN / (d as f32).sqrt(),
            room,
            thresholds: (0..rows).map(|r| if usable(r) { 0.0 } else { f32::INFINITY }).collect(),
            lengths: vec![0; rows],
            limits: vec![k + SLACK; rows],
            columns: vec![0; entries],
            uppers: vec![0.0; entries],
            guesses: vec![0.0; entries],
        }
    }

    /// Where the next entries of a row go.
    #[inline(always)]
    pub(super) fn room(&mut self, row: usize) -> Option<Room<'_>> {
        let at = row * self.room + self.lengths[row];
        Some((
            self.columns[at..].first_chunk_mut()?,
            self.uppers[at..].first_chunk_mut()?,
            self.guesses[at..].first_chunk_mut()?,
        ))
    }

    /// Where a row's entries lie.
    #[inline(always)]
    pub(super) fn span(&self, row: usize) -> std::ops::Range<usize> {
        row * self.room..row * self.room + self.lengths[row]
    }

    /// The latents of a row, by column.
    pub(super) fn columns(&self, row: usize) -> &[u32] {
        &self.columns[self.span(row)]
    }

    /// What stands in place of the guesses.
    pub(super) fn values(&self) -> &[f32] {
        &self.guesses
    }

    /// See [`Candidates::values`].
    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.guesses
    }

    #[inline(always)]
    pub(super) fn prune_if_full(&mut self, row: usize) {
        if self.lengths[row] >= self.limits[row] {
            self.prune(row);
        }
    }

    /// A last pruning of every row that was not given up.
    #[inline(always)]
    pub(super) fn prune_all(&mut self) {
        for row in 0..self.lengths.len() {
            if self.thresholds[row] < f32::INFINITY {
                self.prune(row);
            }
        }
    }

    /// Raises the threshold and drops what lies below it. A list that stays long is given up.
    #[inline(always)]
    fn prune(&mut self, row: usize) {
        let span = self.span(row);
        let guesses = &self.guesses[span.clone()];
        let floor = self.thresholds[row];
        let reaching = guesses.iter().fold(0u32, |n, &g| n + u32::from(g >= floor)) as usize;
        if reaching >= self.k {
            self.thresholds[row] = order::near_kth(guesses, |g| g, self.k, 2, floor).bound;
            self.drop_below(row, span);
        }
        self.limits[row] = self.lengths[row] + MORE.max(self.k);
        if self.limits[row] + 2 * LANES > self.room {
            (self.thresholds[row], self.lengths[row]) = (f32::INFINITY, 0);
            self.limits[row] = usize::MAX;
        }
    }

    #[inline(always)]
    fn drop_below(&mut self, row: usize, span: std::ops::Range<usize>) {
        let (columns, uppers) = (&mut self.columns[span.clone()], &mut self.uppers[span.clone()]);
        let guesses = &mut self.guesses[span];
        self.lengths[row] = avx512::retain_reaching(self.thresholds[row], columns, uppers, guesses);
    }
}
