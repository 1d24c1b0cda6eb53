//! The atom that a row points to most.

use super::Room;
use crate::kernels::Real;

/// Columns whose largest value is found before anybody looks where it is.
const BLOCK: usize = 64;

/// Below this share of the first product there is nothing left of a row but rounding.
pub(super) const NOTHING_LEFT: f64 = 1e-6;

/// `|q|`, or `q` if only positive ones count.
#[inline(always)]
pub(super) fn size<R: Real>(q: R, positive: bool) -> R {
    if positive || q > R::ZERO { q } else { -q }
}

/// The largest `size` of `q` above `floor` and where it is; the lowest of equals.
#[inline(always)]
pub(super) fn largest<R: Real>(q: &[R], positive: bool, floor: R) -> Option<(usize, R)> {
    let (mut best, mut at) = (floor, None);
    for (block, values) in q.chunks(BLOCK).enumerate() {
        let mut any = false;
        for &v in values {
            any |= size(v, positive) > best;
        }
        if any {
            for (i, &v) in values.iter().enumerate() {
                if size(v, positive) > best {
                    (best, at) = (size(v, positive), Some(block * BLOCK + i));
                }
            }
        }
    }
    at.map(|at| (at, best))
}

/// [`largest`] of the latents that are not chosen yet.
#[inline(always)]
pub(super) fn largest_unused<R: Real>(
    q: &mut [R],
    positive: bool,
    floor: R,
    room: &mut Room<R>,
) -> Option<(usize, R)> {
    let mut hidden = std::mem::take(&mut room.scratch[3]);
    hidden.clear();
    for &latent in &room.latents {
        hidden.push(std::mem::replace(&mut q[latent as usize], R::ZERO));
    }
    let found = largest(q, positive, floor);
    for (&latent, &value) in room.latents.iter().zip(&hidden) {
        q[latent as usize] = value;
    }
    room.scratch[3] = hidden;
    found
}
