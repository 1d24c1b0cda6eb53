//! Fixed point: reals as integers at a recorded power-of-two scale.

/// Adding this to a real below 2^51 leaves its nearest integer (ties to even) in the low bits of the
/// sum: rounding without a call, so that the loop over dimensions vectorises.
const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// Largest scaled magnitude that is accepted for one value: 2^23 times the calibrated norm. Larger is
/// not an activation; and below it, 2^20 values add up in an i64 without overflow.
const SCALED_MAX: f64 = (1u64 << 43) as f64;

/// Whether a scaled value is too large to be summed, or no number.
#[inline(always)]
pub(crate) fn beyond(scaled: f64) -> bool {
    scaled.is_nan() || scaled.abs() > SCALED_MAX
}

/// Exponent of the fixed-point sum of cosines, which have no unit.
pub const COSINE_LOG2: i32 = 30;

/// The scales of a run. A sum of values is `q * 2^-value_log2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FixedPoint {
    /// Exponent of values: activations and coordinates.
    pub value_log2: i32,
}

impl FixedPoint {
    /// From the calibrated root-mean-square norm of the activations: 2^20 steps per unit, the unit
    /// being the power of two nearest to it.
    ///
    /// A coordinate is then known to 1e-6 of the norm; sums of 2^40 norms fit into 64 bits.
    pub fn from_rms_norm(rms: f64) -> Self {
        let unit = if rms.is_finite() && rms > 0.0 { rms.log2().round().clamp(-100.0, 100.0) } else { 0.0 };
        FixedPoint { value_log2: 20 - unit as i32 }
    }

    /// The unit as a power of two: the one nearest to the norm.
    pub const fn unit_log2(self) -> i32 {
        20 - self.value_log2
    }

    /// Exponent of sums over rows of squares and products of whole vectors: 2^20 steps per unit².
    pub const fn row_square_log2(self) -> i32 {
        20 - 2 * self.unit_log2()
    }

    /// Exponent of sums of squares of single activations: 2^30 steps per unit², because activations are
    /// often a hundredth of the norm and their squares a ten-thousandth.
    pub const fn code_square_log2(self) -> i32 {
        30 - 2 * self.unit_log2()
    }
}

/// `2^exponent`.
pub fn pow2(exponent: i32) -> f64 {
    f64::powi(2.0, exponent)
}

/// The integer nearest to `scaled`, ties to even; exact for `|scaled| < 2^51`.
#[inline(always)]
pub(crate) fn round_small(scaled: f64) -> i64 {
    ((scaled + ROUNDER).to_bits() as i64).wrapping_sub(ROUNDER.to_bits() as i64)
}

/// The integer nearest to `scaled`, ties to even, any magnitude.
pub(crate) fn round_wide(scaled: f64) -> i128 {
    scaled.round_ties_even() as i128
}

/// The real that `q` stands for.
pub fn real(q: i64, exponent: i32) -> f64 {
    q as f64 * pow2(-exponent)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unit_is_the_nearest_power_of_two() {
        for (rms, unit) in [(1.0, 0), (152.0, 7), (1.5, 1), (0.01, -7), (0.0, 0), (f64::NAN, 0)] {
            assert_eq!(FixedPoint::from_rms_norm(rms).unit_log2(), unit, "{rms}");
        }
    }

    proptest! {
        #[test]
        fn fast_rounding_is_rounding(scaled in -(2f64.powi(50))..2f64.powi(50), half in -1000i64..1000) {
            prop_assert_eq!(round_small(scaled), scaled.round_ties_even() as i64);
            let tie = half as f64 + 0.5;
            prop_assert_eq!(round_small(tie), tie.round_ties_even() as i64);
        }
    }
}
