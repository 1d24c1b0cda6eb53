//! What becomes of pre-activations as they leave the tile: the selection rules.

pub(super) mod among;
mod batch;
mod heads;
mod row;
mod threshold;

use super::rows::Rows;
use crate::kernels::Real;
pub(super) use among::Both;
pub(super) use batch::{BatchTop, Floor, cut};
pub(super) use heads::HeadTop;
pub(super) use row::RowTop;
pub(super) use threshold::Above;

/// Takes every pre-activation of a block of rows once, latents ascending for each row.
pub(super) trait Sink<R>: Send {
    /// What is kept of a block.
    type Kept: Send;

    /// Pre-activations of `row` (counted in the block) for columns `first..first + C`; NaN is never kept.
    fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]);

    /// What was kept. The latents are columns.
    fn finish(self) -> Self::Kept;
}

/// (value, row, column).
type Entry<R> = (R, u32, u32);

/// Sorts by row what is sorted by column.
fn by_row<R: Real>(candidates: &[Entry<R>], rows: usize) -> Rows<R> {
    let mut starts = vec![0; rows + 1];
    candidates.iter().for_each(|entry| starts[entry.1 as usize + 1] += 1);
    (0..rows).for_each(|row| starts[row + 1] += starts[row]);
    let mut out = Rows { ends: starts, pairs: vec![(0, R::ZERO); candidates.len()] };
    for &(value, row, column) in candidates {
        let next = &mut out.ends[row as usize];
        out.pairs[*next] = (column, value);
        *next += 1;
    }
    out.ends.truncate(rows);
    out
}

/// Bit `c` is set where `keep(z[c])`. A tile has at most 32 columns.
#[inline(always)]
fn mask<R: Copy, const C: usize>(z: &[R; C], keep: impl Fn(R) -> bool) -> u32 {
    let mut mask = 0;
    for (c, &z) in z.iter().enumerate() {
        mask |= if keep(z) { 1u32 << c } else { 0 };
    }
    mask
}

/// The positions of the bits that are set, ascending.
#[inline(always)]
fn bits(mut mask: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (mask != 0).then(|| {
            let bit = mask.trailing_zeros();
            mask &= mask - 1;
            bit as usize
        })
    })
}
