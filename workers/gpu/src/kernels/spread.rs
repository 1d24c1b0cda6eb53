//! Rows in the registers of a cube's threads, and weighted sums of rows in them.

use cubecl::prelude::*;

use super::gather::TERMS;

/// Which terms have a `y`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Kinds {
    pub(super) terms: usize,
    pub(super) has_y: [bool; TERMS],
}

/// How the columns of a row are spread over the threads of a cube: thread `t` has `t`, `t + threads`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    /// A power of two.
    pub(super) threads: usize,
    /// Columns per thread, the last ones beyond the row.
    pub(super) columns: usize,
}

impl Spread {
    /// Of rows of `d`. As few threads as keep what a thread holds small: others go to further cubes.
    pub(super) fn of(d: usize) -> Self {
        let threads = match d {
            0..=96 => 32,
            97..=192 => 64,
            193..=512 => 128,
            _ => 256,
        };
        Spread::over(threads, d)
    }

    /// Of rows of `d` over so many threads.
    pub(super) fn over(threads: usize, d: usize) -> Self {
        Spread { threads, columns: d.div_ceil(threads).max(1) }
    }

    /// Threads of a cube.
    #[allow(clippy::cast_possible_truncation, reason = "at most 256")]
    pub(super) fn units(self) -> CubeDim {
        crate::card::units(self.threads as u32)
    }
}

/// Column number `j` of this thread, from `first` on; beyond the row's end `d`, its last one.
#[cube]
pub(super) fn column(first: usize, d: usize, #[comptime] j: usize, #[comptime] threads: usize) -> usize {
    let column = UNIT_POS as usize + first + comptime!(j * threads);
    select(column < d, column, d - 1)
}

/// Whether column number `j` of this thread is one of the row.
#[cube]
pub(super) fn is_column(first: usize, d: usize, #[comptime] j: usize, #[comptime] threads: usize) -> bool {
    UNIT_POS as usize + first + comptime!(j * threads) < d
}

/// The columns of this thread of the row that begins at `at`; beyond its end, zeros.
#[cube]
pub(super) fn load(
    row: &mut Array<f32>,
    from: &Array<f32>,
    at: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    #[unroll]
    for j in 0..columns {
        let number = from[at + column(0usize, d, j, threads)];
        row[j] = select(is_column(0usize, d, j, threads), number, 0.0f32);
    }
}

/// `sum = Σ` of the sums of segments from `first` to `last`, in order; columns `at..at + d` of rows of `width`.
#[cube]
pub(super) fn add_segments(
    sum: &mut Array<f32>,
    sums: &Array<f32>,
    first: usize,
    last: usize,
    width: usize,
    at: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    #[unroll]
    for j in 0..columns {
        sum[j] = 0.0f32;
    }
    for segment in first..last {
        #[unroll]
        for j in 0..columns {
            sum[j] = sum[j] + sums[segment * width + at + column(0usize, d, j, threads)];
        }
    }
}

/// `sum += Σ weight·(x[row] − centre)` of the pairs from `from` to `to`, in order.
#[cube]
pub(super) fn add_x(
    sum: &mut Array<f32>,
    from: usize,
    to: usize,
    rows: &Array<u32>,
    weights: &Array<f32>,
    x: &Array<f32>,
    centre: &Array<f32>,
    batch: usize,
    first: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
    #[comptime] kinds: Kinds,
) {
    let mut less = Array::<f32>::new(columns);
    #[unroll]
    for j in 0..columns {
        less[j] = centre[column(first, d, j, threads)];
    }
    for p in from..to {
        let mut row = rows[p] as usize;
        if comptime!(kinds.terms > 1) {
            row = row % batch;
        }
        let weight = weights[p];
        #[unroll]
        for j in 0..columns {
            sum[j] = fma(weight, x[row * d + column(first, d, j, threads)] - less[j], sum[j]);
        }
    }
}

/// `sum += Σ weight·y[row]` of the pairs from `from` to `to`, in order, each of the `y` of its term.
#[cube]
pub(super) fn add_y(
    sum: &mut Array<f32>,
    from: usize,
    to: usize,
    rows: &Array<u32>,
    weights: &Array<f32>,
    y0: &Array<f32>,
    y1: &Array<f32>,
    y2: &Array<f32>,
    batch: usize,
    first: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
    #[comptime] kinds: Kinds,
) {
    for p in from..to {
        let (row, weight) = (rows[p] as usize, weights[p]);
        if comptime!(kinds.has_y[0]) {
            if row < batch {
                add_row(sum, weight, y0, row, first, d, columns, threads);
            }
        }
        if comptime!(kinds.has_y[1]) {
            if row >= batch && row < batch * 2 {
                add_row(sum, weight, y1, row - batch, first, d, columns, threads);
            }
        }
        if comptime!(kinds.has_y[2]) {
            if row >= batch * 2 {
                add_row(sum, weight, y2, row - batch * 2, first, d, columns, threads);
            }
        }
    }
}

#[cube]
fn add_row(
    sum: &mut Array<f32>,
    weight: f32,
    y: &Array<f32>,
    row: usize,
    first: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    #[unroll]
    for j in 0..columns {
        sum[j] = fma(weight, y[row * d + column(first, d, j, threads)], sum[j]);
    }
}
