//! How well rows are reconstructed, and the sum of what was to be.
//!
//! Reconstructions stay in the registers of a cube: four numbers of a row leave it.

use atomflow_workers::{card::digest::Mark, stats::RowSplit};
use cubecl::prelude::*;

use super::{
    codes::CodesOnCard,
    fixed,
    residual::address,
    spread::{Spread, column, is_column},
    tree,
};
use crate::{
    Runtime,
    card::{Buffer, Card, Floats, Ints, cubes, units},
};

/// Products of a row.
const PRODUCTS: usize = 4;
/// Rows whose coordinates one thread adds.
const ROWS: usize = 256;
const THREADS: usize = 256;
const SPLITS: usize = RowSplit::MEASURED.len();

/// What codes are decoded with.
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Atoms, `[n, d]`.
    pub w_dec: Floats,
    /// `[d]`.
    pub b_dec: Floats,
}

/// ‖x − x̂‖², ‖x‖², x·x̂ and ‖x̂‖² of every row of `x` (`[rows, d]`), `[rows, 4]`, given its `codes` with `values`
/// (`[nnz]`). All of it times `scale`, which should be a power of two that brings squares near 1.
pub fn products<R: Runtime>(
    card: &Card<R>,
    x: &Floats,
    codes: &CodesOnCard,
    values: &Floats,
    decoder: &Decoder,
    scale: f32,
) -> Floats {
    let (rows, d) = (codes.rows(), decoder.b_dec.len());
    let products = card.room(rows * PRODUCTS);
    if rows > 0 {
        let spread = Spread::of(d);
        products_of_rows::launch::<R>(
            card.client(),
            cubes(rows),
            spread.units(),
            address([x, &decoder.w_dec]),
            x.arg(),
            codes.offsets.arg(),
            codes.latents.arg(),
            values.arg(),
            decoder.w_dec.arg(),
            decoder.b_dec.arg(),
            products.arg(),
            rows,
            d,
            scale,
            spread,
        );
    }
    products
}

#[cube(launch, address_type = "dynamic")]
fn products_of_rows(
    x: &Array<f32>,
    offsets: &Array<u32>,
    latents: &Array<u32>,
    values: &Array<f32>,
    w_dec: &Array<f32>,
    b_dec: &Array<f32>,
    products: &mut Array<f32>,
    rows: usize,
    d: usize,
    scale: f32,
    #[comptime] spread: Spread,
) {
    let columns = comptime!(spread.columns);
    let threads = comptime!(spread.threads);
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let mut x_hat = Array::<f32>::new(columns);
    #[unroll]
    for j in 0..columns {
        x_hat[j] = b_dec[column(0usize, d, j, threads)];
    }
    for p in offsets[row] as usize..offsets[row + 1] as usize {
        let (atom, value) = (latents[p] as usize * d, values[p]);
        #[unroll]
        for j in 0..columns {
            x_hat[j] = fma(value, w_dec[atom + column(0usize, d, j, threads)], x_hat[j]);
        }
    }
    let mut error = 0.0f32;
    let mut xx = 0.0f32;
    let mut dot = 0.0f32;
    let mut yy = 0.0f32;
    #[unroll]
    for j in 0..columns {
        if is_column(0usize, d, j, threads) {
            let from = x[row * d + column(0usize, d, j, threads)];
            let left = (from - x_hat[j]) * scale;
            let (a, b) = (from * scale, x_hat[j] * scale);
            error = fma(left, left, error);
            xx = fma(a, a, xx);
            dot = fma(a, b, dot);
            yy = fma(b, b, yy);
        }
    }
    let mut part = SharedMemory::<f32>::new(comptime!(PRODUCTS * threads));
    part[unit] = error;
    part[unit + threads] = xx;
    part[unit + comptime!(threads * 2)] = dot;
    part[unit + comptime!(threads * 3)] = yy;
    tree::add_up(&mut part, PRODUCTS, threads);
    if unit < PRODUCTS {
        products[row * PRODUCTS + unit] = part[unit];
    }
}

/// Σx in fixed point at `2^value_log2` over the rows of each measured split, `[3, d]`, given rows `x` (`[rows, d]`)
/// with `marks` (`[rows]`): fewer than 2¹⁹ rows, whose sums fit into 64 bits.
pub fn sums<R: Runtime>(card: &Card<R>, x: &Floats, marks: &Ints, d: usize, value_log2: i32) -> Buffer<u64> {
    let (rows, width) = (marks.len(), d * SPLITS);
    let (blocks, strips) = (rows.div_ceil(ROWS).max(1), d.div_ceil(THREADS));
    let parts: Buffer<u64> = card.room(blocks * width);
    sum_blocks::launch::<R>(
        card.client(),
        cubes(blocks * strips),
        units(THREADS as u32),
        address([x]),
        x.words(),
        marks.arg(),
        parts.arg(),
        rows,
        d,
        strips,
        blocks,
        value_log2,
    );
    if blocks == 1 {
        return parts;
    }
    let sums = card.room(width);
    let (count, dim) = (cubes(width.div_ceil(THREADS)), units(THREADS as u32));
    add_blocks::launch::<R>(card.client(), count, dim, parts.arg(), sums.arg(), width, blocks);
    sums
}

/// A thread adds one column of 256 rows.
#[cube(launch, address_type = "dynamic")]
fn sum_blocks(
    x: &Array<u32>,
    marks: &Array<u32>,
    parts: &mut Array<u64>,
    rows: usize,
    d: usize,
    strips: usize,
    blocks: usize,
    value_log2: i32,
) {
    let (block, column) = (CUBE_POS / strips, CUBE_POS % strips * THREADS + UNIT_POS as usize);
    if block < blocks && column < d {
        let mut train = 0u64;
        let mut held_out = 0u64;
        let mut dropped = 0u64;
        let first = block * ROWS;
        for i in 0..ROWS {
            let row = first + i;
            if row < rows {
                let split = (marks[row] >> comptime!(Mark::SPLIT)) & 3u32;
                let bits = x[row * d + column];
                let whole = fixed::rounded(fixed::mantissa(bits), fixed::exponent(bits, value_log2));
                let number = fixed::signed(whole, bits);
                if split == 0u32 {
                    train += number;
                }
                if split == 1u32 {
                    held_out += number;
                }
                if split == 2u32 {
                    dropped += number;
                }
            }
        }
        let at = block * d * SPLITS + column;
        parts[at] = train;
        parts[at + d] = held_out;
        parts[at + d * 2] = dropped;
    }
}

#[cube(launch)]
fn add_blocks(parts: &Array<u64>, sums: &mut Array<u64>, width: usize, blocks: usize) {
    let column = CUBE_POS * THREADS + UNIT_POS as usize;
    if column < width {
        let mut sum = 0u64;
        for block in 0..blocks {
            sum += parts[block * width + column];
        }
        sums[column] = sum;
    }
}
