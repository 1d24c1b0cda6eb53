//! Products of dense matrices, row-major, on the current rayon pool.

use rayon::prelude::*;

pub use crate::kernels::product::Panels;
use crate::kernels::{Path, Real, lanes::LaneStarts};

/// `a·b`, `[m, n]`; `a` is `[m, k]`. A row of the result depends on its row of `a` alone.
pub fn product<R: Real>(path: Path, a: &[R], b: &Panels<R>) -> Vec<R> {
    let mut out = vec![R::ZERO; a.len() / b.depth().max(1) * b.outputs()];
    b.times(path, a, &mut out);
    out
}

/// `a·aᵀ`, `[m, m]`; `a` is `[m, k]`.
pub fn gram<R: Real>(path: Path, a: &[R], k: usize) -> Vec<R> {
    product(path, a, &Panels::of_rows(a, k))
}

/// `a·b` of square matrices `[n, n]`.
pub fn square<R: Real>(path: Path, a: &[R], b: &[R], n: usize) -> Vec<R> {
    product(path, a, &Panels::of_columns(b, n))
}

/// `Σ_rows xᵀ·y`, `[m, n]`, lane by lane in lane order; `x` is `[rows, m]`, `y` `[rows, n]`.
pub fn cross<R: Real>(path: Path, lanes: LaneStarts, (x, m): (&[R], usize), (y, n): (&[R], usize)) -> Vec<R> {
    let mut total = vec![R::ZERO; m * n];
    for lane in lanes.windows(2).filter(|lane| lane[0] < lane[1]) {
        let left = transpose(&x[lane[0] * m..lane[1] * m], m);
        let sum = product(path, &left, &Panels::of_columns(&y[lane[0] * n..lane[1] * n], n));
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
    total
}

/// Columns transposed together: a cache line of f32.
const STRIP: usize = 16;

/// `[rows, columns]` → `[columns, rows]`.
pub fn transpose<R: Real>(matrix: &[R], columns: usize) -> Vec<R> {
    let rows = matrix.len() / columns.max(1);
    let mut out = vec![R::ZERO; matrix.len()];
    out.par_chunks_mut((STRIP * rows).max(1)).enumerate().for_each(|(strip, out)| {
        let first = strip * STRIP;
        for (r, row) in matrix.chunks_exact(columns).enumerate() {
            let here = &row[first..columns.min(first + STRIP)];
            out[r..].iter_mut().step_by(rows).zip(here).for_each(|(out, &v)| *out = v);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(rows: usize, columns: usize, seed: usize) -> Vec<f64> {
        (0..rows * columns).map(|i| ((i * 37 + seed * 11) % 97) as f64 / 31.0 - 1.5).collect()
    }

    #[test]
    fn every_path_and_shape_equals_the_definition() {
        for (m, k, n) in [(1, 1, 1), (7, 5, 33), (100, 17, 64), (6, 40, 3), (3, 0, 4)] {
            let (a, b) = (matrix(m, k, 1), matrix(k, n, 2));
            let slow = |i: usize| (0..k).fold(0.0, |s, j| a[i / n * k + j].mul_add(b[j * n + i % n], s));
            let expected: Vec<f64> = (0..if k > 0 { m * n } else { 0 }).map(slow).collect();
            for path in Path::available() {
                assert_eq!(product(path, &a, &Panels::of_columns(&b, n)), expected, "{path:?} {m} {k} {n}");
                let turned = Panels::of_rows(&transpose(&b, n), k);
                assert_eq!(product(path, &a, &turned), expected, "{path:?} {m} {k} {n}");
            }
        }
    }

    #[test]
    fn cross_products_are_summed_lane_by_lane() {
        let x = [1e8f32, 1.0, -1e8, 1.0];
        let of = |lanes: &[usize]| cross(Path::best(), lanes, (&x, 1), (&[1.0; 4], 1))[0];
        assert_eq!((of(&[0, 4]), of(&[0, 2, 4]), of(&[0, 1, 1, 3, 4])), (1.0, 0.0, 1.0));
        let (x, y) = (matrix(9, 4, 1), matrix(9, 3, 2));
        let sum = cross(Path::best(), &[0, 4, 9], (&x, 4), (&y, 3));
        let slow: f64 = (0..9).map(|r| x[r * 4 + 2] * y[r * 3 + 1]).sum();
        assert!((sum[2 * 3 + 1] - slow).abs() < 1e-12);
    }
}
