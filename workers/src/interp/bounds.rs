//! What the lists of a latent may still take, in words that a card compares: never less than they do take.

use super::samples::{IMPORTANCE_STREAM, List, UNIFORM_STREAM};
use crate::random::mix;

/// Share of an order of `importance` that rounding cannot reach.
const MARGIN: f32 = 0.999_99;

/// What the lists of one latent may still take of the contexts of one split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// The least peak that is among the largest, as bits.
    pub top: u32,
    /// The largest upper half of an order of `uniform`.
    pub uniform: u32,
    /// The largest order of `importance`, as the bits of a normal f32; all bits are no bound.
    pub importance: u32,
}

/// Of the contexts to explain with and of those to score.
pub type Bounds = [Bound; 2];

impl Bound {
    /// Of lists with these limits and capacities.
    #[allow(clippy::cast_possible_truncation, reason = "upper halves, and numbers that were compared before")]
    pub(crate) fn of(limits: [u64; 3], capacities: [usize; 3]) -> Bound {
        let of = |list: List| Some(limits[list as usize]).filter(|_| capacities[list as usize] > 0);
        let least_peak = |limit| u32::MAX - u64::min(limit, u64::from(u32::MAX)) as u32;
        Bound {
            top: of(List::Top).map_or(u32::MAX, least_peak),
            uniform: of(List::Uniform).map_or(0, |limit| (limit >> 32) as u32),
            importance: of(List::Importance).map_or(f32::MIN_POSITIVE.to_bits(), upwards),
        }
    }

    /// Whether a list may take a context. The kernel computes the same, number by number.
    #[allow(clippy::cast_possible_truncation, reason = "upper bits")]
    #[allow(clippy::cast_precision_loss, reason = "24 bits are exact")]
    pub fn may_take(&self, context_hash: u64, latent: u32, peak: f32) -> bool {
        let draw = |stream: u64| mix(context_hash ^ mix(stream ^ u64::from(latent)));
        // −ln(u) ≥ 1 − u, and this is no more than 1 − u.
        let least = (0xFF_FFFF - (draw(IMPORTANCE_STREAM) >> 40) as u32) as f32 / 16_777_216.0;
        let open = self.importance == u32::MAX || peak < f32::MIN_POSITIVE;
        peak.to_bits() >= self.top
            || (draw(UNIFORM_STREAM) >> 33) as u32 <= self.uniform
            || open
            || least * MARGIN <= f32::from_bits(self.importance) * peak
    }
}

/// The bits of an f32 that is not below the order `limit` of `importance`.
#[allow(clippy::cast_possible_truncation, reason = "corrected upwards")]
fn upwards(limit: u64) -> u32 {
    let order = f64::from_bits(limit);
    if order.is_nan() || order > f64::from(f32::MAX) {
        return u32::MAX;
    }
    let near = order as f32;
    let above = if f64::from(near) < order { near.next_up() } else { near };
    above.max(f32::MIN_POSITIVE).to_bits()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::random::hash;

    proptest! {
        /// Whatever a list takes is within its bound.
        #[test]
        fn a_bound_is_never_too_small(
            seed in any::<u64>(),
            latent in 0u32..1000,
            log2 in prop_oneof![-149f32..127.0, -3f32..3.0],
            // How far above the order the limit lies: ties, the next number, far.
            above in prop_oneof![Just(0u64), Just(1), 0u64..1 << 40],
            capacities in prop::array::uniform3(0usize..2),
        ) {
            let (context_hash, peak) = (hash(&[seed]), log2.exp2());
            let orders = List::ALL.map(|list| list.order(context_hash, latent, peak));
            for list in List::ALL {
                let mut limits = [0; 3];
                limits[list as usize] = orders[list as usize].saturating_add(above);
                let takes = capacities[list as usize] > 0;
                let bound = Bound::of(limits, capacities);
                prop_assert!(!takes || bound.may_take(context_hash, latent, peak), "{list:?} {bound:?}");
            }
            let open = Bound::of([u64::MAX; 3], [1; 3]);
            prop_assert!(open.may_take(context_hash, latent, peak));
        }
    }

    #[test]
    fn full_lists_and_lists_of_nothing_take_little() {
        let taken = |bound: Bound| (0..10_000).filter(|&l| bound.may_take(hash(&[3]), l, 1.0)).count();
        let order = (-f64::ln(0.99)).to_bits();
        let limits = [u64::from(u32::MAX - 2f32.to_bits()), u64::MAX / 200, order];
        let some = taken(Bound::of(limits, [1; 3]));
        assert!((100..400).contains(&some), "{some}");
        assert_eq!(taken(Bound::of([u64::MAX; 3], [0; 3])), 0);
    }
}
