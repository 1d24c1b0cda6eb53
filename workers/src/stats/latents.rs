//! Integer sums per latent.

use atomflow_schemas::partial::HISTOGRAM_BINS;

use super::{
    fixed::{FixedPoint, beyond, pow2, round_small},
    histogram,
};

/// What one shard says about one latent; kept together because a code touches all of it.
#[derive(Debug, Clone, PartialEq)]
pub struct LatentSums {
    /// Rows on which it fires.
    pub fires: i64,
    /// Contexts in which it fires.
    pub contexts_with_fire: i64,
    /// Fixed-point sum of its activations.
    pub sum: i64,
    /// Fixed-point sum of their squares.
    pub sum_sq: i64,
    /// Rows of the co-activation sample on which it fires.
    pub fires_sampled: i64,
    /// Its largest magnitude.
    pub max: f32,
    /// How many magnitudes lie in each bin.
    pub histogram: [u32; HISTOGRAM_BINS],
    /// Whether a value or a sum left its range.
    pub overflow: bool,
}

impl LatentSums {
    /// Of a latent that never fires.
    pub const ZERO: LatentSums = LatentSums {
        fires: 0,
        contexts_with_fire: 0,
        sum: 0,
        sum_sq: 0,
        fires_sampled: 0,
        max: 0.0,
        histogram: [0; HISTOGRAM_BINS],
        overflow: false,
    };

    fn add(&mut self, other: &LatentSums) {
        let (sum, over) = self.sum.overflowing_add(other.sum);
        let (sum_sq, over_sq) = self.sum_sq.overflowing_add(other.sum_sq);
        (self.sum, self.sum_sq) = (sum, sum_sq);
        self.overflow |= over | over_sq | other.overflow;
        self.fires += other.fires;
        self.contexts_with_fire += other.contexts_with_fire;
        self.fires_sampled += other.fires_sampled;
        self.max = self.max.max(other.max);
        self.histogram.iter_mut().zip(&other.histogram).for_each(|(bin, more)| *bin += more);
    }
}

/// Sums of all latents of a dictionary.
#[derive(Debug)]
pub(crate) struct LatentTable {
    fixed: FixedPoint,
    value_scale: f64,
    square_scale: f64,
    sums: Vec<LatentSums>,
}

/// Squares from here on are none of 64 bits.
const SQUARE_END: f64 = (1u64 << 63) as f64;

impl LatentTable {
    pub(crate) fn new(n_latents: usize, fixed: FixedPoint) -> Self {
        LatentTable {
            fixed,
            value_scale: pow2(fixed.value_log2),
            square_scale: pow2(fixed.code_square_log2()),
            sums: vec![LatentSums::ZERO; n_latents],
        }
    }

    /// Counts the codes of one kept row.
    #[inline]
    pub(crate) fn add_row(&mut self, latents: &[u32], values: &[f32], sampled: bool) {
        for (&latent, &value) in latents.iter().zip(values) {
            self.add(latent, value, sampled);
        }
    }

    #[inline]
    fn add(&mut self, latent: u32, value: f32, sampled: bool) {
        let scaled = f64::from(value) * self.value_scale;
        let square = f64::from(value) * f64::from(value) * self.square_scale;
        let sums = &mut self.sums[latent as usize];
        let (sum, over) = sums.sum.overflowing_add(round_small(scaled));
        let (sum_sq, over_sq) = sums.sum_sq.overflowing_add(square.round_ties_even() as i64);
        sums.overflow |= over | over_sq | beyond(scaled) | (square >= SQUARE_END);
        sums.fires += 1;
        sums.fires_sampled += i64::from(sampled);
        sums.sum = sum;
        sums.sum_sq = sum_sq;
        sums.max = sums.max.max(value.abs());
        sums.histogram[histogram::bin(value.abs(), self.fixed)] += 1;
    }

    /// The latent fired in one more context.
    pub(crate) fn add_context(&mut self, latent: u32) {
        self.sums[latent as usize].contexts_with_fire += 1;
    }

    /// Adds what was counted elsewhere, by latent.
    pub(crate) fn add_all(&mut self, others: &[LatentSums]) {
        self.sums.iter_mut().zip(others).for_each(|(sums, other)| sums.add(other));
    }

    /// Latents that fired, ascending, with their sums.
    pub(crate) fn fired(&self) -> impl Iterator<Item = (usize, &LatentSums)> {
        self.sums.iter().enumerate().filter(|(_, sums)| sums.fires > 0)
    }

    /// Whether a sum left its range, so that the table is useless.
    pub(crate) fn overflowed(&self) -> bool {
        self.sums.iter().any(|sums| sums.overflow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_the_rounded_values() {
        let fixed = FixedPoint::from_rms_norm(1.0);
        let mut table = LatentTable::new(2, fixed);
        for value in [0.25f32, 0.5, -1.0] {
            table.add_row(&[1], &[value], value > 0.3);
        }
        let (latent, sums) = table.fired().next().unwrap();
        assert_eq!((latent, sums.fires, sums.fires_sampled, sums.max), (1, 3, 1, 1.0));
        assert_eq!(sums.sum, -(1 << 18));
        assert_eq!(sums.sum_sq, (1 << 26) + (1 << 28) + (1 << 30));
        assert_eq!(sums.histogram.iter().sum::<u32>(), 3);
    }

    #[test]
    fn what_is_not_an_activation_is_refused() {
        let mut table = LatentTable::new(1, FixedPoint::from_rms_norm(1.0));
        table.add_row(&[0], &[1e30], false);
        assert!(table.overflowed());
        // It fits, its square does not.
        let mut table = LatentTable::new(1, FixedPoint::from_rms_norm(1.0));
        table.add_row(&[0], &[1e5], false);
        assert!(table.overflowed());
    }
}
