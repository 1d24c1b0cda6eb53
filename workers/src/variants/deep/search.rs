//! Codes of the top level: Landweber steps through all levels, each followed by the soft threshold.

use rayon::prelude::*;

use super::stack::Packed;
use crate::kernels::Real;

/// Rows of a task.
const TASK_ROWS: usize = 96;

/// `min ½‖x − D₁φ(D₂φ(…z))‖² + λ‖z‖₁`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Search {
    pub(super) lambda: f64,
    /// Steps from zero.
    pub(super) rounds: usize,
}

/// Rows where they stand.
struct Standing<R> {
    codes: Vec<R>,
    /// Minus the gradient of the error, `[rows, n_latents]`.
    pull: Vec<R>,
    /// Per row.
    cost: Vec<f64>,
}

impl Search {
    /// Codes of `x`, `[rows, d_in]`; `curvature` is that of `stack`. A row's codes depend on that row
    /// alone. Runs on the current rayon pool.
    pub(super) fn codes<R: Real>(&self, stack: &Packed<R>, curvature: R, x: &[R]) -> Vec<R> {
        let d = stack.levels.first().map_or(1, |level| level.width);
        let blocks = x.par_chunks((TASK_ROWS * d).max(1));
        blocks.map(|x| self.block(stack, curvature, x, d)).flatten_iter().collect()
    }

    /// A row moves only to where its cost is not higher: with links that are linear every step is, with
    /// ReLU one that makes units change sides may not be, and the row's step length is halved.
    fn block<R: Real>(&self, stack: &Packed<R>, curvature: R, x: &[R], d: usize) -> Vec<R> {
        let (rows, n) = (x.len() / d, stack.levels.last().map_or(0, |level| level.n));
        let mut steps = vec![R::ONE / curvature; rows];
        let mut at = self.standing(stack, x, d, vec![R::ZERO; rows * n]);
        for _ in 0..self.rounds {
            let next = self.standing(stack, x, d, self.moved(&at, &steps, n, stack.is_relu()));
            for (row, step) in steps.iter_mut().enumerate() {
                if next.cost[row] <= at.cost[row] {
                    at.take(&next, row, n);
                } else {
                    *step = *step * R::of(0.5);
                }
            }
        }
        at.codes
    }

    fn standing<R: Real>(&self, stack: &Packed<R>, x: &[R], d: usize, codes: Vec<R>) -> Standing<R> {
        let pass = stack.forward(codes);
        let e: Vec<R> = x.iter().zip(&pass.x_hat).map(|(&x, &hat)| x - hat).collect();
        let top = stack.levels.len() - 1;
        let pull = stack.pull(&pass, &e, top);
        let (codes, n) = (pass.entering.into_iter().next_back().unwrap_or_default(), stack.levels[top].n);
        let cost = |(e, z): (&[R], &[R])| self.cost(e, z);
        let cost = e.chunks_exact(d).zip(codes.chunks_exact(n)).map(cost).collect();
        Standing { codes, pull, cost }
    }

    /// Of a row with error `e` and codes `z`.
    pub(super) fn cost<R: Real>(&self, e: &[R], z: &[R]) -> f64 {
        let square: f64 = e.iter().map(|e| e.f64() * e.f64()).sum();
        0.5 * square + self.lambda * z.iter().map(|z| z.f64().abs()).sum::<f64>()
    }

    /// `soft(z + step·pull, step·λ)`; not below zero if `positive`.
    fn moved<R: Real>(&self, at: &Standing<R>, steps: &[R], n: usize, positive: bool) -> Vec<R> {
        let rows = at.codes.chunks_exact(n).zip(at.pull.chunks_exact(n)).zip(steps);
        let mut codes = Vec::with_capacity(at.codes.len());
        for ((z, pull), &step) in rows {
            let by = step * R::of(self.lambda);
            codes.extend(z.iter().zip(pull).map(|(&z, &pull)| soft(z + step * pull, by, positive)));
        }
        codes
    }
}

/// `u` drawn towards 0 by `by`.
fn soft<R: Real>(u: R, by: R, positive: bool) -> R {
    if u > by {
        u - by
    } else if !positive && u < -by {
        u + by
    } else {
        R::ZERO
    }
}

impl<R: Real> Standing<R> {
    fn take(&mut self, next: &Standing<R>, row: usize, n: usize) {
        let span = row * n..(row + 1) * n;
        self.codes[span.clone()].copy_from_slice(&next.codes[span.clone()]);
        self.pull[span.clone()].copy_from_slice(&next.pull[span]);
        self.cost[row] = next.cost[row];
    }
}
