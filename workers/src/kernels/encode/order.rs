//! Order statistics of short lists of candidates, and cutting a list without changing its order.

use crate::kernels::Real;

/// A bound at or below the k-th largest value, and how many values reach it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Near<R> {
    pub(super) bound: R,
    pub(super) count: usize,
}

/// Halvings of the interval in which the k-th largest is looked for: 2⁻¹⁶ of it is left.
const HALVINGS: usize = 16;

/// Looks for the k-th largest from below by bisection: a pass over a hundred values is a few vector
/// instructions, where a quickselect mispredicts a branch on every other value.
///
/// It ends when no more than `enough` values beyond `k` reach the bound. At least `k` values must reach `floor`; then at least `k` reach the bound.
#[inline(always)]
pub(super) fn near_kth<R: Real>(
    values: &[R],
    rank: impl Fn(R) -> R,
    k: usize,
    enough: usize,
    floor: R,
) -> Near<R> {
    let mut high = floor;
    for &v in values {
        let v = rank(v);
        high = if v > high { v } else { high };
    }
    let mut near = Near { bound: floor, count: values.len() };
    for _ in 0..HALVINGS {
        if near.count <= k + enough {
            break;
        }
        let middle = near.bound + (high - near.bound) * R::of(0.5);
        let count = values.iter().fold(0u32, |n, &v| n + u32::from(rank(v) >= middle)) as usize;
        if count >= k {
            near = Near { bound: middle, count };
        } else {
            high = middle;
        }
    }
    near
}

/// The k-th largest value, `1 ≤ k ≤ values.len()`.
pub(super) fn kth<R: Real>(values: &[R], rank: impl Fn(R) -> R, k: usize) -> R {
    let mut ranks: Vec<R> = values.iter().map(|&v| rank(v)).collect();
    let descending = |a: &R, b: &R| b.partial_cmp(a).unwrap_or(std::cmp::Ordering::Equal);
    *ranks.select_nth_unstable_by(k - 1, descending).1
}

/// Moves the pairs to keep to the front, in order, and returns how many they are.
#[inline(always)]
pub(super) fn retain<R: Real>(
    columns: &mut [u32],
    values: &mut [R],
    mut keep: impl FnMut(R) -> bool,
) -> usize {
    let mut kept = 0;
    for at in 0..columns.len().min(values.len()) {
        let (column, value) = (columns[at], values[at]);
        (columns[kept], values[kept]) = (column, value);
        kept += usize::from(keep(value));
    }
    kept
}

/// Keeps exactly the best `k` of at least `k`, whose k-th largest is `kth`; the first win ties.
#[inline(always)]
pub(super) fn retain_best<R: Real>(
    columns: &mut [u32],
    values: &mut [R],
    rank: impl Fn(R) -> R,
    k: usize,
    kth: R,
) -> usize {
    let above = values.iter().fold(0usize, |n, &v| n + usize::from(rank(v) > kth));
    let mut ties = k - above;
    retain(columns, values, |v| {
        let rank = rank(v);
        let tie = rank == kth && ties > 0;
        ties -= usize::from(tie);
        rank > kth || tie
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_lies_just_below_the_kth() {
        let values: Vec<f32> = (0..200).map(|i| ((i * 7919) % 1009) as f32).collect();
        for k in [1, 5, 32, 199, 200] {
            let near = near_kth(&values, |v| v, k, 4, 0.0);
            assert_eq!(near.count, values.iter().filter(|&&v| v >= near.bound).count());
            assert!(near.count >= k && near.bound <= kth(&values, |v| v, k), "{k} {near:?}");
            assert!(near.count <= k + 8, "{k} {near:?}");
        }
    }

    #[test]
    fn the_first_win_ties() {
        let (mut columns, mut values) = ([0, 1, 2, 3, 4], [1.0f32, 2.0, 2.0, 3.0, 2.0]);
        let kth = kth(&values, |v| v, 3);
        let kept = retain_best(&mut columns, &mut values, |v| v, 3, kth);
        assert_eq!((&columns[..kept], &values[..kept]), (&[1, 2, 3][..], &[2.0, 2.0, 3.0][..]));
    }
}
