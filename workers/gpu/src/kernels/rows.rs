//! Rows of a matrix that move, and what is done to each number of them.
//!
//! The encoder rows of dead latents, beside each other; rows of latents that start again, put back; rounded rows in f32.

use cubecl::prelude::*;

use super::{
    factors::Factors,
    lines::{Lines, Read, read},
    residual::{address, positions},
};
use crate::{
    Runtime,
    card::{Card, Floats, Ints, cubes, units},
};

/// Threads of a cube.
const THREADS: usize = 256;

/// Row `list[i]` of `from` (rows of `d`) in place `i`, `[list, d]`.
pub fn gather<R: Runtime>(card: &Card<R>, from: Lines, d: usize, list: &Ints) -> Floats {
    let into = card.room(list.len() * d);
    if !into.is_empty() {
        gather_rows::launch::<R>(
            card.client(),
            cubes(into.len().div_ceil(THREADS)),
            units(THREADS as u32),
            positions([from.positions(d), into.len()]),
            from.arg(),
            list.arg(),
            into.arg(),
            into.len(),
            d,
            from.pitch(d),
            true,
        );
    }
    into
}

/// All rows of rounded ones, in f32, `[lines, d]`.
pub fn widen<R: Runtime>(card: &Card<R>, from: &Factors, d: usize) -> Floats {
    let (into, absent): (Floats, Ints) = (card.room(from.lines() * d), card.room(1));
    let from = Lines::Rounded(from);
    if !into.is_empty() {
        gather_rows::launch::<R>(
            card.client(),
            cubes(into.len().div_ceil(THREADS)),
            units(THREADS as u32),
            positions([from.positions(d), into.len()]),
            from.arg(),
            absent.arg(),
            into.arg(),
            into.len(),
            d,
            from.pitch(d),
            false,
        );
    }
    into
}

/// Rows `[list, d]` to their places in `into` (`[n, d]`): row `i` to `list[i]`.
pub fn scatter<R: Runtime>(card: &Card<R>, rows: &Floats, d: usize, list: &Ints, into: &Floats) {
    if !rows.is_empty() {
        let (count, dim) = (cubes(rows.len().div_ceil(THREADS)), units(THREADS as u32));
        let (address, len) = (address([into]), rows.len());
        scatter_rows::launch::<R>(
            card.client(),
            count,
            dim,
            address,
            rows.arg(),
            list.arg(),
            into.arg(),
            len,
            d,
        );
    }
}

/// `count` rows of `from` (`[n, d]`) from `first` on, each times its own weight (`[n]`): `[count, d]`.
pub fn weighted<R: Runtime>(
    card: &Card<R>,
    from: Lines,
    d: usize,
    (first, count): (usize, usize),
    weights: &Floats,
) -> Floats {
    let into = card.room(count * d);
    if !into.is_empty() {
        weigh_rows::launch::<R>(
            card.client(),
            cubes(into.len().div_ceil(THREADS)),
            units(THREADS as u32),
            positions([from.positions(d), into.len()]),
            from.arg(),
            weights.arg(),
            into.arg(),
            into.len(),
            d,
            from.pitch(d),
            first,
        );
    }
    into
}

/// `to = own·to + factor·from`, number by number.
pub fn mix<R: Runtime>(card: &Card<R>, to: &Floats, own: f32, factor: f32, from: &Floats) {
    if !to.is_empty() {
        mix_numbers::launch::<R>(
            card.client(),
            cubes(to.len().div_ceil(THREADS)),
            units(THREADS as u32),
            address([to]),
            to.arg(),
            from.arg(),
            card.upload(&[own, factor]).arg(),
            to.len(),
        );
    }
}

/// `numbers *= factor`.
pub fn scale<R: Runtime>(card: &Card<R>, numbers: &Floats, factor: f32) {
    if !numbers.is_empty() {
        scale_numbers::launch::<R>(
            card.client(),
            cubes(numbers.len().div_ceil(THREADS)),
            units(THREADS as u32),
            address([numbers]),
            numbers.arg(),
            card.upload(&[factor]).arg(),
            numbers.len(),
        );
    }
}

#[cube(launch, address_type = "dynamic")]
fn scatter_rows(rows: &Array<f32>, list: &Array<u32>, into: &mut Array<f32>, len: usize, d: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        let place = list[i / d] as usize * d + i % d;
        into[place] = rows[i];
    }
}

#[cube(launch, address_type = "dynamic")]
fn weigh_rows(
    from: &Read,
    weights: &Array<f32>,
    into: &mut Array<f32>,
    len: usize,
    d: usize,
    pitch: usize,
    first: usize,
) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        let row = first + i / d;
        into[i] = read(from, row * pitch + i % d) * weights[row];
    }
}

#[cube(launch, address_type = "dynamic")]
fn mix_numbers(to: &mut Array<f32>, from: &Array<f32>, factors: &Array<f32>, len: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        to[i] = fma(factors[1], from[i], factors[0] * to[i]);
    }
}

#[cube(launch, address_type = "dynamic")]
fn scale_numbers(numbers: &mut Array<f32>, factor: &Array<f32>, len: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        numbers[i] = numbers[i] * factor[0];
    }
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
fn gather_rows(
    from: &Read,
    list: &Array<u32>,
    into: &mut Array<f32>,
    len: usize,
    d: usize,
    pitch: usize,
    #[comptime] listed: bool,
) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        let mut row = i / d;
        if listed {
            row = list[row] as usize;
        }
        into[i] = read(from, row * pitch + i % d);
    }
}
