//! The largest positive pre-activations of a whole batch, wherever they are (BatchTopK).

use std::{
    cmp::Ordering,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{Entry, Sink, bits, by_row, mask};
use crate::kernels::{Real, encode::rows::Rows};

/// What blocks of one batch tell each other: as many pairs as the batch keeps are not below it. Whoever
/// reads it early or late drops less or more of what the batch drops anyhow.
#[derive(Debug, Default)]
pub(in crate::kernels::encode) struct Floor(AtomicU64);

impl Floor {
    /// Bits of positive numbers ascend as the numbers do.
    fn raise<R: Real>(&self, to: R) {
        self.0.fetch_max(to.f64().to_bits(), Relaxed);
    }

    fn get<R: Real>(&self) -> R {
        R::of(f64::from_bits(self.0.load(Relaxed)))
    }
}

/// The best `room` pre-activations of a block: the batch keeps no more than that in all, so nothing
/// that is dropped here could have been kept.
pub(in crate::kernels::encode) struct BatchTop<'a, R> {
    rows: usize,
    room: usize,
    floor: &'a Floor,
    /// What lies below it is dropped, what equals it decides by place.
    threshold: R,
    /// As they came: the columns of a row ascend.
    candidates: Vec<Entry<R>>,
}

impl<'a, R: Real> BatchTop<'a, R> {
    /// For a block of `rows` in a batch that keeps `room` pairs.
    pub(in crate::kernels::encode) fn new(rows: usize, room: usize, floor: &'a Floor) -> Self {
        BatchTop { rows, room, floor, threshold: R::ZERO, candidates: Vec::new() }
    }

    #[inline(never)]
    fn keep<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C], mask: u32) {
        #[allow(clippy::cast_possible_truncation, reason = "rows and latents are counted in u32")]
        self.candidates.extend(bits(mask).map(|c| (z[c], row as u32, (first + c) as u32)));
        if self.candidates.len() >= 2 * self.room + C {
            self.prune();
        }
    }

    fn prune(&mut self) {
        self.threshold = prune(&mut self.candidates, self.room);
        self.floor.raise(self.threshold);
    }
}

/// Keeps the best `room` of more than `room` in their order and returns the smallest of them. Ties: lower
/// row, then lower latent.
fn prune<R: Real>(candidates: &mut Vec<Entry<R>>, room: usize) -> R {
    if room == 0 {
        candidates.clear();
        return R::of(f64::INFINITY);
    }
    let mut values: Vec<R> = candidates.iter().map(|entry| entry.0).collect();
    let descending = |a: &R, b: &R| b.partial_cmp(a).unwrap_or(Ordering::Equal);
    let (larger, &mut threshold, _) = values.select_nth_unstable_by(room - 1, descending);
    let above = larger.iter().filter(|&&value| value > threshold).count();
    let ties = candidates.iter().filter(|entry| entry.0 == threshold);
    let mut places: Vec<(u32, u32)> = ties.map(|&(_, row, column)| (row, column)).collect();
    let (_, &mut last, _) = places.select_nth_unstable(room - above - 1);
    candidates
        .retain(|&(value, row, column)| value > threshold || value == threshold && (row, column) <= last);
    threshold
}

impl<R: Real> Sink<R> for BatchTop<'_, R> {
    type Kept = Rows<R>;

    #[inline(always)]
    fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]) {
        if row == 0 {
            let floor = self.floor.get();
            self.threshold = if floor > self.threshold { floor } else { self.threshold };
        }
        let threshold = self.threshold;
        let mask = mask(z, |z| z > R::ZERO && z >= threshold);
        if mask != 0 {
            self.keep(row, first, z, mask);
        }
    }

    fn finish(mut self) -> Rows<R> {
        if self.candidates.len() > self.room {
            self.prune();
        }
        by_row(&self.candidates, self.rows)
    }
}

/// Cuts the blocks of a batch to its best `room` pairs. Returns the smallest that is left.
pub(in crate::kernels::encode) fn cut<R: Real>(
    blocks: &mut [Rows<R>],
    room: usize,
    floor: &Floor,
) -> Option<R> {
    let pairs = |blocks: &[Rows<R>]| blocks.iter().map(|block| block.pairs.len()).sum::<usize>();
    if pairs(blocks) > room {
        let (floor, mut all) = (floor.get::<R>(), Vec::with_capacity(2 * room));
        for (b, block) in blocks.iter().enumerate() {
            #[allow(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 pairs")]
            let entries = block.pairs.iter().enumerate().map(|(at, pair)| (pair.1, b as u32, at as u32));
            all.extend(entries.filter(|entry| entry.0 >= floor));
        }
        if all.len() > room {
            prune(&mut all, room);
        }
        let mut kept = all.iter().peekable();
        for (b, block) in blocks.iter_mut().enumerate() {
            let mut here = |at: usize| kept.next_if(|e| (e.1 as usize, e.2 as usize) == (b, at)).is_some();
            retain(block, &mut here);
        }
    }
    let values = blocks.iter().flat_map(|block| &block.pairs).map(|pair| pair.1);
    values.reduce(|a, b| if b < a { b } else { a })
}

/// Keeps the pairs of a block whose positions `keep` accepts.
fn retain<R: Real>(block: &mut Rows<R>, keep: &mut impl FnMut(usize) -> bool) {
    let (mut left, mut begin) = (0, 0);
    for end in &mut block.ends {
        for at in begin..*end {
            if keep(at) {
                block.pairs[left] = block.pairs[at];
                left += 1;
            }
        }
        begin = std::mem::replace(end, left);
    }
    block.pairs.truncate(left);
}
