//! The candidates in f32: first approximately, to see which can be among the best, then exactly.
//!
//! # The bound
//!
//! The f32 encoder's chain of `d` fused multiply-adds from the bias is off by at most
//! `d·u·(‖a‖‖b‖ + |bias|)` to first order, `u = 2⁻²⁴`. The approximation sums in 32 lanes, `d/32` in each,
//! five additions across them, at most 31 for what is left over and one for the bias: off by
//! `(d/32 + 37)·u` of the same. The difference is below `(33/32·d + 37)·u`; [`slack`] is that and room for
//! the terms of second order and for the roundings of the comparison.

use std::ops::Range;

use super::{
    Encoder,
    avx512::{self, SIDE},
    by_latent::ByLatent,
    candidates::Candidates,
    lists, order,
    quantise::{Quantised, QuantisedRows},
    rows::Rows,
};
use crate::kernels::simd::Kernel;

/// How far apart two ways to sum may be, in units of `‖a‖‖b‖ + |bias|`.
fn slack(d: usize) -> f32 {
    (d as f32 * 1.0625 + 64.0) * (f32::EPSILON / 2.0)
}

/// A block of rows after screening.
pub(super) struct Rescore<'a> {
    pub(super) encoder: Encoder<'a, f32>,
    pub(super) weights: &'a Quantised,
    /// `[rows, d_in]`, without `b_dec`.
    pub(super) centred: &'a [f32],
    pub(super) rows: &'a QuantisedRows,
    pub(super) candidates: &'a mut Candidates,
}

/// The codes of a block, and the rows that are not among them.
pub(super) struct Rescored {
    /// Empty where the row was given up.
    pub(super) rows: Rows<f32>,
    /// Rows, counted in the block, for which the bound did not separate.
    pub(super) given_up: Vec<usize>,
    /// Candidates that the integers left.
    pub(super) candidates: usize,
}

impl Kernel for Rescore<'_> {
    type Output = Rescored;

    #[inline(always)]
    fn run(mut self) -> Rescored {
        let (n_rows, k) = (self.rows.step.len(), self.candidates.k);
        self.candidates.prune_all();
        let candidates = self.candidates.lengths.iter().sum();
        let slacks = self.approximate();
        let given_up = (0..n_rows).filter(|&row| !self.separate(row, slacks[row])).collect();
        self.exact();
        let mut rows = Rows::with_capacity(n_rows, n_rows * k);
        for row in 0..n_rows {
            let (columns, values) = self.candidates.pairs(row);
            let kept = best(columns, values, k);
            rows.push(columns[..kept].iter().copied().zip(values[..kept].iter().copied()));
        }
        Rescored { rows, given_up, candidates }
    }
}

impl<'a> Rescore<'a> {
    #[inline(always)]
    fn row(&self, row: usize) -> &'a [f32] {
        &self.centred[row * self.encoder.d_in..][..self.encoder.d_in]
    }

    /// Pre-activations of all candidates as dot products, latent by latent, so that a row of weights is
    /// read once for the block; lists come out ascending. Returns how far off the chains may be.
    #[inline(always)]
    fn approximate(&mut self) -> Vec<f32> {
        let by_latent = ByLatent::of(self.candidates, self.encoder.columns());
        let mut slacks = vec![0f32; self.rows.step.len()];
        self.candidates.clear();
        for column in 0..self.encoder.columns() {
            let span = by_latent.span(column);
            for first in span.clone().step_by(4) {
                self.approximate_four(column, by_latent.rows(), first..span.end.min(first + 4), &mut slacks);
            }
        }
        slacks
    }

    /// At most four of the entries of a latent, those `at`; what comes next is asked for meanwhile.
    #[inline(always)]
    fn approximate_four(&mut self, column: usize, rows: &[u32], at: Range<usize>, slacks: &mut [f32]) {
        let last = self.encoder.columns() - 1;
        let (w, bias) = (self.encoder.weights(column), self.encoder.bias(column));
        let next = self.four(rows, at.end, rows.len());
        let soon = [next[0], next[1], next[2], next[3], self.encoder.weights((column + 1).min(last))];
        let dots = avx512::dots(self.four(rows, at.start, at.end), w, soon);
        let (unit, norm) = (slack(self.encoder.d_in), self.weights.norm(column));
        for (&row, dot) in rows[at].iter().zip(dots) {
            let row = row as usize;
            self.candidates.append(row, column as u32, dot + bias);
            slacks[row] = slacks[row].max(unit * self.rows.norm[row].mul_add(norm, bias.abs()));
        }
    }

    /// Four rows from `first` on, the one before `end` again and again where there are fewer.
    #[inline(always)]
    fn four(&self, rows: &[u32], first: usize, end: usize) -> [&'a [f32]; 4] {
        let x = |i: usize| self.row(rows[(first + i).min(end - 1)] as usize);
        [x(0), x(1), x(2), x(3)]
    }

    /// Drops what cannot be among the best `k`. `false`, and an empty list, if the bound does not
    /// separate or the guess was too high.
    #[inline(always)]
    fn separate(&mut self, row: usize, slack: f32) -> bool {
        let (guess, k) = (self.candidates.thresholds[row], self.candidates.k);
        let (columns, values) = self.candidates.pairs(row);
        let kth = lists::near_kth(values, k, 0, 0.0).map_or(0.0, |near| (near - slack).max(0.0));
        let separated = kth >= guess;
        let kept = if separated { lists::retain_not_below(kth - slack, columns, values) } else { 0 };
        self.candidates.truncate(row, kept);
        separated
    }

    /// Pre-activations as the f32 encoder computes them, sixteen chains beside each other, in place of
    /// the approximations.
    #[inline(always)]
    fn exact(&mut self) {
        let groups: Vec<(usize, usize)> = self.groups().collect();
        for (g, &(row, first)) in groups.iter().enumerate() {
            let rows = self.weights_of((row, first));
            let next = self.weights_of(groups[(g + 1).min(groups.len() - 1)]);
            let sums = avx512::chains(self.row(row), rows, self.biases_of((row, first)), next);
            let (_, values) = self.candidates.pairs(row);
            values[first..].iter_mut().zip(sums).for_each(|(value, sum)| *value = sum);
        }
    }

    /// Sixteen candidates each: (row, first).
    fn groups(&self) -> impl Iterator<Item = (usize, usize)> {
        let of = |row| (0..self.candidates.columns(row).len()).step_by(SIDE).map(move |first| (row, first));
        (0..self.rows.step.len()).flat_map(of)
    }

    /// The weights of a group; the last candidate of the row fills it up.
    #[inline(always)]
    fn weights_of(&self, (row, first): (usize, usize)) -> [&'a [f32]; SIDE] {
        let columns = &self.candidates.columns(row)[first..];
        let mut weights: [&[f32]; SIDE] = [&[]; SIDE];
        for (c, weights) in weights.iter_mut().enumerate() {
            *weights = self.encoder.weights(columns[c.min(columns.len() - 1)] as usize);
        }
        weights
    }

    #[inline(always)]
    fn biases_of(&self, (row, first): (usize, usize)) -> [f32; SIDE] {
        let columns = &self.candidates.columns(row)[first..];
        let mut biases = [0f32; SIDE];
        for (c, bias) in biases.iter_mut().enumerate() {
            *bias = self.encoder.bias(columns[c.min(columns.len() - 1)] as usize);
        }
        biases
    }
}

/// Moves the best `k` positive pairs to the front, in order, and returns how many they are.
fn best(columns: &mut [u32], values: &mut [f32], k: usize) -> usize {
    let kept = order::retain(columns, values, |v| v > 0.0);
    let (columns, values) = (&mut columns[..kept], &mut values[..kept]);
    if kept > k {
        let kth = order::kth(values, |v| v, k);
        return order::retain_best(columns, values, |v| v, k, kth);
    }
    kept
}
