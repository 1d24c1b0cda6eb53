//! Rows in the registers of a cube's threads, and weighted sums of rows in them.

use cubecl::prelude::*;

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

/// The other way: the columns of this thread become those of the row that begins at `at`.
#[cube]
pub(super) fn store(
    row: &Array<f32>,
    into: &mut Array<f32>,
    at: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    #[unroll]
    for j in 0..columns {
        if is_column(0usize, d, j, threads) {
            into[at + column(0usize, d, j, threads)] = row[j];
        }
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

/// `sum += Σ weight·(x[row] − centre)` of the pairs from `from` to `to`, in order. With `parts`, rows begin
/// again after every `part`.
#[cube]
pub(super) fn add_x(
    sum: &mut Array<f32>,
    from: usize,
    to: usize,
    rows: &Array<u32>,
    weights: &Array<f32>,
    x: &Array<f32>,
    centre: &Array<f32>,
    part: usize,
    first: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
    #[comptime] parts: bool,
) {
    let mut less = Array::<f32>::new(columns);
    #[unroll]
    for j in 0..columns {
        less[j] = centre[column(first, d, j, threads)];
    }
    for p in from..to {
        let mut row = rows[p] as usize;
        if parts {
            row = row % part;
        }
        let weight = weights[p];
        #[unroll]
        for j in 0..columns {
            sum[j] = fma(weight, x[row * d + column(first, d, j, threads)] - less[j], sum[j]);
        }
    }
}

/// `sum += Σ weight·y[row]` of the pairs from `from` to `to`, in order; beyond `y_rows` there is nothing.
#[cube]
pub(super) fn add_y(
    sum: &mut Array<f32>,
    from: usize,
    to: usize,
    rows: &Array<u32>,
    weights: &Array<f32>,
    y: &Array<f32>,
    y_rows: usize,
    first: usize,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    for p in from..to {
        let (row, weight) = (rows[p] as usize, weights[p]);
        if row < y_rows {
            #[unroll]
            for j in 0..columns {
                sum[j] = fma(weight, y[row * d + column(first, d, j, threads)], sum[j]);
            }
        }
    }
}
