//! The latents of each row that the integer products do not rule out.

use super::{lists, walk::Walk};

/// Latents offered at once.
const LANES: usize = 16;
/// How far below the integers' estimate the guess lies: this many times `d_in^-½`, in units of the
/// bound. The bound assumes that all errors point one way; if they are independent, their sum is about
/// `½·d_in^-½` of it. The k-th estimate was off by at most `2.2·d_in^-½` of the bound over 516 rows of
/// real activations and of Gaussian noise.
const GUESS_MARGIN: f32 = 3.5;
/// Candidates beyond `k` before the first pruning.
const SLACK: usize = 64;
/// Candidates between two prunings: one costs about 400 cycles.
const MORE: usize = 112;

/// Threshold that no upper bound reaches, not even that of a latent without integers, which is +∞.
const GIVEN_UP: f32 = f32::NAN;
/// A threshold reached by this many estimates too many is near enough.
const ENOUGH: usize = 2;

/// Lists of candidates, in the order in which they were offered.
///
/// A row's threshold is a *guess* of its k-th largest pre-activation: one of the largest estimates so
/// far ([`Walk::rank`]), less a margin. It is much higher than what the lower bounds prove. What lies
/// below it is dropped; when the exact values are known, the guess is checked against them.
#[derive(Debug)]
pub(super) struct Candidates {
    /// Latents wanted of each row.
    pub(super) k: usize,
    pub(super) walk: Walk,
    /// What an upper bound is lowered by to give a guess, in units of the bound.
    pub(super) below_upper: f32,
    /// Entries of a list: beyond that, rescoring costs more than the integers save.
    room: usize,
    /// Below this an upper bound is dropped. [`GIVEN_UP`]: the row is left to the f32 encoder.
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
    /// No lists yet, for rows of width `d`.
    pub(super) fn new(k: usize, d: usize, walk: Walk) -> Self {
        Candidates {
            k,
            walk,
            below_upper: 1.0 + GUESS_MARGIN / (d as f32).sqrt(),
            room: 8 * k + 2 * MORE + SLACK,
            thresholds: Vec::new(),
            lengths: Vec::new(),
            limits: Vec::new(),
            columns: Vec::new(),
            uppers: Vec::new(),
            guesses: Vec::new(),
        }
    }

    /// Empty lists for so many rows; `usable` says which rows have integers.
    pub(super) fn reset(&mut self, rows: usize, usable: impl Fn(usize) -> bool) {
        let entries = rows * self.room;
        self.thresholds.clear();
        self.thresholds.extend((0..rows).map(|r| if usable(r) { 0.0 } else { GIVEN_UP }));
        self.lengths.clear();
        self.lengths.resize(rows, 0);
        self.limits.clear();
        self.limits.resize(rows, self.k + SLACK);
        self.columns.resize(entries, 0);
        self.uppers.resize(entries, 0.0);
        self.guesses.resize(entries, 0.0);
    }

    /// Whether most panels have something to keep.
    pub(super) fn are_dense(&self) -> bool {
        self.walk.is_dense(self.k)
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

    /// A row's entries: columns, and what stands in place of the guesses.
    pub(super) fn pairs(&mut self, row: usize) -> (&mut [u32], &mut [f32]) {
        let span = self.span(row);
        (&mut self.columns[span.clone()], &mut self.guesses[span])
    }

    /// Empties all lists; thresholds stay.
    pub(super) fn clear(&mut self) {
        self.lengths.fill(0);
    }

    /// Appends to a list that was longer before it was cleared.
    #[inline(always)]
    pub(super) fn append(&mut self, row: usize, column: u32, value: f32) {
        let at = row * self.room + self.lengths[row];
        (self.columns[at], self.guesses[at]) = (column, value);
        self.lengths[row] += 1;
    }

    /// Shortens a list.
    pub(super) fn truncate(&mut self, row: usize, length: usize) {
        self.lengths[row] = length;
    }

    /// The first threshold of a row, from the guesses of the walk's first `seen` panels.
    #[inline(always)]
    pub(super) fn begin(&mut self, row: usize, guesses: &[f32], seen: usize) {
        let rank = self.walk.rank(self.k, seen);
        let near = lists::near_kth(guesses, rank, ENOUGH, self.thresholds[row]);
        self.thresholds[row] = near.unwrap_or(self.thresholds[row]);
    }

    /// Prunes a list that has grown; `seen` panels were offered.
    #[inline(always)]
    pub(super) fn prune_if_full(&mut self, row: usize, seen: usize) {
        if self.lengths[row] >= self.limits[row] {
            self.prune(row, seen);
        }
    }

    /// A last pruning of every row that was not given up.
    pub(super) fn prune_all(&mut self) {
        for row in 0..self.lengths.len() {
            if !self.thresholds[row].is_nan() {
                self.prune(row, self.walk.len());
            }
        }
    }

    /// Raises the threshold and drops what lies below it. A list that stays long is given up.
    #[inline(never)]
    fn prune(&mut self, row: usize, seen: usize) {
        let span = self.span(row);
        let rank = self.walk.rank(self.k, seen);
        let near = lists::near_kth(&self.guesses[span.clone()], rank, ENOUGH, self.thresholds[row]);
        if let Some(bound) = near {
            self.thresholds[row] = bound;
            let (columns, uppers) = (&mut self.columns[span.clone()], &mut self.uppers[span.clone()]);
            self.lengths[row] = lists::retain_reaching(bound, columns, uppers, &mut self.guesses[span]);
        }
        self.limits[row] = self.lengths[row] + MORE.max(self.k);
        if self.limits[row] + 2 * LANES > self.room {
            (self.thresholds[row], self.lengths[row]) = (GIVEN_UP, 0);
            self.limits[row] = usize::MAX;
        }
    }
}
