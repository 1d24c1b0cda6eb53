//! f32 → little-endian bytes of the type that is written, counting what is rounded.

use half::{bf16, f16, slice::HalfFloatSliceExt};

use crate::source::Dtype;

/// Values converted at a time.
const CHUNK: usize = 256;

/// Appends the values of one row, and writes what they are now back into it; returns how many of
/// them were rounded, or the first that would become infinite.
pub(super) fn narrow(row: &mut [f32], dtype: Dtype, out: &mut Vec<u8>) -> Result<u64, f32> {
    match dtype {
        Dtype::F16 => halves([f16::ZERO; CHUNK], row, out),
        Dtype::Bf16 => halves([bf16::ZERO; CHUNK], row, out),
        Dtype::F32 => {
            let from = out.len();
            out.resize(from + 4 * row.len(), 0);
            out[from..].as_chunks_mut().0.iter_mut().zip(row).for_each(|(o, v)| *o = v.to_le_bytes());
            Ok(0)
        }
    }
}

fn halves<H: Copy>(mut buffer: [H; CHUNK], row: &mut [f32], out: &mut Vec<u8>) -> Result<u64, f32>
where
    [H]: HalfFloatSliceExt,
{
    let (mut rounded, mut back) = (0, [0.0_f32; CHUNK]);
    for values in row.chunks_mut(CHUNK) {
        let (buffer, back) = (&mut buffer[..values.len()], &mut back[..values.len()]);
        buffer.convert_from_f32_slice(values);
        buffer.convert_to_f32_slice(back);
        if let Some(at) = back.iter().position(|v| !v.is_finite()) {
            return Err(values[at]);
        }
        rounded += values.iter().zip(&*back).filter(|(v, b)| v.to_bits() != b.to_bits()).count() as u64;
        let from = out.len();
        out.resize(from + 2 * values.len(), 0);
        let words = out[from..].as_chunks_mut().0.iter_mut().zip(buffer.reinterpret_cast());
        words.for_each(|(o, w)| *o = w.to_le_bytes());
        values.copy_from_slice(back);
    }
    Ok(rounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rounded_is_counted_and_what_overflows_is_refused() {
        let (mut row, mut out) = ([1.0, 0.1, -65504.0, 1e-9, -0.0], vec![]);
        assert_eq!(narrow(&mut row, Dtype::F16, &mut out), Ok(2));
        assert_eq!(row, [1.0, f16::from_f32(0.1).to_f32(), -65504.0, 0.0, -0.0]);
        assert_eq!(out[..2], f16::ONE.to_le_bytes());
        assert_eq!(narrow(&mut [1.0, 65520.0], Dtype::F16, &mut out), Err(65520.0));
        assert_eq!(narrow(&mut [65520.0], Dtype::Bf16, &mut out), Ok(1));
        assert_eq!(narrow(&mut [f32::MAX], Dtype::Bf16, &mut out), Err(f32::MAX));
        assert_eq!(narrow(&mut [f32::MAX, 0.1], Dtype::F32, &mut out), Ok(0));
    }
}
