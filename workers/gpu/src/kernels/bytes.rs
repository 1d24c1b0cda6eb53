//! Numbers in eight bits each, relative to the largest of their row: 32 octaves of eight steps for what has no
//! sign, 16 octaves of eight steps with one. (After Dettmers et al. 2022, arXiv 2110.02861, with a code that is a
//! short float.)
//!
//! A number between two steps becomes one of them by a hash of itself, as often as it is near. To the nearest, a mean
//! over a thousand steps would stand still, since a step changes it by less than half a step of the code. What
//! is a step already stays it, so numbers that were read can be written again: to the same bytes and scales.

use cubecl::prelude::*;

/// Bits of an f32 behind the three of mantissa that are kept.
const CUT: u32 = 20;
/// `1.0`, so cut.
const ONE: u32 = 1016;
/// A quotient is this near to a step where it would be one but for its rounding, in units of its last bit.
const NEAR: u32 = 8;
/// Rows whose largest number is below 2⁻⁹⁴ are zeros: their smallest steps would be no normal numbers.
const LEAST: f32 = f32::from_bits(33 << 23);

/// What is coded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// Of either sign: a sign and 127 steps.
    Signed,
    /// Not negative: 255 steps, and zero only for zero, since the number is divided by.
    Unsigned,
}

impl Sign {
    /// The byte of the largest number of a row, without its sign.
    fn top(self) -> u32 {
        match self {
            Sign::Signed => 127,
            Sign::Unsigned => 255,
        }
    }
}

/// Bytes of a row of `d` numbers: whole words.
pub fn pitch(d: usize) -> usize {
    d.next_multiple_of(4)
}

/// The scale of a row.
pub fn scale(row: &[f32]) -> f32 {
    let most = row.iter().fold(0.0f32, |most, number| if number.abs() > most { number.abs() } else { most });
    if most < LEAST { 0.0 } else { most }
}

/// The byte of number `column` of a row: as `byte` makes it on the card, in the same bits but for the rounding of a quotient.
#[allow(clippy::cast_possible_truncation, reason = "columns are counted in u32, and a byte is below 256")]
pub fn coded(number: f32, column: usize, scale: f32, sign: Sign) -> u8 {
    if scale == 0.0 || number == 0.0 {
        return 0;
    }
    let quotient = (number.abs() / scale).to_bits();
    let near = quotient + NEAR;
    let step = match near & ((1 << CUT) - 1) < 2 * NEAR {
        true => near >> CUT,
        false => (quotient + (mixed(number.to_bits(), column as u32) >> (32 - CUT))) >> CUT,
    };
    let least = u32::from(sign == Sign::Unsigned);
    let byte = step.saturating_sub(ONE - sign.top()).clamp(least, sign.top());
    let negative = number < 0.0 && byte > 0;
    byte as u8 | if negative { 128 } else { 0 }
}

/// The number of a byte.
pub fn decoded(byte: u8, scale: f32, sign: Sign) -> f32 {
    let size = u32::from(byte) & sign.top();
    // Not minus zero, which would be written as zero.
    if size == 0 || scale == 0.0 {
        return 0.0;
    }
    let number = f32::from_bits((size + ONE - sign.top()) << CUT) * scale;
    if u32::from(byte) == size { number } else { -number }
}

/// A well-mixed number of two (the finalizer of MurmurHash3).
fn mixed(bits: u32, column: u32) -> u32 {
    let mut h = bits ^ column.wrapping_mul(0x9e37_79b1);
    h = (h ^ (h >> 16)).wrapping_mul(0x85eb_ca6b);
    h = (h ^ (h >> 13)).wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

/// [`scale`] of a row whose largest number is `most`.
#[cube]
pub(super) fn scale_of(most: f32) -> f32 {
    select(most < LEAST, 0.0f32, most)
}

/// [`coded`] on the card.
#[cube]
pub(super) fn byte(number: f32, column: usize, scale: f32, #[comptime] sign: Sign) -> u32 {
    let top = comptime!(sign.top());
    let mut byte = 0u32;
    if scale > 0.0f32 && number != 0.0f32 {
        let quotient = u32::reinterpret(number.abs() / scale);
        let near = quotient + NEAR;
        let mut h = u32::reinterpret(number) ^ (column as u32 * 0x9e37_79b1u32);
        h = (h ^ (h >> 16u32)) * 0x85eb_ca6bu32;
        h = (h ^ (h >> 13u32)) * 0xc2b2_ae35u32;
        h = h ^ (h >> 16u32);
        let is_near = (near & comptime!((1u32 << CUT) - 1)) < comptime!(2 * NEAR);
        let step = select(is_near, near, quotient + (h >> comptime!(32 - CUT))) >> CUT;
        let below = comptime!(ONE - top);
        let size = select(step > below, step - below, comptime!(u32::from(sign == Sign::Unsigned)));
        byte = select(size > top, top, size);
        if comptime!(sign == Sign::Signed) {
            let negative = number < 0.0f32 && byte > 0u32;
            byte = select(negative, byte | 128u32, byte);
        }
    }
    byte
}

/// [`decoded`] on the card.
#[cube]
pub(super) fn number(byte: u32, scale: f32, #[comptime] sign: Sign) -> f32 {
    let top = comptime!(sign.top());
    let size = byte & top;
    let bits = (size + comptime!(ONE - top)) << CUT;
    let number = select(size == 0u32, 0.0f32, f32::reinterpret(bits) * scale);
    select(size == byte, number, -number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNS: [Sign; 2] = [Sign::Signed, Sign::Unsigned];

    /// Whatever a byte stands for becomes that byte again, whatever the scale.
    #[test]
    fn bytes_are_read_and_written_again() {
        for scale in [1.0f32, 0.3, 1e-9, 7.7e12, 1.2345678e-20, LEAST] {
            for sign in SIGNS {
                for byte in 0..=255u8 {
                    let number = decoded(byte, scale, sign);
                    // A negative zero is not written.
                    let expected = if number == 0.0 { 0 } else { byte };
                    for column in [0, 1, 777] {
                        assert_eq!(coded(number, column, scale, sign), expected, "{scale:e} {sign:?} {byte}");
                    }
                    assert!(number.abs() <= scale && (sign == Sign::Signed || number >= 0.0));
                }
                assert_eq!(decoded(sign.top() as u8, scale, sign), scale);
            }
        }
    }

    #[test]
    fn a_number_becomes_one_of_its_neighbours_as_often_as_it_is_near() {
        for sign in SIGNS {
            let (mut sum, mut count, mut worst) = (0f64, 0f64, 0f64);
            for i in 0..40_000usize {
                let number = 0.4 + 0.55 * (i as f32 / 40_000.0);
                let found = decoded(coded(number, i % 512, 1.0, sign), 1.0, sign);
                sum += f64::from(found) - f64::from(number);
                count += 1.0;
                worst = worst.max(f64::from((found - number).abs() / number));
            }
            assert!(worst < 1.0 / 8.0, "{worst}");
            assert!((sum / count).abs() < 3e-4, "{}", sum / count);
        }
    }

    #[test]
    fn small_numbers_stay_above_zero_where_they_are_divided_by() {
        for number in [1e-30f32, 1e-12, f32::MIN_POSITIVE, 1e-40] {
            assert_eq!(coded(number, 3, 1.0, Sign::Unsigned), 1, "{number:e}");
            assert!(decoded(1, 1.0, Sign::Unsigned) > 0.0);
            assert_eq!(coded(-number, 3, 1.0, Sign::Signed), 0, "{number:e}");
        }
        assert_eq!(coded(0.0, 3, 1.0, Sign::Unsigned), 0);
        assert_eq!(scale(&[1e-29, -2e-30, 0.0]), 0.0);
        assert_eq!(scale(&[0.5, -2.0, 0.0]), 2.0);
    }

    /// A second moment whose gradients become smaller than those of its row follows them. To the nearest it would not:
    /// a thousandth is less than half a step.
    #[test]
    fn a_slow_mean_does_not_stand_still() {
        let (mut row, mut nearest, mut exact) = ([1.0f32; 2], 1.0f32, 1.0f32);
        for t in 0..3000u16 {
            let slower = |mean: f32, square: f32| 0.999 * mean + 0.001 * square;
            let now = [slower(row[0], 0.5 + f32::from(t % 7) / 6.0), slower(row[1], 0.01)];
            let scale = scale(&now);
            row = [0, 1].map(|i| decoded(coded(now[i], i, scale, Sign::Unsigned), scale, Sign::Unsigned));
            let bits = slower(nearest, 0.01).to_bits() + (1 << (CUT - 1));
            nearest = f32::from_bits(bits >> CUT << CUT);
            exact = slower(exact, 0.01);
        }
        assert!((0.5..2.0).contains(&(row[1] / exact)), "{row:?} {exact}");
        assert_eq!(nearest, 1.0);
    }
}
