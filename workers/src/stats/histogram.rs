//! The log histogram of activation magnitudes: 40 half-octave bins at fixed places.

use atomflow_schemas::partial::{HISTOGRAM_BINS, HISTOGRAM_LOW_LOG2};

use super::fixed::{FixedPoint, pow2};

/// Bin of a magnitude. Bin b covers `[low * 2^(b/2), low * 2^((b+1)/2))`; the first and the last bin
/// also take what lies beyond. Computed from the bits of the float: no logarithm, the same everywhere.
#[inline]
pub(crate) fn bin(magnitude: f32, fixed: FixedPoint) -> usize {
    let bits = magnitude.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    // The f32 nearest to sqrt(2) has mantissa 0x3504F3.
    let upper_half = i32::from(bits & 0x7F_FFFF >= 0x35_04F3);
    let half_octaves = 2 * (exponent - fixed.unit_log2() - HISTOGRAM_LOW_LOG2) + upper_half;
    half_octaves.clamp(0, HISTOGRAM_BINS as i32 - 1) as usize
}

/// Lower edge of bin 0, in input units.
pub fn low_edge(fixed: FixedPoint) -> f64 {
    pow2(HISTOGRAM_LOW_LOG2 + fixed.unit_log2())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bins_follow_the_logarithm(log2 in -30f32..30.0, value_log2 in 0i32..40) {
            let fixed = FixedPoint { value_log2 };
            let magnitude = log2.exp2();
            let exact = (2.0 * (f64::from(magnitude).log2() - low_edge(fixed).log2())).floor();
            let near_edge = (2.0 * (f64::from(magnitude).log2() - low_edge(fixed).log2())).fract().abs() < 1e-4;
            prop_assume!(!near_edge);
            prop_assert_eq!(bin(magnitude, fixed), exact.clamp(0.0, HISTOGRAM_BINS as f64 - 1.0) as usize);
        }
    }
}
