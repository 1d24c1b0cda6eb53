//! Fixed point from the bits of floats, in whole numbers: what the processor computes in f64, without it.
//!
//! A float is its mantissa (24 bits) times a power of two, its square 48 bits times another: scaled by a power of two
//! and rounded to the nearest whole number, ties to even, both are exact here and there.

use cubecl::prelude::*;

/// The mantissa of a float, of which these are the bits.
#[cube]
pub(super) fn mantissa(bits: u32) -> u64 {
    let fraction = bits & 0x7f_ffffu32;
    u64::cast_from(select(bits & 0x7f80_0000u32 == 0u32, fraction, fraction | 0x80_0000u32))
}

/// The power of two that belongs to it, once the float is multiplied by `2^log2`.
#[cube]
pub(super) fn exponent(bits: u32, log2: i32) -> i32 {
    i32::cast_from(max((bits >> 23u32) & 0xffu32, 1u32)) + log2 - 150i32
}

/// The whole number nearest to `mantissa·2^exponent`, ties to even. Means nothing from 2⁶³ on.
#[cube]
pub(super) fn rounded(mantissa: u64, exponent: i32) -> u64 {
    let mut whole = mantissa << u64::cast_from(u32::cast_from(min(max(exponent, 0i32), 63i32)));
    if exponent < 0i32 {
        // Mantissas have 48 bits: whatever moves them further leaves none, and no half.
        let down = u64::cast_from(min(u32::cast_from(-exponent), 60u32));
        let half = 1u64 << (down - 1u64);
        whole = mantissa >> down;
        let rest = mantissa - (whole << down);
        let odd = whole & 1u64;
        if rest > half || (rest == half && odd == 1u64) {
            whole += 1u64;
        }
    }
    whole
}

/// The same with the sign of a float, in two's complement.
#[cube]
pub(super) fn signed(whole: u64, bits: u32) -> u64 {
    select(bits >> 31u32 == 1u32, !whole + 1u64, whole)
}

/// Whether `mantissa·2^exponent` is more than 2⁴³, which no activation is; so is what is no number.
#[cube]
pub(super) fn beyond(mantissa: u64, exponent: i32) -> bool {
    exponent > 20i32 || (exponent == 20i32 && mantissa > 0x80_0000u64)
}

/// Whether `square·2^exponent` is 2⁶³ or more.
#[cube]
pub(super) fn too_wide(square: u64, exponent: i32) -> bool {
    let mut wide = false;
    if exponent > 0i32 {
        wide = square >> u64::cast_from(63u32 - min(u32::cast_from(exponent), 63u32)) != 0u64;
    }
    wide
}

/// Bin of a magnitude: half octaves, as `atomflow_workers::stats::histogram`. `log2` is that of values.
#[cube]
pub(super) fn bin(bits: u32, log2: i32, #[comptime] low: i32, #[comptime] bins: i32) -> u32 {
    let upper = select(bits & 0x7f_ffffu32 >= 0x35_04f3u32, 1i32, 0i32);
    // The unit is 2^(20 − log2).
    let octave = i32::cast_from((bits >> 23u32) & 0xffu32) + log2 - 147i32 - low;
    u32::cast_from(min(max(octave * 2i32 + upper, 0i32), bins - 1i32))
}
