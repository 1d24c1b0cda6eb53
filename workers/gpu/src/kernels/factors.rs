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
/// Lines that are rounded at a time where there may be more than positions of 32 bits reach.
pub(crate) const LINES: usize = 32_768;

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
    /// The first column behind the numbers of a line.
    behind: usize,
    room: usize,
}

impl Factors {
    /// Room for `lines` lines of `d` numbers: `lines` times `d`, each rounded up to eight, is below 2^32.
    pub fn room<R: Runtime>(card: &Card<R>, rounding: Rounding, lines: usize, d: usize) -> Self {
        let pitch = d.next_multiple_of(8);
        let numbers = match rounding {
            Rounding::Bf16 => Numbers::Bf16(card.room(lines * pitch)),
            Rounding::Tf32 => Numbers::Tf32(card.room(lines * pitch)),
        };
        Factors { numbers, pitch, d, behind: d, room: lines }
    }

    /// The same with three columns more, for a bias: see [`Beyond`]. In bf16 they begin with a word, which holds two.
    pub fn with_bias<R: Runtime>(card: &Card<R>, rounding: Rounding, lines: usize, d: usize) -> Self {
        let behind = if rounding == Rounding::Bf16 { d.next_multiple_of(2) } else { d };
        Factors { d, behind, ..Factors::room(card, rounding, lines, behind + PIECES) }
    }

    /// All lines of `from`, `[lines, d]`, with the pieces of a bias, `[lines]`, behind them if there is one.
    pub fn of<R: Runtime>(
        card: &Card<R>,
        rounding: Rounding,
        from: &Floats,
        d: usize,
        bias: Option<&Floats>,
    ) -> Self {
        let lines = from.len() / d.max(1);
        let all = match bias {
            None => Factors::room(card, rounding, lines, d),
            Some(_) => Factors::with_bias(card, rounding, lines, d),
        };
        all.fill_all(card, from, d, bias);
        all
    }

    /// Rounds all lines of `from`, `[lines, d]`.
    pub fn fill_all<R: Runtime>(&self, card: &Card<R>, from: &Floats, d: usize, bias: Option<&Floats>) {
        for first in (0..from.len() / d.max(1)).step_by(LINES) {
            self.part(first, LINES).fill(card, from, first, LINES, bias.map_or(Beyond::Zeros, Beyond::Bias));
        }
    }

    /// What they take on the card, in bytes.
    pub fn taken(&self) -> usize {
        match &self.numbers {
            Numbers::Bf16(of) => 2 * of.len(),
            Numbers::Tf32(of) => 4 * of.len(),
        }
    }

    /// How many lines there are.
    pub fn lines(&self) -> usize {
        self.room
    }

    /// `lines` lines from the line `first` on, a multiple of eight: the same memory.
    #[must_use]
    pub fn part(&self, first: usize, lines: usize) -> Self {
        let numbers = match &self.numbers {
            Numbers::Bf16(of) => Numbers::Bf16(of.part(first * self.pitch, lines * self.pitch)),
            Numbers::Tf32(of) => Numbers::Tf32(of.part(first * self.pitch, lines * self.pitch)),
        };
        let room = lines.min(self.room.saturating_sub(first));
        Factors { numbers, pitch: self.pitch, d: self.d, behind: self.behind, room }
    }

    /// As an argument of a kernel that takes words.
    pub(super) fn words<R: Runtime>(&self) -> ArrayArg<R> {
        match &self.numbers {
            Numbers::Bf16(of) => of.words(),
            Numbers::Tf32(of) => of.words(),
        }
    }

    /// How they are rounded.
    pub fn rounding(&self) -> Rounding {
        match self.numbers {
            Numbers::Bf16(_) => Rounding::Bf16,
            Numbers::Tf32(_) => Rounding::Tf32,
        }
    }

    /// Rounds `lines` lines of `from`, `[.., d]`, from the line `first` on, into the first lines here, `beyond` behind
    /// them; as many as there is room for.
    pub fn fill<R: Runtime>(
        &self,
        card: &Card<R>,
        from: &Floats,
        first: usize,
        lines: usize,
        beyond: Beyond,
    ) {
        let lines = lines.min(self.room);
        let (from, skip) = from.lines(first, lines, self.d);
        let in_word = if self.rounding() == Rounding::Bf16 { 2 } else { 1 };
        let words = lines * self.pitch / in_word;
        if words == 0 {
            return;
        }
        let (bias, form) = match beyond {
            Beyond::Zeros => (card.room(1), Form::Zeros),
            Beyond::Ones => (card.room(1), Form::Ones),
            Beyond::Bias(bias) => (bias.clone(), Form::Bias),
        };
        #[allow(clippy::cast_possible_truncation, reason = "below 2^32 as documented")]
        let [d, behind, pitch, skip, words, first, in_word] =
            [self.d, self.behind, self.pitch, skip, words, first, in_word].map(|number| number as u32);
        let count = cubes(words.div_ceil(UNITS) as usize);
        round_lines::launch::<R>(
            card.client(),
            count,
            units(UNITS),
            from.arg(),
            bias.arg(),
            self.words(),
            d,
            behind,
            pitch,
            skip,
            first,
            words,
            in_word,
            form,
        );
    }
}

/// Numbers that a bias is split into. Each takes up what the ones before left: with 8 bits each, all 24 of an f32.
const PIECES: usize = 3;

/// What stands behind the numbers of a line. A product of lines that end in ones with lines that end in the pieces of a
/// bias has the bias in it, without a walk over all sums to add it.
#[derive(Debug, Clone, Copy)]
pub enum Beyond<'a> {
    /// Nothing.
    Zeros,
    /// Three ones.
    Ones,
    /// Three numbers whose sum is the bias of the line, of `[.., n]` by the numbers of lines in `from`.
    Bias(&'a Floats),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    Zeros,
    Ones,
    Bias,
}

/// A thread has one word: one number in tf32, two in bf16. (Not every runtime knows bf16.)
#[cube(launch)]
fn round_lines(
    from: &Array<f32>,
    bias: &Array<f32>,
    out: &mut Array<u32>,
    d: u32,
    behind: u32,
    pitch: u32,
    skip: u32,
    first: u32,
    words: u32,
    #[comptime] in_word: u32,
    #[comptime] form: Form,
) {
    let at = CUBE_POS as u32 * UNITS + UNIT_POS;
    if at < words {
        let in_line = pitch / in_word;
        let (line, column) = (at / in_line, at % in_line * in_word);
        let cut = comptime!(if in_word == 1 { 13u32 } else { 16u32 });
        let mut word = number(from, bias, line, column, d, behind, skip, first, cut, form);
        if comptime!(in_word == 2) {
            let next = number(from, bias, line, column + 1u32, d, behind, skip, first, cut, form);
            word = word >> 16u32 | next;
        }
        out[at as usize] = word;
    }
}

/// The bits of the number in a column, or of what stands behind the last, without the last `cut` of them.
#[cube]
fn number(
    from: &Array<f32>,
    bias: &Array<f32>,
    line: u32,
    column: u32,
    d: u32,
    behind: u32,
    skip: u32,
    first: u32,
    #[comptime] cut: u32,
    #[comptime] form: Form,
) -> u32 {
    let mut bits = 0u32;
    if column < d {
        bits = rounded(u32::reinterpret(from[((skip + line) * d + column) as usize]), cut);
    } else if column >= behind && column < behind + 3u32 {
        if comptime!(form == Form::Ones) {
            // 1.0. CUDA reinterprets variables, not numbers that are written down.
            bits = 0x3f80_0000u32;
        }
        if comptime!(form == Form::Bias) {
            bits = piece(bias[(first + line) as usize], column - behind, cut);
        }
    }
    bits
}

/// The bits of a piece of a bias.
#[cube]
pub(super) fn piece(bias: f32, which: u32, #[comptime] cut: u32) -> u32 {
    let mut left = bias;
    let mut bits = rounded(u32::reinterpret(left), cut);
    if which > 0u32 {
        left -= f32::reinterpret(bits);
        bits = rounded(u32::reinterpret(left), cut);
    }
    if which > 1u32 {
        left -= f32::reinterpret(bits);
        bits = rounded(u32::reinterpret(left), cut);
    }
    bits
}

/// Bits of an f32 without the last `cut` of them: to the nearest, to even in the middle. What is infinite or no
/// number stays it.
#[cube]
pub(super) fn rounded(bits: u32, #[comptime] cut: u32) -> u32 {
    let half = comptime!((1u32 << (cut - 1)) - 1);
    let mask = comptime!(!((1u32 << cut) - 1));
    let nearest = (bits + half + ((bits >> cut) & 1u32)) & mask;
    let finite = (bits & 0x7f80_0000u32) != 0x7f80_0000u32;
    let quiet = select((bits & 0x007f_ffffu32) != 0u32, bits | 0x0040_0000u32, bits);
    select(finite, nearest, quiet & mask)
}
