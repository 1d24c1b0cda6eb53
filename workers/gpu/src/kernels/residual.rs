//! What a code leaves unexplained, and how it lies along the atoms of the code.
//!
//! One cube per row. The row lies in the registers of the cube's threads while the atoms pass by: once to be
//! subtracted, and once more, from the cache, for the dot products.

use cubecl::{ir::AddressType, prelude::*};

use super::{
    codes::CodesOnCard,
    lines::{Lines, Read, read},
    spread::{Spread, column, is_column, load},
    tree,
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// Pairs whose dot products are summed at once.
pub(super) const PAIRS: usize = 8;

/// What a code leaves.
#[derive(Debug, Clone)]
pub struct Residual {
    /// `target − offset − Σ value·atom`, `[rows, d]`.
    pub e: Floats,
    /// `⟨e, atom⟩` of every pair, `[nnz]`.
    pub along_atoms: Floats,
    /// `‖e‖²` of every row, `[rows]`.
    pub squares: Floats,
}

/// What `codes` with `values` (`[nnz]`) leave of `target` (`[rows, d]`) less `offset` (`[d]`), given the
/// atoms `w_dec` (`[n, d]`). Pairs are subtracted in their order. Written to `e`, as large as `target`.
pub fn residual<R: Runtime>(
    card: &Card<R>,
    target: &Floats,
    offset: Option<&Floats>,
    codes: &CodesOnCard,
    values: &Floats,
    w_dec: Lines,
    e: Floats,
) -> Residual {
    let (rows, nnz) = (codes.rows(), codes.nnz());
    let left = Residual { e, along_atoms: card.room(nnz), squares: card.room(rows) };
    if rows == 0 {
        return left;
    }
    let d = target.len() / rows;
    let (spread, absent) = (Spread::of(d), card.room(1));
    residual_rows::launch::<R>(
        card.client(),
        cubes(rows),
        spread.units(),
        positions([target.len(), w_dec.positions(d)]),
        target.arg(),
        offset.unwrap_or(&absent).arg(),
        codes.offsets.arg(),
        codes.latents.arg(),
        values.arg(),
        w_dec.arg(),
        left.e.arg(),
        left.along_atoms.arg(),
        left.squares.arg(),
        rows,
        d,
        w_dec.pitch(d),
        offset.is_some(),
        spread,
    );
    left
}

/// `⟨y, atom⟩` of every pair, `[nnz]`, given `y` (`[rows, d]`) and the atoms `w_dec` (`[n, d]`).
pub fn along<R: Runtime>(card: &Card<R>, y: &Floats, codes: &CodesOnCard, w_dec: Lines) -> Floats {
    let (rows, along) = (codes.rows(), card.room(codes.nnz()));
    if rows == 0 || codes.nnz() == 0 {
        return along;
    }
    let d = y.len() / rows;
    let spread = Spread::of(d);
    along_rows::launch::<R>(
        card.client(),
        cubes(rows),
        spread.units(),
        positions([y.len(), w_dec.positions(d)]),
        y.arg(),
        codes.offsets.arg(),
        codes.latents.arg(),
        w_dec.arg(),
        along.arg(),
        rows,
        d,
        w_dec.pitch(d),
        spread,
    );
    along
}

/// How wide positions have to be: half as wide is faster.
pub(super) fn address<const N: usize>(buffers: [&Floats; N]) -> AddressType {
    positions(buffers.map(Floats::len))
}

/// How wide positions have to be in buffers of so many numbers.
pub(super) fn positions<const N: usize>(lens: [usize; N]) -> AddressType {
    let most = lens.into_iter().max().unwrap_or(0);
    if most > i32::MAX as usize { AddressType::U64 } else { AddressType::U32 }
}

#[cube(launch, address_type = "dynamic")]
fn residual_rows(
    target: &Array<f32>,
    offset: &Array<f32>,
    offsets: &Array<u32>,
    latents: &Array<u32>,
    values: &Array<f32>,
    w_dec: &Read,
    e: &mut Array<f32>,
    along: &mut Array<f32>,
    squares: &mut Array<f32>,
    rows: usize,
    d: usize,
    pitch: usize,
    #[comptime] has_offset: bool,
    #[comptime] spread: Spread,
) {
    let columns = comptime!(spread.columns);
    let threads = comptime!(spread.threads);
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut left = Array::<f32>::new(columns);
    #[unroll]
    for j in 0..columns {
        let c = column(0usize, d, j, threads);
        left[j] = target[row * d + c];
        if has_offset {
            left[j] = left[j] - offset[c];
        }
    }
    let start = offsets[row] as usize;
    let end = offsets[row + 1] as usize;
    for p in start..end {
        let (atom, value) = (latents[p] as usize * pitch, -values[p]);
        #[unroll]
        for j in 0..columns {
            left[j] = fma(value, read(w_dec, atom + column(0usize, d, j, threads)), left[j]);
        }
    }
    let mut square = 0.0f32;
    #[unroll]
    for j in 0..columns {
        if is_column(0usize, d, j, threads) {
            e[row * d + column(0usize, d, j, threads)] = left[j];
            square = fma(left[j], left[j], square);
        } else {
            left[j] = 0.0f32;
        }
    }
    let mut part = SharedMemory::<f32>::new(comptime!(PAIRS * threads));
    let sum = tree::total(square, &mut part, threads);
    if UNIT_POS == 0 {
        squares[row] = sum;
    }
    dots(&left, start, end, latents, w_dec, along, &mut part, d, pitch, spread);
}

#[cube(launch, address_type = "dynamic")]
fn along_rows(
    y: &Array<f32>,
    offsets: &Array<u32>,
    latents: &Array<u32>,
    w_dec: &Read,
    along: &mut Array<f32>,
    rows: usize,
    d: usize,
    pitch: usize,
    #[comptime] spread: Spread,
) {
    let columns = comptime!(spread.columns);
    let threads = comptime!(spread.threads);
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let mut mine = Array::<f32>::new(columns);
    load(&mut mine, y, row * d, d, columns, threads);
    let mut part = SharedMemory::<f32>::new(comptime!(PAIRS * threads));
    let start = offsets[row] as usize;
    let end = offsets[row + 1] as usize;
    dots(&mine, start, end, latents, w_dec, along, &mut part, d, pitch, spread);
}

/// `⟨row, atom⟩` of the pairs from `start` to `end`, given the columns of this thread, zero beyond the row.
#[cube]
pub(super) fn dots(
    row: &Array<f32>,
    start: usize,
    end: usize,
    latents: &Array<u32>,
    w_dec: &Read,
    along: &mut Array<f32>,
    part: &mut SharedMemory<f32>,
    d: usize,
    pitch: usize,
    #[comptime] spread: Spread,
) {
    let unit = UNIT_POS as usize;
    let threads = comptime!(spread.threads);
    let mut first = start;
    while first < end {
        #[unroll]
        for pair in 0..PAIRS {
            // Beyond the last pair, that one again: its atom is in the cache, and nobody reads the sum.
            let p = select(first + pair < end, first + pair, end - 1);
            let atom = latents[p] as usize * pitch;
            let mut sum = 0.0f32;
            #[unroll]
            for j in 0..comptime!(spread.columns) {
                sum = fma(row[j], read(w_dec, atom + column(0usize, d, j, threads)), sum);
            }
            part[unit + comptime!(pair * threads)] = sum;
        }
        tree::add_up(part, PAIRS, threads);
        if unit < PAIRS && first + unit < end {
            along[first + unit] = part[unit];
        }
        sync_cube();
        first += PAIRS;
    }
}
