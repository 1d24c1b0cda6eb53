//! Rows on their way to a card: as they are, in the narrowest numbers that hold every one of them.
//!
//! Activations mostly come as f16 or bf16, and half of the bytes of f32 say the same of them. What is multiplied by
//! a scale first would need all of f32, so the card multiplies, to the very bits of `value * scale` here. Some
//! devices take numbers below `f32::MIN_POSITIVE` for zero: where such a number is a value or would be a product,
//! rows go as f32.

use std::{
    any::Any,
    fmt,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use half::{
    f16,
    slice::{HalfBitsSliceExt, HalfFloatSliceExt},
};
use rayon::prelude::*;

use crate::kernels::{Path, simd::Kernel};

/// Rows that have arrived on a card, see [`super::Card::send`].
#[derive(Clone)]
pub struct Sent(pub Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sent")
    }
}

/// Rows of a batch, for [`super::OnCard::begin`].
#[derive(Debug, Clone, Copy)]
pub enum Incoming<'a> {
    /// In memory, scaled, `[rows, d]`.
    Here(&'a [f32]),
    /// On the card already.
    Sent(&'a Sent),
}

/// How numbers travel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Format {
    /// IEEE half precision, multiplied on the card.
    #[default]
    F16,
    /// The upper half of an f32, multiplied on the card.
    Bf16,
    /// Multiplied before they leave.
    F32,
}

impl Format {
    /// All formats in the order in which they are tried after rows that travelled as this one. The last one holds
    /// everything.
    pub fn first(self) -> [Format; 3] {
        match self {
            Format::Bf16 => [Format::Bf16, Format::F16, Format::F32],
            Format::F16 | Format::F32 => [Format::F16, Format::Bf16, Format::F32],
        }
    }

    /// Words of 32 bits that so many numbers fill.
    pub fn words(self, numbers: usize) -> usize {
        match self {
            Format::F16 | Format::Bf16 => numbers.div_ceil(2),
            Format::F32 => numbers,
        }
    }
}

/// Rows that go, perhaps to several cards: some columns of each, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Whole rows.
    pub rows: &'a [&'a [f32]],
    /// Which values of a row go.
    pub columns: &'a [Range<usize>],
    /// What the values of each column are multiplied by.
    pub scales: &'a [f32],
}

impl<'a> Outgoing<'a> {
    /// Values of a row that go.
    pub fn width(&self) -> usize {
        self.columns.iter().map(Range::len).sum()
    }

    /// Some of the rows alone: a card need not have all of them.
    #[must_use]
    pub fn part(&self, rows: Range<usize>) -> Outgoing<'a> {
        Outgoing { rows: &self.rows[rows], ..*self }
    }

    /// What each value of a row is multiplied by, `[width]`.
    pub fn scale_of_values(&self) -> Vec<f32> {
        let of = |(column, &scale): (&Range<usize>, &f32)| std::iter::repeat_n(scale, column.len());
        self.columns.iter().zip(self.scales).flat_map(of).collect()
    }

    /// The rows multiplied by their scales, `[rows, width]`. On all threads of the pool.
    pub fn scaled(&self, into: &mut [f32]) {
        let columns = || self.columns.iter().zip(self.scales);
        let row = |(mut out, row): (&mut [f32], &&[f32])| {
            for (column, scale) in columns() {
                let (here, rest) = out.split_at_mut(column.len());
                here.iter_mut().zip(&row[column.clone()]).for_each(|(out, v)| *out = v * *scale);
                out = rest;
            }
        };
        into.par_chunks_mut(self.width().max(1)).zip(self.rows).with_min_len(CHUNK_ROWS).for_each(row);
    }

    /// The rows as they travel, without gaps, [`Format::words`] of them. On all threads of the pool. `false` where
    /// some number does not fit: then what was written means nothing.
    pub fn write(&self, format: Format, into: &mut [u32]) -> bool {
        match format {
            Format::F16 => {
                // The smallest number of this kind that is not zero.
                let holds = |scale: &f32| least(*scale) <= f16::from_bits(1).to_f32();
                self.scales.iter().all(holds) && self.halves(into, |from, _, to| as_f16(from, to))
            }
            Format::Bf16 => {
                let path = Path::best();
                self.halves(into, |from, scale, to| path.run(AsBf16 { from, least: least(scale), to }))
            }
            Format::F32 => {
                self.scaled(bytemuck::cast_slice_mut(into));
                true
            }
        }
    }

    fn halves(&self, into: &mut [u32], narrow: impl Fn(&[f32], f32, &mut [u16]) -> bool + Sync) -> bool {
        let fit = AtomicBool::new(true);
        let row = |(mut out, row): (&mut [u16], &&[f32])| {
            for (column, &scale) in self.columns.iter().zip(self.scales) {
                let (here, rest) = out.split_at_mut(column.len());
                // One that does not fit ends it for all threads.
                if !fit.load(Ordering::Relaxed) || !narrow(&row[column.clone()], scale, here) {
                    return fit.store(false, Ordering::Relaxed);
                }
                out = rest;
            }
        };
        let out = bytemuck::cast_slice_mut::<u32, u16>(into).par_chunks_mut(self.width().max(1));
        out.zip(self.rows).with_min_len(CHUNK_ROWS).for_each(row);
        fit.into_inner()
    }
}

/// Rows that a thread takes at once.
const CHUNK_ROWS: usize = 256;
/// Numbers that are narrowed and compared while they are in the nearest cache.
const BLOCK: usize = 512;

/// Below this no number is sure to be itself, or itself times `scale`, on every device.
fn least(scale: f32) -> f32 {
    2.0 * f32::MIN_POSITIVE / scale.abs().min(1.0)
}

/// Narrows numbers and says whether they are the same when they are widened again.
fn as_f16(from: &[f32], to: &mut [u16]) -> bool {
    let mut wide = [0f32; BLOCK];
    from.chunks(BLOCK).zip(to.chunks_mut(BLOCK)).all(|(from, to)| {
        let (to, wide) = (to.reinterpret_cast_mut::<f16>(), &mut wide[..from.len()]);
        to.convert_from_f32_slice(from);
        to.convert_to_f32_slice(wide);
        from.iter().zip(wide).fold(0, |other, (a, b)| other | (a.to_bits() ^ b.to_bits())) == 0
    })
}

/// The same for bf16, where nothing between zero and `least` counts as the same.
struct AsBf16<'a> {
    from: &'a [f32],
    least: f32,
    to: &'a mut [u16],
}

impl Kernel for AsBf16<'_> {
    type Output = bool;

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "halves of bits")]
    fn run(self) -> bool {
        let (least, mut other) = (self.least.to_bits() as i32, 0);
        for (from, to) in self.from.iter().zip(self.to) {
            let bits = from.to_bits();
            let size = (bits & 0x7fff_ffff) as i32;
            other |= bits << 16 | u32::from(size > 0 && size < least);
            *to = (bits >> 16) as u16;
        }
        other == 0
    }
}

#[cfg(test)]
mod tests;
