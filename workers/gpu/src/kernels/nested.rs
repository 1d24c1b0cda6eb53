//! What each prefix of a dictionary leaves unexplained, in one walk over the rows.
//!
//! One cube per row, which lies in the registers of the cube's threads. Latents ascend inside a row, so the atoms of
//! one prefix after the other are taken away, and what is left at the end of each is written down. Then back
//! from the last: what each left is read again, from the cache, added to the weighted sum of those behind it, and
//! the sum takes its place and is multiplied with the atoms of its prefix.

use cubecl::prelude::*;

use super::{
    codes::CodesOnCard,
    lines::{Lines, Read, read},
    residual::{PAIRS, dots, positions},
    spread::{Spread, column, is_column, load},
    tree,
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// Prefixes of a dictionary, and where their parts lie.
#[derive(Debug, Clone)]
pub struct Prefixes<'a> {
    /// Latents below it are of the prefix; ascending, the last is the number of latents.
    pub ends: &'a [u32],
    /// What the error of each weighs.
    pub weights: &'a [f32],
    /// Rows of a part: at least as many as the code has.
    pub part: usize,
}

/// What prefixes leave.
#[derive(Debug, Clone)]
pub struct Nested {
    /// `⟨sum, atom⟩` of every pair, `[nnz]`: the sum of the first prefix that has it.
    pub along_atoms: Floats,
    /// `‖e_j‖²` of every prefix and row, `[prefixes, rows]`.
    pub squares: Floats,
}

/// `Σ_{l ≥ j} weights[l]·e_l` of every prefix `j`, `[prefixes · part, d]`, written to `sums`: `e_l` is what the pairs of
/// `codes` (with `values`, `[nnz]`) below `ends[l]` leave of `target` (`[rows, d]`) less `offset` (`[d]`), given the
/// atoms `w_dec` (`[n, d]`). The last weight has to be 1.
pub fn nested<R: Runtime>(
    card: &Card<R>,
    target: &Floats,
    offset: &Floats,
    codes: &CodesOnCard,
    values: &Floats,
    w_dec: Lines,
    prefixes: &Prefixes,
    sums: &Floats,
) -> Nested {
    let (rows, nnz, count) = (codes.rows(), codes.nnz(), prefixes.ends.len());
    let left = Nested { along_atoms: card.room(nnz), squares: card.room(count * rows) };
    if rows == 0 || count == 0 {
        return left;
    }
    let d = offset.len();
    let spread = Spread::of(d);
    nested_rows::launch::<R>(
        card.client(),
        cubes(rows),
        spread.units(),
        positions([target.len(), w_dec.positions(d), sums.len()]),
        target.arg(),
        offset.arg(),
        codes.offsets.arg(),
        codes.latents.arg(),
        values.arg(),
        w_dec.arg(),
        card.upload(prefixes.ends).arg(),
        card.upload(prefixes.weights).arg(),
        sums.arg(),
        left.along_atoms.arg(),
        left.squares.arg(),
        rows,
        prefixes.part,
        count,
        d,
        w_dec.pitch(d),
        spread,
    );
    left
}

#[cube(launch, address_type = "dynamic")]
fn nested_rows(
    target: &Array<f32>,
    offset: &Array<f32>,
    offsets: &Array<u32>,
    latents: &Array<u32>,
    values: &Array<f32>,
    w_dec: &Read,
    ends: &Array<u32>,
    weights: &Array<f32>,
    sums: &mut Array<f32>,
    along: &mut Array<f32>,
    squares: &mut Array<f32>,
    rows: usize,
    part: usize,
    prefixes: usize,
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
    let mut left = Array::<f32>::new(columns);
    #[unroll]
    for j in 0..columns {
        let c = column(0usize, d, j, threads);
        left[j] = target[row * d + c] - offset[c];
    }
    let start = offsets[row] as usize;
    let end = offsets[row + 1] as usize;
    let mut lanes = SharedMemory::<f32>::new(comptime!(PAIRS * threads));
    let mut p = start;
    for prefix in 0..prefixes {
        let limit = ends[prefix];
        while p < end {
            if latents[p] >= limit {
                break;
            }
            let (atom, value) = (latents[p] as usize * pitch, -values[p]);
            #[unroll]
            for j in 0..columns {
                left[j] = fma(value, read(w_dec, atom + column(0usize, d, j, threads)), left[j]);
            }
            p += 1usize;
        }
        let mut square = 0.0f32;
        #[unroll]
        for j in 0..columns {
            if is_column(0usize, d, j, threads) {
                sums[(prefix * part + row) * d + column(0usize, d, j, threads)] = left[j];
                square = fma(left[j], left[j], square);
            }
        }
        let square = tree::total(square, &mut lanes, threads);
        if UNIT_POS == 0 {
            squares[prefix * rows + row] = square;
        }
    }
    #[unroll]
    for j in 0..columns {
        left[j] = 0.0f32;
    }
    let mut e = Array::<f32>::new(columns);
    let mut to = end;
    for back in 0..prefixes {
        let prefix = prefixes - 1 - back;
        let at = (prefix * part + row) * d;
        load(&mut e, sums, at, d, columns, threads);
        let weight = weights[prefix];
        #[unroll]
        for j in 0..columns {
            left[j] = fma(weight, e[j], left[j]);
            if is_column(0usize, d, j, threads) {
                sums[at + column(0usize, d, j, threads)] = left[j];
            }
        }
        let mut from = start;
        if prefix > 0 {
            from = to;
            let limit = ends[prefix - 1];
            while from > start {
                if latents[from - 1] < limit {
                    break;
                }
                from -= 1usize;
            }
        }
        dots(&left, from, to, latents, w_dec, along, &mut lanes, d, pitch, spread);
        to = from;
    }
}
