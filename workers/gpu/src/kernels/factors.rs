//! What tensor cores multiply: rows rounded to bf16 or tf32, to the nearest and to even where two are as near.
//!
//! Lines are as long as `d` and then zeros up to a multiple of 16 bytes, so every number of columns suits a
//! tensor map. Numbers in tf32 are f32 whose last 13 bits are zero: no conversion further on can change them.

use cubecl::prelude::*;
use half::bf16;

use crate::{
    Runtime,
    card::{Buffer, Card, Floats, cubes, units},
};

/// Threads of a cube.
const UNITS: u32 = 256;

/// How a factor is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounding {
    /// 7 bits of mantissa.
    Bf16,
    /// 10 bits of mantissa.
    Tf32,
}

/// Rounded numbers on a card.
#[derive(Debug, Clone)]
pub enum Numbers {
    /// As bf16.
    Bf16(Buffer<bf16>),
    /// As f32.
    Tf32(Floats),
}

/// Room for rounded lines, `[lines, pitch]`, to be used again and again.
#[derive(Debug, Clone)]
pub struct Factors {
    /// The numbers.
    pub numbers: Numbers,
    /// Numbers from one line to the next: a multiple of eight.
    pub pitch: usize,
    d: usize,
    room: usize,
}

impl Factors {
    /// The same with three columns more, for a bias: [`Factors::bias`] on one side, [`Factors::ones`] on the other.
    pub fn with_bias<R: Runtime>(card: &Card<R>, rounding: Rounding, lines: usize, d: usize) -> Self {
        Factors { d, ..Factors::room(card, rounding, lines, d + PIECES) }
    }

    /// Room for `lines` lines of `d` numbers: `lines` times `d`, each rounded up to eight, is below 2^32.
    pub fn room<R: Runtime>(card: &Card<R>, rounding: Rounding, lines: usize, d: usize) -> Self {
        let pitch = d.next_multiple_of(8);
        let numbers = match rounding {
            Rounding::Bf16 => Numbers::Bf16(card.room(lines * pitch)),
            Rounding::Tf32 => Numbers::Tf32(card.room(lines * pitch)),
        };
        Factors { numbers, pitch, d, room: lines }
    }

    /// How they are rounded.
    pub fn rounding(&self) -> Rounding {
        match self.numbers {
            Numbers::Bf16(_) => Rounding::Bf16,
            Numbers::Tf32(_) => Rounding::Tf32,
        }
    }

    /// Rounds `lines` lines of `from`, `[.., d]`, from the line `first` on, into the first lines here; as many as
    /// there is room for.
    pub fn fill<R: Runtime>(&self, card: &Card<R>, from: &Floats, first: usize, lines: usize) {
        let lines = lines.min(self.room);
        let (from, skip) = from.lines(first, lines, self.d);
        let n = if self.d.is_multiple_of(4) { 4 } else { 1 };
        let vectors = lines * self.pitch / n;
        if vectors == 0 {
            return;
        }
        let count = cubes(vectors.div_ceil(UNITS as usize));
        #[allow(clippy::cast_possible_truncation, reason = "below 2^32 as documented")]
        let [d, pitch, skip, vectors, size] =
            [self.d, self.pitch, skip, vectors, n].map(|number| number as u32);
        match &self.numbers {
            Numbers::Bf16(out) => {
                let out = out.part(0, lines * self.pitch).vectors(n);
                round_lines::launch::<bf16, R>(
                    card.client(),
                    count,
                    units(UNITS),
                    n,
                    from.vectors(n),
                    out,
                    d,
                    pitch,
                    skip,
                    vectors,
                    size,
                    false,
                );
            }
            Numbers::Tf32(out) => {
                let out = out.part(0, lines * self.pitch).vectors(n);
                round_lines::launch::<f32, R>(
                    card.client(),
                    count,
                    units(UNITS),
                    n,
                    from.vectors(n),
                    out,
                    d,
                    pitch,
                    skip,
                    vectors,
                    size,
                    true,
                );
            }
        }
    }
}

/// Numbers that a bias is split into. Each takes up what the ones before left: with 8 bits each, all 24 of an f32.
const PIECES: usize = 3;

impl Factors {
    /// Puts the biases of `lines` lines, from the line `first` on, into the columns behind the numbers, as pieces whose
    /// sum they are. A product with [`Factors::ones`] on the other side then has the bias in it, without a walk over
    /// all sums to add it.
    pub fn bias<R: Runtime>(&self, card: &Card<R>, bias: &Floats, first: usize, lines: usize) {
        self.pieces(card, bias, first, lines, false);
    }

    /// Puts ones into the same columns.
    pub fn ones<R: Runtime>(&self, card: &Card<R>, lines: usize) {
        self.pieces(card, &card.room(1), 0, lines, true);
    }

    fn pieces<R: Runtime>(&self, card: &Card<R>, bias: &Floats, first: usize, lines: usize, ones: bool) {
        let lines = lines.min(self.room);
        if lines == 0 {
            return;
        }
        let (count, dim) = (cubes(lines.div_ceil(UNITS as usize)), units(UNITS));
        #[allow(clippy::cast_possible_truncation, reason = "below 2^32 as documented")]
        let [d, pitch, first, lines] = [self.d, self.pitch, first, lines].map(|number| number as u32);
        let (client, bias) = (card.client(), bias.arg());
        match &self.numbers {
            Numbers::Bf16(out) => {
                split::launch::<bf16, R>(client, count, dim, bias, out.arg(), d, pitch, first, lines, ones, false);
            }
            Numbers::Tf32(out) => {
                split::launch::<f32, R>(client, count, dim, bias, out.arg(), d, pitch, first, lines, ones, true);
            }
        }
    }
}

#[cube(launch)]
fn split<F: Float>(
    bias: &Array<f32>,
    out: &mut Array<F>,
    d: u32,
    pitch: u32,
    first: u32,
    lines: u32,
    #[comptime] ones: bool,
    #[comptime] tf32: bool,
) {
    let line = CUBE_POS as u32 * UNITS + UNIT_POS;
    if line < lines {
        let mut left = 1.0f32.runtime();
        if comptime!(!ones) {
            left = bias[(first + line) as usize];
        }
        #[unroll]
        for piece in 0..3u32 {
            let place = (line * pitch + d + piece) as usize;
            if comptime!(ones) {
                out[place] = F::cast_from(left);
            } else {
                let mut whole = left;
                if comptime!(tf32) {
                    whole = to_tf32(left);
                }
                let rounded = F::cast_from(whole);
                out[place] = rounded;
                left -= f32::cast_from(rounded);
            }
        }
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn round_lines<F: Float, N: Size>(
    from: &Array<Vector<f32, N>>,
    out: &mut Array<Vector<F, N>>,
    d: u32,
    pitch: u32,
    skip: u32,
    vectors: u32,
    #[comptime] n: u32,
    #[comptime] tf32: bool,
) {
    let at = CUBE_POS as u32 * UNITS + UNIT_POS;
    if at < vectors {
        let (line, column) = (at / (pitch / n), at % (pitch / n) * n);
        let mut found = Vector::<f32, N>::new(0.0f32);
        if column < d {
            found = from[(((skip + line) * d + column) / n) as usize];
        }
        let mut rounded = Vector::<F, N>::new(F::new(0.0));
        #[unroll]
        for e in 0..n {
            if comptime!(tf32) {
                rounded[e as usize] = F::cast_from(to_tf32(found[e as usize]));
            } else {
                rounded[e as usize] = F::cast_from(found[e as usize]);
            }
        }
        out[at as usize] = rounded;
    }
}

/// Ten bits of mantissa, to the nearest, to even in the middle; what is infinite or no number stays it.
#[cube]
fn to_tf32(x: f32) -> f32 {
    let bits = u32::reinterpret(x);
    let nearest = (bits + 0xfffu32 + ((bits >> 13u32) & 1u32)) & 0xffff_e000u32;
    let finite = (bits & 0x7f80_0000u32) != 0x7f80_0000u32;
    f32::reinterpret(select(finite, nearest, bits))
}
