//! The `k` largest pre-activations of each row: positive ones, or signed ones by magnitude.

use super::{Sink, bits, mask};
use crate::kernels::{
    Real,
    encode::{order, rows::Rows},
};

/// Candidates kept beyond `k` before pruning, at least: rarely full, small enough to stay in L1.
const SLACK: usize = 96;
/// As close to `k` as this is close enough while columns are still coming.
const ENOUGH: usize = 4;
/// Room for the columns of one tile beyond a full list.
const TILE: usize = 32;

/// Top-k of every row of a block. `SIGNED`: by magnitude (AbsTopK), otherwise only what is above 0.
///
/// Lists of all rows lie in two arrays; a list stays in the order of its columns throughout.
pub(in crate::kernels::encode) struct RowTop<R, const SIGNED: bool> {
    k: usize,
    /// Candidates at which a row is pruned.
    limit: usize,
    /// Nothing at or below this can be among the best `k` of the row.
    thresholds: Vec<R>,
    lengths: Vec<usize>,
    columns: Vec<u32>,
    values: Vec<R>,
}

impl<R: Real, const SIGNED: bool> RowTop<R, SIGNED> {
    /// For a block of so many rows.
    pub(in crate::kernels::encode) fn new(rows: usize, k: usize) -> Self {
        let limit = k + SLACK.max(k);
        RowTop {
            k,
            limit,
            thresholds: vec![if k == 0 { R::of(f64::INFINITY) } else { R::ZERO }; rows],
            lengths: vec![0; rows],
            columns: vec![0; rows * (limit + TILE)],
            values: vec![R::ZERO; rows * (limit + TILE)],
        }
    }

    #[inline(always)]
    fn keep<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C], mask: u32) {
        let span = row * (self.limit + TILE)..(row + 1) * (self.limit + TILE);
        let (columns, values) = (&mut self.columns[span.clone()], &mut self.values[span]);
        let mut length = self.lengths[row];
        for c in bits(mask) {
            columns[length] = (first + c) as u32;
            values[length] = z[c];
            length += 1;
        }
        if length >= self.limit {
            let threshold = &mut self.thresholds[row];
            length = prune::<R, SIGNED>(self.k, threshold, &mut columns[..length], &mut values[..length]);
        }
        self.lengths[row] = length;
    }

    /// Offers the columns `listed` alone, all of `first..first + C`. One after the other and without a
    /// branch: where a list keeps a good part of what is offered, no branch on it is predicted.
    #[inline(always)]
    pub(in crate::kernels::encode) fn offer_listed<const C: usize>(
        &mut self,
        row: usize,
        first: usize,
        z: &[R; C],
        listed: &[u32],
    ) {
        let span = row * (self.limit + TILE)..(row + 1) * (self.limit + TILE);
        let (columns, values) = (&mut self.columns[span.clone()], &mut self.values[span]);
        let (mut length, threshold) = (self.lengths[row], &mut self.thresholds[row]);
        for &column in listed {
            let z = z[(column as usize - first) % C];
            (columns[length], values[length]) = (column, z);
            length += usize::from(rank::<R, SIGNED>(z) > *threshold);
        }
        if length >= self.limit {
            length = prune::<R, SIGNED>(self.k, threshold, &mut columns[..length], &mut values[..length]);
        }
        self.lengths[row] = length;
    }
}

/// What is compared.
#[inline(always)]
fn rank<R: Real, const SIGNED: bool>(z: R) -> R {
    if SIGNED && z < R::ZERO { -z } else { z }
}

/// Moves to the front what can be among the best `k` and returns how many that are: not many more
/// than `k`. Raises the threshold: later columns lose ties, so they must exceed it.
#[inline(always)]
fn prune<R: Real, const SIGNED: bool>(
    k: usize,
    threshold: &mut R,
    columns: &mut [u32],
    values: &mut [R],
) -> usize {
    let near = order::near_kth(values, rank::<R, SIGNED>, k, ENOUGH, *threshold);
    if near.count <= k + SLACK / 2 {
        *threshold = near.bound;
        return order::retain(columns, values, |z| rank::<R, SIGNED>(z) >= near.bound);
    }
    *threshold = order::kth(values, rank::<R, SIGNED>, k);
    order::retain_best(columns, values, rank::<R, SIGNED>, k, *threshold)
}

impl<R: Real, const SIGNED: bool> Sink<R> for RowTop<R, SIGNED> {
    type Kept = Rows<R>;

    #[inline(always)]
    fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]) {
        let threshold = self.thresholds[row];
        let mut any = false;
        for &z in z {
            any |= rank::<R, SIGNED>(z) > threshold;
        }
        if any {
            self.keep(row, first, z, mask(z, |z| rank::<R, SIGNED>(z) > threshold));
        }
    }

    fn finish(mut self) -> Rows<R> {
        let rank = rank::<R, SIGNED>;
        let mut rows = Rows::with_capacity(self.lengths.len(), self.lengths.len() * self.k);
        let lists = self.columns.chunks_mut(self.limit + TILE).zip(self.values.chunks_mut(self.limit + TILE));
        for ((columns, values), &length) in lists.zip(&self.lengths) {
            let (columns, values) = (&mut columns[..length], &mut values[..length]);
            let kept = if length > self.k {
                let kth = order::kth(values, rank, self.k);
                order::retain_best(columns, values, rank, self.k, kth)
            } else {
                length
            };
            rows.push(columns[..kept].iter().copied().zip(values[..kept].iter().copied()));
        }
        rows
    }
}
