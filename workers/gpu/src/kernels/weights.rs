//! A matrix of weights with a row per latent: as the optimizer knows it, and as the forward pass reads it.

use cubecl::prelude::*;

use super::{
    factors::{Factors, piece, rounded},
    lines::Lines,
    moments::{Kept, Moments},
    spread::is_column,
};
use crate::{
    Runtime,
    card::{Card, Floats},
};

/// Weights on a card.
#[derive(Debug, Clone)]
pub struct Weights {
    /// In f32, which the optimizer reads and writes, `[n, d]`.
    pub value: Floats,
    /// Their moments.
    pub moments: Moments,
    /// Rounded to bf16, which each step writes anew, and which all else reads where it is there.
    pub rounded: Option<Factors>,
}

impl Weights {
    /// What the forward pass reads.
    pub fn lines(&self) -> Lines<'_> {
        self.rounded.as_ref().map_or(Lines::Floats(&self.value), Lines::Rounded)
    }

    /// Rounds all of them anew, rows of `d`, where they are rounded.
    pub fn round_again<R: Runtime>(&self, card: &Card<R>, d: usize, bias: Option<&Floats>) {
        if let Some(rounded) = &self.rounded {
            rounded.fill_all(card, &self.value, d, bias);
        }
    }

    /// What they take on the card, in bytes.
    pub fn taken(&self) -> usize {
        4 * self.value.len() + self.moments.taken() + self.rounded.as_ref().map_or(0, Factors::taken)
    }

    /// The most positions of a buffer.
    pub(super) fn positions(&self) -> usize {
        self.value.len().max(self.moments.positions())
    }

    pub(super) fn arg<R: Runtime>(&self) -> MatrixLaunch<R> {
        let rounded = self.rounded.as_ref().map(Factors::words);
        MatrixLaunch::new(self.value.arg(), self.moments.arg(), rounded.into())
    }
}

/// [`Weights`] as kernels take them.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Matrix {
    pub(super) value: Array<f32>,
    pub(super) kept: Kept,
    /// Two numbers in a word.
    pub(super) rounded: ComptimeOption<Array<u32>>,
}

/// Columns of a thread that make whole words with those of the others.
const AHEAD: usize = 4;

/// Writes the columns of this thread, of row `row`, rounded to bf16, if there is where to. All threads have to call it.
#[cube]
pub(super) fn store_rounded(
    from: &Array<f32>,
    into: &mut ComptimeOption<Array<u32>>,
    row: usize,
    pitch: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    #[comptime]
    match into {
        ComptimeOption::Some(into) => store_halves(from, into, row * (pitch / 2), d, columns, threads),
        ComptimeOption::None => {}
    }
}

/// The row begins at word `at`.
#[cube]
fn store_halves(
    from: &Array<f32>,
    into: &mut Array<u32>,
    at: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    let unit = UNIT_POS as usize;
    let mut halves = SharedMemory::<u32>::new(comptime!(AHEAD * threads));
    #[unroll]
    for first in 0..comptime!(columns.div_ceil(AHEAD)) {
        #[unroll]
        for j in comptime!(first * AHEAD)..comptime!(((first + 1) * AHEAD).min(columns)) {
            let half = rounded(u32::reinterpret(from[j]), 16u32) >> 16u32;
            let half = select(is_column(0usize, d, j, threads), half, 0u32);
            halves[unit + comptime!((j % AHEAD) * threads)] = half;
        }
        sync_cube();
        #[unroll]
        for i in 0..comptime!(AHEAD / 2) {
            let place = unit + comptime!(i * threads);
            let word = place + comptime!(first * AHEAD * threads / 2);
            if word < (d + 1) / 2 {
                into[at + word] = halves[place * 2] | halves[place * 2 + 1] << 16u32;
            }
        }
        sync_cube();
    }
}

/// Writes the pieces of a bias behind the rounded row, if there is one: see [`super::factors::Beyond`].
#[cube]
pub(super) fn store_pieces(
    bias: f32,
    into: &mut ComptimeOption<Array<u32>>,
    row: usize,
    pitch: usize,
    d: usize,
) {
    #[comptime]
    match into {
        ComptimeOption::Some(into) => {
            let at = row * (pitch / 2) + (d + 1) / 2;
            into[at] = piece(bias, 0u32, 16u32) >> 16u32 | piece(bias, 1u32, 16u32);
            into[at + 1] = piece(bias, 2u32, 16u32) >> 16u32;
        }
        ComptimeOption::None => {}
    }
}
