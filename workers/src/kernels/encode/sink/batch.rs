//! The largest positive pre-activations of a whole batch, wherever they are (BatchTopK).

use std::cmp::Ordering;

use super::{Sink, bits, mask};
use crate::kernels::{Real, encode::rows::Rows};

/// The best `room` pre-activations of a block: the batch keeps no more than that in all, so nothing
/// that is dropped here could have been kept.
pub(in crate::kernels::encode) struct BatchTop<R> {
    rows: usize,
    room: usize,
    /// The `room`-th largest so far: what lies below it is dropped, what equals it decides by place.
    threshold: R,
    candidates: Vec<Entry<R>>,
}

/// (value, row, column).
type Entry<R> = (R, u32, u32);

/// Larger value first, then lower row, then lower latent.
fn order<R: Real>(a: &Entry<R>, b: &Entry<R>) -> Ordering {
    b.0.partial_cmp(&a.0).unwrap_or(Ordering::Equal).then((a.1, a.2).cmp(&(b.1, b.2)))
}

impl<R: Real> BatchTop<R> {
    /// For a block of `rows` in a batch that keeps `room` pairs.
    pub(in crate::kernels::encode) fn new(rows: usize, room: usize) -> Self {
        BatchTop { rows, room, threshold: R::ZERO, candidates: Vec::new() }
    }

    #[inline(never)]
    fn keep<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C], mask: u32) {
        #[allow(clippy::cast_possible_truncation, reason = "rows and latents are counted in u32")]
        self.candidates.extend(bits(mask).map(|c| (z[c], row as u32, (first + c) as u32)));
        if self.candidates.len() >= 2 * self.room + C {
            self.threshold = prune(&mut self.candidates, self.room);
        }
    }
}

/// Keeps the best `room` of more than `room` and returns the smallest of them.
fn prune<R: Real>(candidates: &mut Vec<Entry<R>>, room: usize) -> R {
    if room == 0 {
        candidates.clear();
        return R::of(f64::INFINITY);
    }
    let (_, last, _) = candidates.select_nth_unstable_by(room - 1, order);
    let threshold = last.0;
    candidates.truncate(room);
    threshold
}

impl<R: Real> Sink<R> for BatchTop<R> {
    type Kept = Rows<R>;

    #[inline(always)]
    fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]) {
        let threshold = self.threshold;
        let mask = mask(z, |z| z > R::ZERO && z >= threshold);
        if mask != 0 {
            self.keep(row, first, z, mask);
        }
    }

    fn finish(mut self) -> Rows<R> {
        if self.candidates.len() > self.room {
            prune(&mut self.candidates, self.room);
        }
        self.candidates.sort_unstable_by_key(|&(_, row, column)| (row, column));
        let mut rows = Rows::with_capacity(self.rows, self.candidates.len());
        let mut rest = self.candidates.iter().peekable();
        for row in 0..self.rows {
            let here = std::iter::from_fn(|| rest.next_if(|entry| entry.1 as usize == row));
            rows.push(here.map(|&(z, _, column)| (column, z)));
        }
        rows
    }
}

/// Cuts the blocks of a batch to its best `room` pairs. Returns the smallest that is left.
pub(in crate::kernels::encode) fn cut<R: Real>(blocks: &mut [Rows<R>], room: usize) -> Option<R> {
    let mut all: Vec<Entry<R>> = Vec::with_capacity(blocks.iter().map(|b| b.pairs.len()).sum());
    for (b, block) in blocks.iter().enumerate() {
        #[allow(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 pairs")]
        all.extend(block.pairs.iter().enumerate().map(|(at, pair)| (pair.1, b as u32, at as u32)));
    }
    if all.len() > room {
        prune(&mut all, room);
        all.sort_unstable_by_key(|&(_, block, at)| (block, at));
        let mut kept = all.iter().peekable();
        for (b, block) in blocks.iter_mut().enumerate() {
            let mut here = |at: usize| kept.next_if(|e| (e.1 as usize, e.2 as usize) == (b, at)).is_some();
            retain(block, &mut here);
        }
    }
    all.iter().map(|entry| entry.0).reduce(|a, b| if b < a { b } else { a })
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
