//! Orthogonal matching pursuit (Pati et al. 1993), as batch-OMP (Rubinstein et al. 2008): after each
//! choice the least squares solution on all chosen atoms, by a Cholesky factor that grows with them.

use super::{
    Coder, Gram, Room,
    peak::{NOTHING_LEFT, largest_unused},
};
use crate::{kernels::Real, linear::cholesky::Cholesky};

/// At most `k` atoms. It ends earlier when nothing is left of the row, or when the best atom is a
/// combination of those chosen: on such a support coefficients have no bound.
#[derive(Debug, Clone, Copy)]
pub struct Omp {
    /// Most pairs of a row.
    pub k: usize,
}

impl<R: Real> Coder<R> for Omp {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        let mut at_start = std::mem::take(&mut room.scratch[0]);
        at_start.clear();
        at_start.extend_from_slice(q);
        let (mut factor, mut floor) = (Cholesky::default(), R::ZERO);
        for step in 0..self.k {
            let Some((j, peak)) = largest_unused(q, false, floor, room) else { break };
            if step == 0 {
                floor = peak * R::of(NOTHING_LEFT);
            }
            room.admit(gram, j);
            let row = room.row(gram, step);
            if !factor.push(room.latents[..step].iter().map(|&l| row[l as usize]), row[j]) {
                room.dismiss(gram, step);
                break;
            }
            room.fit(gram, &factor, &at_start, q);
        }
        room.scratch[0] = at_start;
    }
}

impl<R: Real> Room<R> {
    /// Least squares coefficients on the support whose factor is given; `q` follows.
    #[inline(always)]
    fn fit(&mut self, gram: Gram<R>, factor: &Cholesky<R>, at_start: &[R], q: &mut [R]) {
        let mut solution = std::mem::take(&mut self.scratch[1]);
        solution.clear();
        for &latent in &self.latents {
            solution.push(at_start[latent as usize]);
        }
        factor.solve(&mut solution);
        for (at, &value) in solution.iter().enumerate() {
            self.subtract(gram, at, value - self.values[at], q);
            self.values[at] = value;
        }
        self.scratch[1] = solution;
    }
}
