//! Every pre-activation above its latent's threshold: JumpReLU, and inference with a learned threshold.

use super::{Sink, bits, mask};
use crate::kernels::{Real, encode::rows::Rows};

/// `z > θ` per latent. Zeros are left out: a code never holds one.
pub(in crate::kernels::encode) struct Above<R> {
    /// θ of each column, padded to whole panels.
    thresholds: Vec<R>,
    kept: Vec<Vec<(u32, R)>>,
}

impl<R: Real> Above<R> {
    /// For a block of so many rows; `thresholds` has one entry per column.
    pub(in crate::kernels::encode) fn new(rows: usize, mut thresholds: Vec<R>, widest_panel: usize) -> Self {
        thresholds.resize(thresholds.len().next_multiple_of(widest_panel), R::ZERO);
        Above { thresholds, kept: vec![Vec::new(); rows] }
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
            #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
            self.kept[row].extend(bits(mask).map(|c| ((first + c) as u32, z[c])));
        }
    }

    fn finish(self) -> Rows<R> {
        let mut rows = Rows::with_capacity(self.kept.len(), self.kept.iter().map(Vec::len).sum());
        self.kept.into_iter().for_each(|pairs| rows.push(pairs));
        rows
    }
}
