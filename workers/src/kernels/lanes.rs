//! Sums over a batch, lane by lane in lane order: whoever holds which lanes, the bits are the same.
//!
//! Inside a lane, rows are summed in blocks of [`BLOCK_ROWS`], and blocks added in order: blocks are
//! what threads share out, and they are cut from the lane alone.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    real::Real,
    simd::{Kernel, Path},
    strip::{self, Columns},
    vector,
};

/// First row of every lane, and the number of rows: `lanes + 1` ascending positions.
pub type LaneStarts<'a> = &'a [usize];

/// Rows of a block.
pub const BLOCK_ROWS: usize = 64;

/// Some rows of one lane: what one task sums.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The lane.
    pub lane: usize,
    /// The rows.
    pub rows: Range<usize>,
}

/// All rows in blocks, in order. Empty lanes have none.
pub fn blocks(lanes: LaneStarts) -> Vec<Block> {
    let of_lane = |(lane, ends): (usize, &[usize])| {
        let (start, end) = (ends[0], ends[1]);
        let block = move |row: usize| Block { lane, rows: row..(row + BLOCK_ROWS).min(end) };
        (start..end).step_by(BLOCK_ROWS).map(block)
    };
    lanes.windows(2).enumerate().flat_map(of_lane).collect()
}

/// What sums over rows give a mean and a variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// `Σ‖y‖²`.
    pub squared_norm: f64,
    /// `Σ y`, `[d]`.
    pub column_sums: Vec<f64>,
}

impl Moments {
    /// Of no rows.
    pub fn zero(d: usize) -> Self {
        Moments { squared_norm: 0.0, column_sums: vec![0.0; d] }
    }

    /// Of these rows and others.
    #[must_use]
    pub fn joined(mut self, other: &Moments) -> Moments {
        self.add(other);
        self
    }

    fn add(&mut self, other: &Moments) {
        self.squared_norm += other.squared_norm;
        self.column_sums.iter_mut().zip(&other.column_sums).for_each(|(sum, v)| *sum += v);
    }

    /// `Σ‖y − ȳ‖² = Σ‖y‖² − ‖Σy‖²/rows`, not below 0.
    pub fn scatter(&self, rows: usize) -> f64 {
        let mean_part: f64 = self.column_sums.iter().map(|s| s * s).sum::<f64>() / rows.max(1) as f64;
        // `max` would turn NaN into 0 and hide that the rows are not finite.
        let scatter = self.squared_norm - mean_part;
        if scatter < 0.0 { 0.0 } else { scatter }
    }
}

/// The sum of `per_block`: blocks of a lane in order, then lanes in order.
pub fn total(blocks: &[Block], per_block: &[Moments], d: usize) -> Moments {
    let mut total = Moments::zero(d);
    let lanes = blocks.chunk_by(|a, b| a.lane == b.lane);
    let mut at = 0;
    for lane in lanes {
        let mut sum = Moments::zero(d);
        per_block[at..at + lane.len()].iter().for_each(|block| sum.add(block));
        total.add(&sum);
        at += lane.len();
    }
    total
}

/// The moments of `y`, `[rows, d]`. Runs on the current rayon pool.
pub fn moments<R: Real>(path: Path, y: &[R], d: usize, lanes: LaneStarts) -> Moments {
    let blocks = blocks(lanes);
    let of_block = |b: &Block| path.run(OfRows { rows: &y[b.rows.start * d..b.rows.end * d], d });
    let sums: Vec<Moments> = blocks.par_iter().map(of_block).collect();
    total(&blocks, &sums, d)
}

struct OfRows<'a, R> {
    rows: &'a [R],
    d: usize,
}

impl<R: Real> Kernel for OfRows<'_, R> {
    type Output = Moments;

    #[inline(always)]
    fn run(self) -> Moments {
        let mut moments = Moments::zero(self.d);
        for row in self.rows.chunks_exact(self.d) {
            moments.squared_norm += vector::dot(row, row).f64();
        }
        add_columns(self.rows, self.d, &mut moments.column_sums);
        moments
    }
}

/// `sums += Σ rows` in f64, row after row; `rows` is `[rows, d]`, `sums` `[d]`.
#[inline(always)]
pub fn add_columns<R: Real>(rows: &[R], d: usize, sums: &mut [f64]) {
    strip::walk::<4>(d, &mut ColumnSums { rows, d, sums });
}

struct ColumnSums<'a, R> {
    rows: &'a [R],
    d: usize,
    sums: &'a mut [f64],
}

impl<R: Real> Columns for ColumnSums<'_, R> {
    #[inline(always)]
    fn strip<const N: usize, const L: usize>(&mut self, at: usize) {
        let mut sums = strip::load::<f64, N, L>(self.sums, at);
        for row in self.rows.chunks_exact(self.d) {
            let values = strip::load::<R, N, L>(row, at);
            for n in 0..N {
                for i in 0..L {
                    sums[n][i] += values[n][i].f64();
                }
            }
        }
        strip::store(&sums, self.sums, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_each_lane_alone() {
        let rows: Vec<(usize, Range<usize>)> =
            blocks(&[0, 130, 130, 131]).into_iter().map(|b| (b.lane, b.rows)).collect();
        assert_eq!(rows, [(0, 0..64), (0, 64..128), (0, 128..130), (2, 130..131)]);
    }

    #[test]
    fn scatter_is_the_sum_about_the_mean() {
        for path in Path::available() {
            for d in [1, 2, 17, 100] {
                let y: Vec<f64> = (0..150 * d).map(|i| ((i * i + 3 * i) % 101) as f64).collect();
                let mean = |c: usize| y.chunks(d).map(|row| row[c]).sum::<f64>() / 150.0;
                let slow: f64 =
                    (0..d).map(|c| y.chunks(d).map(|row| (row[c] - mean(c)).powi(2)).sum::<f64>()).sum();
                let fast = moments(path, &y, d, &[0, 70, 150]).scatter(150);
                assert!((fast - slow).abs() < 1e-12 * slow, "{path:?} d={d}: {fast} is not {slow}");
            }
        }
    }

    #[test]
    fn rows_that_are_not_finite_are_not_hidden() {
        let scatter = |y: &[f32]| moments(Path::best(), y, 1, &[0, y.len()]).scatter(y.len());
        assert!(scatter(&[1.0, f32::NAN]).is_nan());
        assert!(!scatter(&[1.0, f32::INFINITY]).is_finite());
        assert_eq!(scatter(&[1.0, 1.0, 1.0]), 0.0);
    }
}
