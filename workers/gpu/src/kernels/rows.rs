//! Some rows of a matrix, beside each other: the encoder rows of dead latents. Rows that move.

use cubecl::prelude::*;

use super::residual::address;
use crate::{
    Runtime,
    card::{Card, Floats, Ints, cubes, units},
};

/// Threads of a cube.
const THREADS: usize = 256;

/// Row `list[i]` of `from` (`[n, d]`) in place `i`, `[list, d]`.
pub fn gather<R: Runtime>(card: &Card<R>, from: &Floats, d: usize, list: &Ints) -> Floats {
    let into = card.room(list.len() * d);
    if !into.is_empty() {
        gather_rows::launch::<R>(
            card.client(),
            cubes(into.len().div_ceil(THREADS)),
            units(THREADS as u32),
            address([from, &into]),
            from.arg(),
            list.arg(),
            into.arg(),
            into.len(),
            d,
        );
    }
    into
}

/// Copies `from` to the front of `into`, which is at least as long.
pub fn copy<R: Runtime>(card: &Card<R>, from: &Floats, into: &Floats) {
    if !from.is_empty() {
        copy_numbers::launch::<R>(
            card.client(),
            cubes(from.len().div_ceil(THREADS)),
            units(THREADS as u32),
            address([into]),
            from.arg(),
            into.arg(),
            from.len(),
        );
    }
}

#[cube(launch, address_type = "dynamic")]
fn copy_numbers(from: &Array<f32>, into: &mut Array<f32>, len: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        into[i] = from[i];
    }
}

#[cube(launch, address_type = "dynamic")]
fn gather_rows(from: &Array<f32>, list: &Array<u32>, into: &mut Array<f32>, len: usize, d: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        into[i] = from[(list[i / d] as usize) * d + i % d];
    }
}
