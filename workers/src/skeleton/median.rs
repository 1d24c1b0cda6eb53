//! The geometric median of a sample: where `b_dec` starts.

use rayon::prelude::*;

use crate::kernels::{Path, simd::Kernel, vector::LANES};

/// Rows of a task; their sums are added in block order.
const BLOCK_ROWS: usize = 256;

/// Weiszfeld's iteration from the mean, at most 100 rounds, tolerance 1e-5 of the norm
/// (`saprmarks/dictionary_learning`, `trainers/top_k.py`, `geometric_median`).
///
/// `sample` is `[rows, d_in]`; an empty sample gives zeros. Sums run in f64, by blocks of rows in row
/// order: neither the path nor the number of threads changes a bit.
pub fn geometric_median(path: Path, sample: &[f32], d_in: usize) -> Vec<f32> {
    let mut median = round(path, sample, d_in, None);
    for _ in 0..100 {
        let next = round(path, sample, d_in, Some(&median));
        let moved = norm(next.iter().zip(&median).map(|(a, b)| a - b));
        let size = norm(next.iter().copied());
        median = next;
        if moved <= 1e-5 * size {
            break;
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
    median.into_iter().map(|v| v as f32).collect()
}

/// The mean of the rows, each weighted with the inverse of its distance to `point`, if there is one.
fn round(path: Path, sample: &[f32], d_in: usize, point: Option<&[f64]>) -> Vec<f64> {
    let of = |rows: &[f32]| path.run(Block { rows, d_in, point });
    let blocks: Vec<(f64, Vec<f64>)> = sample.par_chunks(BLOCK_ROWS * d_in).map(of).collect();
    let (mut total, mut mean) = (0.0, vec![0f64; d_in]);
    for (weight, sums) in blocks {
        total += weight;
        mean.iter_mut().zip(sums).for_each(|(mean, sum)| *mean += sum);
    }
    mean.iter_mut().for_each(|m| *m /= if total > 0.0 { total } else { 1.0 });
    mean
}

struct Block<'a> {
    rows: &'a [f32],
    d_in: usize,
    point: Option<&'a [f64]>,
}

impl Kernel for Block<'_> {
    /// Sum of the weights and weighted sum of the rows.
    type Output = (f64, Vec<f64>);

    #[inline(always)]
    fn run(self) -> (f64, Vec<f64>) {
        let (mut total, mut sums) = (0.0, vec![0f64; self.d_in]);
        for row in self.rows.chunks_exact(self.d_in) {
            let weight = match self.point {
                Some(point) => 1.0 / square_distance(row, point).sqrt().max(1e-6),
                None => 1.0,
            };
            total += weight;
            for (sum, &x) in sums.iter_mut().zip(row) {
                *sum += weight * f64::from(x);
            }
        }
        (total, sums)
    }
}

/// In [`LANES`] interleaved sums, added in lane order.
#[inline(always)]
fn square_distance(row: &[f32], point: &[f64]) -> f64 {
    let mut sums = [0f64; LANES];
    let (rows, row_tail) = row.as_chunks::<LANES>();
    let (points, point_tail) = point.as_chunks::<LANES>();
    for (x, p) in rows.iter().zip(points) {
        for lane in 0..LANES {
            let away = f64::from(x[lane]) - p[lane];
            sums[lane] += away * away;
        }
    }
    let mut total = 0.0;
    for sum in sums {
        total += sum;
    }
    for (&x, &p) in row_tail.iter().zip(point_tail) {
        let away = f64::from(x) - p;
        total += away * away;
    }
    total
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_four_points_is_known() {
        // methods.md §0.4: exactly (0.5, 0.5), while the mean is (2.75, 2.75).
        let sample = [0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 10.0, 10.0];
        let median = geometric_median(Path::best(), &sample, 2);
        assert!(median.iter().all(|m| (m - 0.5).abs() < 1e-3), "{median:?}");
    }

    #[test]
    fn every_path_gives_the_same_bits() {
        let sample: Vec<f32> = (0..700 * 37).map(|i| (i as f32 * 0.37).sin() * (i % 11) as f32).collect();
        for path in Path::available() {
            let median = geometric_median(path, &sample, 37);
            assert_eq!(median, geometric_median(Path::Portable, &sample, 37), "{path:?}");
        }
        assert_eq!(geometric_median(Path::best(), &[], 3), [0.0; 3]);
    }
}
