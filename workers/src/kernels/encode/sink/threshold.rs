//! Every pre-activation above its latent's threshold: JumpReLU, and inference with a learned threshold.

use super::{Entry, Sink, bits, by_row, mask};
use crate::kernels::{Real, encode::rows::Rows};

/// `z > θ` per latent. Zeros are left out: a code never holds one.
pub(in crate::kernels::encode) struct Above<R> {
    /// θ of each column, padded to whole panels.
    thresholds: Vec<R>,
    rows: usize,
    /// As they came: the columns of a row ascend.
    kept: Vec<Entry<R>>,
}

impl<R: Real> Above<R> {
    /// For a block of so many rows; `thresholds` has one entry per column.
    pub(in crate::kernels::encode) fn new(rows: usize, mut thresholds: Vec<R>, widest_panel: usize) -> Self {
        thresholds.resize(thresholds.len().next_multiple_of(widest_panel), R::ZERO);
        Above { thresholds, rows, kept: Vec::new() }
    }
}

impl<R: Real> Sink<R> for Above<R> {
    type Kept = Rows<R>;

    #[inline(always)]
    fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]) {
        let thresholds = &self.thresholds[first..][..C];
        let pairs: [(R, R); C] = std::array::from_fn(|c| (z[c], thresholds[c]));
        let mask = mask(&pairs, |(z, threshold)| z > threshold && z != R::ZERO);
        if mask != 0 {
            #[allow(clippy::cast_possible_truncation, reason = "rows and latents are counted in u32")]
            self.kept.extend(bits(mask).map(|c| (z[c], row as u32, (first + c) as u32)));
        }
    }

    fn finish(self) -> Rows<R> {
        by_row(&self.kept, self.rows)
    }
}
