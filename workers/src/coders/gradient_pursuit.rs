//! Gradient pursuit (Blumensath & Davies 2008): like OMP, with one gradient step on the chosen atoms in
//! the place of the least squares solution.
//!
//! `a = ⟨c, r⟩/⟨c, c⟩` is the best length of the step, `c` the step's image. With `positive`, codes are
//! cut at 0 (`saprmarks/dictionary_learning`, `grad_pursuit.py`).

use super::{
    Coder, Gram, Room,
    peak::{NOTHING_LEFT, largest_unused},
};
use crate::kernels::{Real, vector};

/// At most `k` atoms.
#[derive(Debug, Clone, Copy)]
pub struct GradientPursuit {
    /// Most pairs of a row.
    pub k: usize,
    /// Coefficients are not negative.
    pub positive: bool,
}

impl<R: Real> Coder<R> for GradientPursuit {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        let mut floor = R::ZERO;
        for step in 0..self.k {
            let Some((j, peak)) = largest_unused(q, self.positive, floor, room) else { break };
            if step == 0 {
                floor = peak * R::of(NOTHING_LEFT);
            }
            room.admit(gram, j);
            room.descend(gram, self.positive, q);
        }
    }
}

impl<R: Real> Room<R> {
    /// One step of steepest descent on the support.
    #[inline(always)]
    fn descend(&mut self, gram: Gram<R>, positive: bool, q: &mut [R]) {
        let mut slope = std::mem::take(&mut self.scratch[1]);
        slope.clear();
        for &latent in &self.latents {
            slope.push(q[latent as usize]);
        }
        let length = vector::dot(&slope, &slope) / self.image_norm(gram, &slope);
        if length.is_finite() {
            for (at, &g) in slope.iter().enumerate() {
                let value = length.fma(g, self.values[at]);
                let value = if positive && value < R::ZERO { R::ZERO } else { value };
                self.subtract(gram, at, value - self.values[at], q);
                self.values[at] = value;
            }
        }
        self.scratch[1] = slope;
    }

    /// `‖Σ slope·atom‖²`.
    #[inline(always)]
    fn image_norm(&self, gram: Gram<R>, slope: &[R]) -> R {
        let mut total = R::ZERO;
        for (at, &g) in slope.iter().enumerate() {
            let row = self.row(gram, at);
            let mut sum = R::ZERO;
            for (&latent, &other) in self.latents.iter().zip(slope) {
                sum = row[latent as usize].fma(other, sum);
            }
            total = g.fma(sum, total);
        }
        total
    }
}
