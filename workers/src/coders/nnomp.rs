//! Non-negative orthogonal matching pursuit: OMP whose least squares is non-negative (Lawson & Hanson
//! 1974, on the chosen atoms alone).

use super::{
    Coder, Gram, Room,
    peak::{NOTHING_LEFT, largest_unused},
};
use crate::{kernels::Real, linear::cholesky::Cholesky};

/// At most `k` choices; it ends when no atom points into the direction of the residual.
#[derive(Debug, Clone, Copy)]
pub struct Nnomp {
    /// Most pairs of a row.
    pub k: usize,
}

impl<R: Real> Coder<R> for Nnomp {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        let mut floor = R::ZERO;
        for step in 0..self.k {
            let Some((j, peak)) = largest_unused(q, true, floor, room) else { break };
            if step == 0 {
                floor = peak * R::of(NOTHING_LEFT);
            }
            room.admit(gram, j);
            // Each round but the last takes an atom out.
            for _ in 0..=self.k {
                if !room.towards_least_squares(gram, q) {
                    break;
                }
            }
        }
    }
}

impl<R: Real> Room<R> {
    /// Goes towards the least squares solution until a coefficient would become negative; the atoms at 0
    /// leave then. True if some left.
    #[inline(always)]
    fn towards_least_squares(&mut self, gram: Gram<R>, q: &mut [R]) -> bool {
        let Some(move_by) = self.newton(gram, q) else {
            // The newest atom is a combination of the others.
            self.dismiss_zeros(gram);
            return false;
        };
        let share = self.share_until_zero(&move_by);
        for (at, &delta) in move_by.iter().enumerate() {
            let value = (share * delta) + self.values[at];
            let stays = share == R::ONE || value > R::ZERO;
            let value = if stays { value } else { R::ZERO };
            self.subtract(gram, at, value - self.values[at], q);
            self.values[at] = value;
        }
        self.scratch[1] = move_by;
        share < R::ONE && self.dismiss_zeros(gram)
    }

    /// What leads from the coefficients to the least squares ones.
    #[inline(always)]
    fn newton(&mut self, gram: Gram<R>, q: &[R]) -> Option<Vec<R>> {
        let mut factor = Cholesky::default();
        for at in 0..self.latents.len() {
            let row = self.row(gram, at);
            let cross = self.latents[..at].iter().map(|&l| row[l as usize]);
            if !factor.push(cross, row[self.latents[at] as usize]) {
                return None;
            }
        }
        let mut step = std::mem::take(&mut self.scratch[1]);
        step.clear();
        for &latent in &self.latents {
            step.push(q[latent as usize]);
        }
        factor.solve(&mut step);
        Some(step)
    }

    /// How much of the move keeps all coefficients at or above 0.
    #[inline(always)]
    fn share_until_zero(&self, move_by: &[R]) -> R {
        let mut share = R::ONE;
        for (&value, &delta) in self.values.iter().zip(move_by) {
            if value + delta < R::ZERO {
                let until = value / -delta;
                share = if until < share { until } else { share };
            }
        }
        share
    }

    /// Takes atoms without coefficient out; true if there were any.
    #[inline(always)]
    pub(super) fn dismiss_zeros(&mut self, gram: Gram<R>) -> bool {
        let before = self.values.len();
        for at in (0..before).rev() {
            if self.values[at] == R::ZERO {
                self.dismiss(gram, at);
            }
        }
        self.values.len() < before
    }
}
