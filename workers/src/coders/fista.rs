//! The lasso by accelerated proximal gradient (Beck & Teboulle 2009), with the step length found by
//! backtracking and the momentum restarted when it points uphill (O'Donoghue & Candès 2015).

use super::{Coder, Gram, Room, peak::size};
use crate::kernels::{Real, vector};

/// `min ½‖x − αD‖² + λ‖α‖₁`.
#[derive(Debug, Clone, Copy)]
pub struct Fista<R> {
    /// Weight of `‖α‖₁`.
    pub lambda: R,
    /// Coefficients are not negative.
    pub positive: bool,
    /// Optimality conditions hold up to this share of `lambda`.
    pub tolerance: R,
}

/// Most iterations; a row that is not finite never settles.
const ITERATIONS: usize = 5000;

/// A point and the products of its residual with all atoms.
struct Point<R> {
    codes: Vec<R>,
    q: Vec<R>,
}

impl<R: Real> Coder<R> for Fista<R> {
    #[inline(always)]
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>) {
        room.clear();
        let n = q.len();
        let mut last = Point { codes: vec![R::ZERO; n], q: q.to_vec() };
        let mut ahead = Point { codes: vec![R::ZERO; n], q: q.to_vec() };
        let (mut places, mut curvature, mut t) = (vec![usize::MAX; n], R::ONE, 1f64);
        for _ in 0..ITERATIONS {
            let next = self.step(gram, &ahead, &mut curvature, &mut places, room);
            let uphill = self.turns(&ahead, &next, &last);
            let t_next = if uphill { 1.0 } else { 0.5 * (1.0 + (1.0 + 4.0 * t * t).sqrt()) };
            let momentum = if uphill { R::ZERO } else { R::of((t - 1.0) / t_next) };
            extrapolate(&last.codes, &next.codes, momentum, &mut ahead.codes);
            extrapolate(&last.q, &next.q, momentum, &mut ahead.q);
            (last, t) = (next, t_next);
            if self.settled(&last) {
                break;
            }
        }
        q.copy_from_slice(&last.q);
        for (at, &latent) in room.latents.iter().enumerate() {
            room.values[at] = last.codes[latent as usize];
        }
    }
}

impl<R: Real> Fista<R> {
    /// A proximal step from `from`; `curvature` grows until it bounds what the step met.
    #[inline(always)]
    fn step(
        &self,
        gram: Gram<R>,
        from: &Point<R>,
        curvature: &mut R,
        places: &mut [usize],
        room: &mut Room<R>,
    ) -> Point<R> {
        loop {
            let mut next = Point { codes: from.codes.clone(), q: from.q.clone() };
            let (mut image, mut square) = (R::ZERO, R::ZERO);
            for (j, place) in places.iter_mut().enumerate() {
                let value = self.shrunk(from.codes[j] + from.q[j] / *curvature, self.lambda / *curvature);
                let delta = value - from.codes[j];
                if delta != R::ZERO {
                    if *place == usize::MAX {
                        *place = room.latents.len();
                        room.admit(gram, j);
                    }
                    next.codes[j] = value;
                    room.subtract(gram, *place, delta, &mut next.q);
                    square = delta.fma(delta, square);
                }
            }
            for j in 0..next.codes.len() {
                image = (next.codes[j] - from.codes[j]).fma(from.q[j] - next.q[j], image);
            }
            if image <= *curvature * square * R::of(1.0 + 1e-6) || !image.is_finite() {
                return next;
            }
            *curvature = *curvature * R::of(2.0);
        }
    }

    #[inline(always)]
    fn shrunk(&self, u: R, by: R) -> R {
        if u > by {
            u - by
        } else if !self.positive && u < -by {
            u + by
        } else {
            R::ZERO
        }
    }

    /// Whether the momentum and the last step disagree.
    #[inline(always)]
    fn turns(&self, ahead: &Point<R>, next: &Point<R>, last: &Point<R>) -> bool {
        let mut sum = R::ZERO;
        for j in 0..next.codes.len() {
            sum = (ahead.codes[j] - next.codes[j]).fma(next.codes[j] - last.codes[j], sum);
        }
        sum > R::ZERO
    }

    /// Whether the optimality conditions hold.
    #[inline(always)]
    fn settled(&self, point: &Point<R>) -> bool {
        let slack = self.lambda * self.tolerance;
        let mut worst = R::ZERO;
        for (&value, &q) in point.codes.iter().zip(&point.q) {
            let off = if value == R::ZERO {
                size(q, self.positive) - self.lambda
            } else {
                size(q - if value > R::ZERO { self.lambda } else { -self.lambda }, false)
            };
            worst = if off > worst { off } else { worst };
        }
        worst <= slack
    }
}

/// `out = next + momentum·(next − last)`.
#[inline(always)]
fn extrapolate<R: Real>(last: &[R], next: &[R], momentum: R, out: &mut [R]) {
    out.copy_from_slice(next);
    vector::axpy(momentum, next, out);
    vector::axpy(-momentum, last, out);
}
