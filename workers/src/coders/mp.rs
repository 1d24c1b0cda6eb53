//! Matching pursuit (Mallat & Zhang 1993): the best atom takes its share, and again.

use super::{
    Coder, Gram, Room,
    peak::{NOTHING_LEFT, largest, size},
};
use crate::kernels::Real;

/// `k` steps; an atom can be chosen more than once.
#[derive(Debug, Clone, Copy)]
pub struct Mp {
    /// Number of steps, and the most pairs of a row.
    pub k: usize,
}

impl<R: Real> Coder<R> for Mp {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        let mut floor = R::ZERO;
        for step in 0..self.k {
            let Some((j, peak)) = largest(q, false, floor) else { break };
            if step == 0 {
                floor = peak * R::of(NOTHING_LEFT);
            }
            let at = room.place(gram, j);
            let delta = q[j] / room.row(gram, at)[j];
            if size(delta, false) <= R::ZERO || !delta.is_finite() {
                break;
            }
            room.values[at] += delta;
            room.subtract(gram, at, delta, q);
        }
    }
}
