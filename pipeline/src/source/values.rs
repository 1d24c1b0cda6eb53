//! Little-endian values of any element type → f32, noticing what is not finite on the way.

use half::{f16, slice::HalfFloatSliceExt};

use super::Dtype;

/// Values converted at a time: what is written is still in the first cache when it is checked.
const CHUNK: usize = 1024;

/// Widens `out.len()` values; says whether all of them are finite.
pub(super) fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) -> bool {
    match dtype {
        Dtype::F32 => singles(bytes, out),
        Dtype::F16 => halves(bytes, out),
        Dtype::Bf16 => brains(bytes, out),
    }
}

/// Without a branch per value, so that it runs at memory speed.
pub(super) fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values
        .chunks(CHUNK)
        .all(|chunk| !chunk.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT)))
}

/// Widens half floats that lie aligned in memory.
pub(super) fn widen_halves(values: &[f16], out: &mut [f32]) -> bool {
    let mut finite = true;
    for (values, out) in values.chunks(CHUNK).zip(out.chunks_mut(CHUNK)) {
        values.convert_to_f32_slice(out);
        finite &= all_finite_halves(values);
    }
    finite
}

fn all_finite_halves(values: &[f16]) -> bool {
    const EXPONENT: u16 = 0x7c00;
    !values.iter().fold(false, |bad, v| bad | (v.to_bits() & EXPONENT == EXPONENT))
}

fn singles(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut finite = true;
    for (bytes, out) in bytes.chunks(4 * CHUNK).zip(out.chunks_mut(CHUNK)) {
        // The compiler makes this a memcpy.
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(o, b)| *o = f32::from_le_bytes(*b));
        finite &= all_finite(out);
    }
    finite
}

/// By way of a small aligned buffer, where `half` uses the machine's conversion instruction.
fn halves(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut buffer = [f16::ZERO; CHUNK];
    let mut finite = true;
    for (bytes, out) in bytes.chunks(2 * CHUNK).zip(out.chunks_mut(CHUNK)) {
        buffer.iter_mut().zip(bytes.as_chunks().0).for_each(|(h, b)| *h = f16::from_le_bytes(*b));
        finite &= widen_halves(&buffer[..out.len()], out);
    }
    finite
}

fn brains(bytes: &[u8], out: &mut [f32]) -> bool {
    let mut finite = true;
    for (bytes, out) in bytes.chunks(2 * CHUNK).zip(out.chunks_mut(CHUNK)) {
        let bits = |b: &[u8; 2]| u32::from(u16::from_le_bytes(*b)) << 16;
        out.iter_mut().zip(bytes.as_chunks().0).for_each(|(o, b)| *o = f32::from_bits(bits(b)));
        finite &= all_finite(out);
    }
    finite
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    #[test]
    fn finiteness() {
        assert!(all_finite(&[0.0, f32::MAX, f32::MIN_POSITIVE / 2.0]));
        assert!(!all_finite(&[0.0, f32::NAN]));
        assert!(!all_finite(&[f32::NEG_INFINITY]));
    }

    /// Every bit pattern of 16 bits, and as many of 32.
    #[test]
    fn every_value_of_every_type() {
        let words: Vec<u16> = (0..=u16::MAX).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let same = |out: &[f32], of: &dyn Fn(u16) -> f32| {
            out.iter()
                .zip(&words)
                .all(|(o, w)| o.to_bits() == of(*w).to_bits() || (o.is_nan() && of(*w).is_nan()))
        };
        let mut out = vec![0.0; words.len()];
        assert!(!widen(Dtype::F16, &bytes, &mut out));
        assert!(same(&out, &|w| f16::from_bits(w).to_f32()));
        assert!(!widen(Dtype::Bf16, &bytes, &mut out));
        assert!(same(&out, &|w| bf16::from_bits(w).to_f32()));
        let singles: Vec<f32> = words.iter().map(|w| f32::from_bits(u32::from(*w) * 0xfefe)).collect();
        let bytes: Vec<u8> = singles.iter().flat_map(|v| v.to_le_bytes()).collect();
        widen(Dtype::F32, &bytes, &mut out);
        assert!(out.iter().zip(&singles).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn one_value_that_is_not_finite_is_noticed_anywhere() {
        for at in [0, 1, 7, 1023, 1024, 2999] {
            let mut values = vec![1.0_f32; 3000];
            let mut out = vec![0.0; 3000];
            values[at] = f32::INFINITY;
            let halves: Vec<u8> = values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect();
            let brains: Vec<u8> = values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect();
            let singles: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            for (dtype, bytes) in [(Dtype::F16, halves), (Dtype::Bf16, brains), (Dtype::F32, singles)] {
                let size = dtype.bytes();
                assert!(!widen(dtype, &bytes, &mut out), "{dtype:?} {at}");
                assert!(widen(dtype, &bytes[..at * size], &mut out[..at]), "{dtype:?} {at}");
                assert!(widen(dtype, &bytes[(at + 1) * size..], &mut out[at + 1..]), "{dtype:?} {at}");
            }
        }
    }
}
