//! Matrices that kernels gather rows of: in f32, or rounded to bf16 at half the bytes.

use cubecl::prelude::*;

use super::factors::{Factors, Numbers};
use crate::{Runtime, card::Floats};

/// A matrix of so many numbers a row.
#[derive(Debug, Clone, Copy)]
pub enum Lines<'a> {
    /// Rows behind each other.
    Floats(&'a Floats),
    /// Rows rounded to bf16 or tf32.
    Rounded(&'a Factors),
}

impl Lines<'_> {
    /// Numbers from one row to the next, of rows of `d`.
    pub(super) fn pitch(self, d: usize) -> usize {
        match self {
            Lines::Floats(_) => d,
            Lines::Rounded(factors) => factors.pitch,
        }
    }

    /// How many rows of `d` there are.
    pub(super) fn rows(self, d: usize) -> usize {
        match self {
            Lines::Floats(numbers) => numbers.len() / d.max(1),
            Lines::Rounded(factors) => factors.lines(),
        }
    }

    /// How many positions rows of `d` have.
    pub(super) fn positions(self, d: usize) -> usize {
        self.rows(d) * self.pitch(d)
    }

    pub(super) fn arg<R: Runtime>(self) -> ReadArgs<R> {
        match self {
            Lines::Floats(numbers) => ReadArgs::Floats(numbers.arg()),
            Lines::Rounded(factors) => match &factors.numbers {
                Numbers::Tf32(numbers) => ReadArgs::Floats(numbers.arg()),
                Numbers::Bf16(numbers) => ReadArgs::Halves(numbers.words()),
            },
        }
    }
}

/// [`Lines`] as kernels take them. (Not every runtime knows bf16.)
#[derive(CubeType, CubeLaunch)]
#[allow(dead_code, reason = "launches make the variants")]
pub(super) enum Read {
    Floats(Array<f32>),
    Halves(Array<u32>),
}

/// The number at a position.
#[cube]
pub(super) fn read(lines: &Read, at: usize) -> f32 {
    match lines {
        Read::Floats(numbers) => numbers[at],
        Read::Halves(words) => {
            let word = words[at / 2];
            let bits = (word >> (at as u32 % 2 * 16)) << 16u32;
            f32::reinterpret(bits)
        }
    }
}
