//! The lasso by coordinate descent on an active set: `min ½‖x − αD‖² + λ‖α‖₁`.
//!
//! `α_j ← soft(α_j + q_j, λ)/G_jj` with `q` the products of the residual (Friedman et al. 2010, Gram
//! form). Sweeps run on the active atoms alone, on their own small Gram matrix, which stays in the first
//! level of cache; all atoms are looked at only when the active ones have settled.

use super::{Coder, Gram, Room};
use crate::kernels::{Real, vector};

/// Settings of the coordinate descent.
#[derive(Debug, Clone, Copy)]
pub struct LassoCd<R> {
    /// Weight of `‖α‖₁`.
    pub lambda: R,
    /// Coefficients are not negative.
    pub positive: bool,
    /// Optimality conditions hold up to this share of `lambda`.
    pub tolerance: R,
}

/// Rounds of admission; a row that is not finite never settles.
const ROUNDS: usize = 200;
/// Sweeps per round, where the last digits are asked for.
const SWEEPS: usize = 2000;
/// Sweeps per round otherwise: nearly parallel atoms, as dictionaries of residual streams have, trade
/// coefficients for thousands of sweeps without the objective noticing.
const ROUGH_SWEEPS: usize = 30;
/// Most atoms admitted per round.
const ADMITTED: usize = 16;

impl<R: Real> LassoCd<R> {
    fn sweeps(&self) -> usize {
        if self.tolerance < R::of(1e-6) { SWEEPS } else { ROUGH_SWEEPS }
    }

    /// How far `q_j` is beyond what a zero coefficient may have.
    #[inline(always)]
    fn size(&self, q: R) -> R {
        if self.positive || q > R::ZERO { q } else { -q }
    }

    #[inline(always)]
    fn soft(&self, u: R) -> R {
        if u > self.lambda {
            u - self.lambda
        } else if !self.positive && u < -self.lambda {
            u + self.lambda
        } else {
            R::ZERO
        }
    }

    /// Admits the atoms that violate optimality most; false if none does.
    #[inline(always)]
    fn admit(&self, gram: Gram<R>, q: &[R], room: &mut Room<R>) -> bool {
        let bound = self.lambda * (R::ONE + self.tolerance);
        let mut best: [(R, usize); ADMITTED] = [(bound, usize::MAX); ADMITTED];
        for (block, qs) in q.chunks(32).enumerate() {
            let floor = best[ADMITTED - 1].0;
            let mut any = false;
            for &v in qs {
                any |= self.size(v) > floor;
            }
            if any {
                self.collect(qs, block * 32, &room.latents, &mut best);
            }
        }
        let found = best.iter().take_while(|(_, j)| *j != usize::MAX);
        let before = room.latents.len();
        for &(_, j) in found {
            room.admit(gram, j);
        }
        room.latents.len() > before
    }

    /// Inserts what exceeds the smallest of `best` into it, largest first; the first wins ties.
    #[inline(always)]
    fn collect(&self, qs: &[R], first: usize, chosen: &[u32], best: &mut [(R, usize); ADMITTED]) {
        for (i, &v) in qs.iter().enumerate() {
            let (size, j) = (self.size(v), first + i);
            if size > best[ADMITTED - 1].0 && !chosen.iter().any(|&c| c as usize == j) {
                let at = best.iter().take_while(|(other, _)| *other >= size).count().min(ADMITTED - 1);
                best.copy_within(at..ADMITTED - 1, at + 1);
                best[at] = (size, j);
            }
        }
    }
}

impl<R: Real> Coder<R> for LassoCd<R> {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        for _ in 0..ROUNDS {
            if !self.admit(gram, q, room) {
                break;
            }
            let mut active = Active::of(gram, q, room);
            active.settle(self);
            active.leave(gram, q, room);
        }
    }
}

/// The active atoms with everything about them close together.
struct Active<R> {
    /// Distance between rows of `small`: a multiple of the vector width.
    stride: usize,
    /// Their Gram matrix, `[m, stride]`.
    small: Vec<R>,
    /// Products of the residual with them, `[stride]`.
    q: Vec<R>,
    /// Their coefficients.
    values: Vec<R>,
}

impl<R: Real> Active<R> {
    #[inline(always)]
    fn of(gram: Gram<R>, q: &[R], room: &mut Room<R>) -> Self {
        let m = room.latents.len();
        let stride = m.next_multiple_of(vector::LANES);
        let [small, near, ..] = &mut room.scratch;
        let (mut small, mut near) = (std::mem::take(small), std::mem::take(near));
        small.clear();
        small.resize(m * stride, R::ZERO);
        near.clear();
        near.resize(stride, R::ZERO);
        for (at, out) in small.chunks_exact_mut(stride).enumerate() {
            let row = room.row(gram, at);
            out.iter_mut().zip(&room.latents).for_each(|(out, &l)| *out = row[l as usize]);
        }
        near.iter_mut().zip(&room.latents).for_each(|(near, &l)| *near = q[l as usize]);
        Active { stride, small, q: near, values: room.values.clone() }
    }

    /// Sweeps until no product moves by more than the tolerance allows.
    #[inline(always)]
    fn settle(&mut self, lasso: &LassoCd<R>) {
        let enough = lasso.lambda * lasso.tolerance * R::of(0.5);
        for _ in 0..lasso.sweeps() {
            let mut moved = R::ZERO;
            for at in 0..self.values.len() {
                let row = &self.small[at * self.stride..][..self.stride];
                let (old, scale) = (self.values[at], row[at]);
                let new = lasso.soft(old.fma(scale, self.q[at])) / scale;
                let delta = new - old;
                if delta != R::ZERO && new.is_finite() {
                    self.values[at] = new;
                    vector::axpy(-delta, row, &mut self.q);
                    let size = if delta > R::ZERO { delta * scale } else { -delta * scale };
                    moved = if size > moved { size } else { moved };
                }
            }
            if moved <= enough {
                break;
            }
        }
    }

    /// Takes the changes out of the products with all atoms; who has coefficient 0 is no longer active.
    #[inline(always)]
    fn leave(self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        for (at, &value) in self.values.iter().enumerate() {
            let delta = value - room.values[at];
            room.values[at] = value;
            if delta != R::ZERO {
                room.subtract(gram, at, delta, q);
            }
        }
        room.dismiss_zeros(gram);
        room.scratch[0] = self.small;
        room.scratch[1] = self.q;
    }
}
