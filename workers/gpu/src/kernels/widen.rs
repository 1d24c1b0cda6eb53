//! Rows that travelled in 16 bits: widened, and multiplied by the scale of their column.
//!
//! With whole numbers, since not every device knows types of 16 bits. The product is the only operation on floats
//! that rounds, and rounds as it does on the processor.

use cubecl::prelude::*;

use super::residual::address;
use crate::{
    Runtime,
    card::{Card, Floats, Ints, cubes, units},
};

/// Threads of a cube, each of which has two numbers.
const THREADS: usize = 256;

/// What 16 bits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Half {
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

/// `len` numbers that lie in `words` two by two, the lower half first, each times the scale of its place in a row;
/// `scales` is `[d]`. A number that is none, and one whose scale is 1, stays as it is.
pub fn widen<R: Runtime>(card: &Card<R>, words: &Ints, len: usize, scales: &Floats, half: Half) -> Floats {
    let into = card.room(len);
    if len > 0 {
        widen_pairs::launch::<R>(
            card.client(),
            cubes(len.div_ceil(2 * THREADS)),
            units(THREADS as u32),
            address([&into]),
            words.arg(),
            scales.arg(),
            into.words(),
            len,
            scales.len(),
            half,
        );
    }
    into
}

#[cube(launch, address_type = "dynamic")]
fn widen_pairs(
    words: &Array<u32>,
    scales: &Array<f32>,
    into: &mut Array<u32>,
    len: usize,
    d: usize,
    #[comptime] half: Half,
) {
    let word = CUBE_POS * THREADS + UNIT_POS as usize;
    let first = word * 2;
    if first < len {
        let both = words[word];
        into[first] = scaled(wide(both & 0xffffu32, half), scales[first % d]);
        if first + 1 < len {
            into[first + 1] = scaled(wide(both >> 16u32, half), scales[(first + 1) % d]);
        }
    }
}

/// The bits of an f32 of the same value.
#[cube]
fn wide(bits: u32, #[comptime] half: Half) -> u32 {
    if comptime!(half == Half::Bf16) {
        bits << 16u32
    } else {
        let size = bits & 0x7fffu32;
        let sign = (bits & 0x8000u32) << 16u32;
        // Exponents begin at another number; the largest one is infinity in both.
        let normal = (size << 13u32) + 0x3800_0000u32;
        let endless = (size << 13u32) + 0x7000_0000u32;
        // Below the smallest exponent all are multiples of 2⁻²⁴, which f32 has as normal numbers.
        let small = u32::reinterpret(f32::cast_from(size) * 5.960_464_5e-8f32);
        sign | select(size < 0x400u32, small, select(size < 0x7c00u32, normal, endless))
    }
}

/// The bits of a product as the processor makes it.
#[cube]
fn scaled(bits: u32, scale: f32) -> u32 {
    let product = u32::reinterpret(f32::reinterpret(bits) * scale);
    let none = (bits & 0x7fff_ffffu32) > 0x7f80_0000u32;
    select(none, bits | 0x0040_0000u32, select(scale == 1.0f32, bits, product))
}
