//! Sums over rows, column by column, and what is done to every row alike.
//!
//! Sums go in levels: 256 rows become one, until one is left. Within a level, eight groups of threads each
//! add their rows in order, and the groups are added in order. How the rows are cut follows from their
//! number alone.

use cubecl::prelude::*;
use half::bf16;

use super::{
    lines::{Lines, Read, read},
    residual::{address, positions},
};
use crate::{
    Runtime,
    card::{Buffer, Card, Floats, cubes, units},
};

/// Rows that become one, by `GROUPS` groups of `LANES` threads.
const ROWS: usize = 256;
const GROUPS: usize = 8;
const LANES: usize = 32;
/// Threads of a cube, and numbers that one cube changes where each is on its own.
const THREADS: usize = 256;

/// What the sums over rows are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Summed {
    Rows,
    Weighted,
    Squares,
}

/// Sums over rows.
#[derive(Debug, Clone)]
pub struct Moments {
    /// `Σ y`, `[d]`.
    pub sums: Floats,
    /// `Σ y²` of every column, `[d]`; `Σ‖y‖²` is their sum, which f64 should hold.
    pub squares: Floats,
}

/// `Σ_r y[r, :]` of `y` (`[rows, d]`), `[d]`.
pub fn sums<R: Runtime>(card: &Card<R>, y: &Floats, d: usize) -> Floats {
    levels(card, Lines::Floats(y), None, d, Summed::Rows)
}

/// `Σ_r weight[r]·y[r, :]` of `y` (`[rows, d]`) and `weight` (`[rows]`), `[d]`. Rows without weight are not
/// read.
pub fn weighted<R: Runtime>(card: &Card<R>, weight: &Floats, y: Lines, d: usize) -> Floats {
    levels(card, y, Some(weight), d, Summed::Weighted)
}

/// Sums of `y` (`[rows, d]`) and of its squares.
pub fn moments<R: Runtime>(card: &Card<R>, y: &Floats, d: usize) -> Moments {
    Moments {
        sums: levels(card, Lines::Floats(y), None, d, Summed::Rows),
        squares: levels(card, Lines::Floats(y), None, d, Summed::Squares),
    }
}

fn levels<R: Runtime>(card: &Card<R>, y: Lines, weight: Option<&Floats>, d: usize, summed: Summed) -> Floats {
    let mut rows = y.rows(d);
    let mut sums = blocks(card, y, rows, weight, d, summed);
    while sums.len() > d {
        rows = rows.div_ceil(ROWS);
        sums = blocks(card, Lines::Floats(&sums), rows, None, d, Summed::Rows);
    }
    sums
}

/// The sums of every [`ROWS`] rows.
fn blocks<R: Runtime>(
    card: &Card<R>,
    y: Lines,
    rows: usize,
    weight: Option<&Floats>,
    d: usize,
    summed: Summed,
) -> Floats {
    let (blocks, strips, absent) = (rows.div_ceil(ROWS).max(1), d.div_ceil(LANES), card.room(1));
    let into = card.room(blocks * d);
    sum_blocks::launch::<R>(
        card.client(),
        cubes(blocks * strips),
        units(THREADS as u32),
        positions([y.positions(d)]),
        y.arg(),
        weight.unwrap_or(&absent).arg(),
        into.arg(),
        rows,
        d,
        y.pitch(d),
        strips,
        summed,
    );
    into
}

#[cube(launch, address_type = "dynamic")]
fn sum_blocks(
    y: &Read,
    weight: &Array<f32>,
    into: &mut Array<f32>,
    rows: usize,
    d: usize,
    pitch: usize,
    strips: usize,
    #[comptime] summed: Summed,
) {
    let unit = UNIT_POS as usize;
    let (lane, group) = (unit % LANES, unit / LANES);
    let (block, column) = (CUBE_POS / strips, CUBE_POS % strips * LANES + lane);
    let start = block * ROWS + group * comptime!(ROWS / GROUPS);
    let mut sum = 0.0f32;
    for i in 0..comptime!(ROWS / GROUPS) {
        let row = start + i;
        if comptime!(summed == Summed::Weighted) {
            if row < rows && column < d {
                let factor = weight[row];
                if factor != 0.0f32 {
                    sum = fma(factor, read(y, row * pitch + column), sum);
                }
            }
        } else if row < rows && column < d {
            let number = read(y, row * pitch + column);
            if comptime!(summed == Summed::Squares) {
                sum = fma(number, number, sum);
            } else {
                sum += number;
            }
        }
    }
    let mut part = SharedMemory::<f32>::new(THREADS);
    part[unit] = sum;
    sync_cube();
    if unit < LANES && column < d && (block * ROWS < rows || block == 0) {
        let mut all = 0.0f32;
        #[unroll]
        for group in 0..GROUPS {
            all += part[unit + comptime!(group * LANES)];
        }
        into[block * d + column] = all;
    }
}

/// `x − centre` of every row of `x` (`[rows, d]`), given `centre` (`[d]`).
pub fn centre<R: Runtime>(card: &Card<R>, x: &Floats, centre: &Floats) -> Floats {
    let centred = card.room(x.len());
    if !x.is_empty() {
        subtract::launch::<R>(
            card.client(),
            cubes(x.len().div_ceil(THREADS)),
            units(THREADS as u32),
            address([x]),
            x.arg(),
            centre.arg(),
            centred.arg(),
            x.len(),
            centre.len(),
        );
    }
    centred
}

#[cube(launch, address_type = "dynamic")]
fn subtract(x: &Array<f32>, centre: &Array<f32>, centred: &mut Array<f32>, len: usize, d: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        centred[i] = x[i] - centre[i % d];
    }
}

/// Rounded to the nearest of 8 bits, of two equally near to the even one.
pub fn narrow<R: Runtime>(card: &Card<R>, x: &Floats) -> Buffer<bf16> {
    let narrow = card.room(x.len());
    let words = x.len().div_ceil(2);
    if words > 0 {
        narrow_pairs::launch::<R>(
            card.client(),
            cubes(words.div_ceil(THREADS)),
            units(THREADS as u32),
            address([x]),
            x.arg(),
            narrow.words(),
            x.len(),
        );
    }
    narrow
}

/// Two numbers per thread, packed: not every device knows the type.
#[cube(launch, address_type = "dynamic")]
fn narrow_pairs(x: &Array<f32>, packed: &mut Array<u32>, len: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i * 2 < len {
        let low = half_of(x[i * 2]);
        let mut high = 0u32;
        if i * 2 + 1 < len {
            high = half_of(x[i * 2 + 1]);
        }
        packed[i] = high << 16u32 | low;
    }
}

#[cube]
fn half_of(x: f32) -> u32 {
    let bits = u32::reinterpret(x);
    let rounded = (bits + 0x7fffu32 + ((bits >> 16u32) & 1u32)) >> 16u32;
    // Rounding could carry out of a NaN; one bit keeps it one.
    let nan = (bits & 0x7fff_ffffu32) > 0x7f80_0000u32;
    select(nan, (bits >> 16u32) | 0x40u32, rounded)
}
