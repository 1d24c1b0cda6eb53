//! Products of dense matrices, row-major, on the current rayon pool.

use rayon::prelude::*;

use crate::kernels::{Path, Real, lanes::LaneStarts, simd::Kernel};

/// Columns of a panel: with [`TILE_ROWS`] rows, 24 registers of AVX-512 in f64.
const PANEL: usize = 32;
/// Rows of a register tile.
const TILE_ROWS: usize = 6;
/// Rows one task multiplies: a panel that is fetched serves 16 tiles.
const BLOCK_ROWS: usize = 96;

/// A matrix `[k, n]` as `[panels][k][PANEL]`, padded with zeros: the right side of a product.
#[derive(Debug, Clone)]
pub struct Panels<R> {
    k: usize,
    n: usize,
    data: Vec<R>,
}

impl<R: Real> Panels<R> {
    /// Of `b`, row-major `[k, n]`.
    pub fn of(b: &[R], n: usize) -> Self {
        let k = b.len() / n.max(1);
        Panels::packed(k, n, |row, column| b[row * n + column])
    }

    /// Of the transpose of `rows`, row-major `[n, k]`.
    pub fn transposed(rows: &[R], k: usize) -> Self {
        Panels::packed(k, rows.len() / k.max(1), |row, column| rows[column * k + row])
    }

    /// Adds a column, `[k]`.
    pub fn push(&mut self, column: &[R]) {
        if self.n.is_multiple_of(PANEL) {
            self.data.resize(self.data.len() + self.k * PANEL, R::ZERO);
        }
        let panel = &mut self.data[self.n / PANEL * self.k * PANEL..];
        for (row, &v) in panel.chunks_exact_mut(PANEL).zip(column) {
            row[self.n % PANEL] = v;
        }
        self.n += 1;
    }

    fn packed(k: usize, n: usize, at: impl Fn(usize, usize) -> R + Sync) -> Self {
        let mut data = vec![R::ZERO; n.div_ceil(PANEL) * k * PANEL];
        data.par_chunks_mut((k * PANEL).max(1)).enumerate().for_each(|(panel, data)| {
            for (row, out) in data.chunks_exact_mut(PANEL).enumerate() {
                let columns = panel * PANEL..((panel + 1) * PANEL).min(n);
                out.iter_mut().zip(columns).for_each(|(out, column)| *out = at(row, column));
            }
        });
        Panels { k, n, data }
    }
}

/// `a·b`, `[m, n]`; `a` is `[m, k]`. A row of the result depends on its row of `a` alone.
pub fn product<R: Real>(path: Path, a: &[R], b: &Panels<R>) -> Vec<R> {
    let mut out = vec![R::ZERO; a.len() / b.k.max(1) * b.n];
    if !out.is_empty() {
        let tasks = out.par_chunks_mut(BLOCK_ROWS * b.n).zip(a.par_chunks(BLOCK_ROWS * b.k));
        tasks.for_each(|(out, a)| path.run(Multiply { a, b, out }));
    }
    out
}

/// `a·aᵀ`, `[m, m]`; `a` is `[m, k]`.
pub fn gram<R: Real>(path: Path, a: &[R], k: usize) -> Vec<R> {
    product(path, a, &Panels::transposed(a, k))
}

/// `a·b` of square matrices `[n, n]`.
pub fn square<R: Real>(path: Path, a: &[R], b: &[R], n: usize) -> Vec<R> {
    product(path, a, &Panels::of(b, n))
}

/// `Σ_rows xᵀ·y`, `[m, n]`, lane by lane in lane order; `x` is `[rows, m]`, `y` `[rows, n]`.
pub fn cross<R: Real>(path: Path, lanes: LaneStarts, (x, m): (&[R], usize), (y, n): (&[R], usize)) -> Vec<R> {
    let mut total = vec![R::ZERO; m * n];
    for lane in lanes.windows(2).filter(|lane| lane[0] < lane[1]) {
        let left = transpose(&x[lane[0] * m..lane[1] * m], m);
        let sum = product(path, &left, &Panels::of(&y[lane[0] * n..lane[1] * n], n));
        total.iter_mut().zip(sum).for_each(|(total, sum)| *total += sum);
    }
    total
}

/// `[rows, columns]` → `[columns, rows]`.
pub fn transpose<R: Real>(matrix: &[R], columns: usize) -> Vec<R> {
    let rows = matrix.len() / columns.max(1);
    let mut out = vec![R::ZERO; matrix.len()];
    out.par_chunks_mut(rows.max(1)).enumerate().for_each(|(column, out)| {
        out.iter_mut().zip(matrix[column..].iter().step_by(columns)).for_each(|(out, &v)| *out = v);
    });
    out
}

struct Multiply<'a, R> {
    a: &'a [R],
    b: &'a Panels<R>,
    out: &'a mut [R],
}

impl<R: Real> Kernel for Multiply<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (k, n) = (self.b.k, self.b.n);
        let mut tile = vec![R::ZERO; k * TILE_ROWS];
        for (a, out) in self.a.chunks(TILE_ROWS * k).zip(self.out.chunks_mut(TILE_ROWS * n)) {
            interleave(a, k, &mut tile);
            for (panel, b) in self.b.data.chunks_exact(k * PANEL).enumerate() {
                let sums = multiply(&tile, b);
                let columns = panel * PANEL..((panel + 1) * PANEL).min(n);
                for (out, sums) in out.chunks_exact_mut(n).zip(&sums) {
                    out[columns.clone()].copy_from_slice(&sums[..columns.len()]);
                }
            }
        }
    }
}

/// Up to [`TILE_ROWS`] rows of `a` as `[k][TILE_ROWS]`; rows that are not there repeat old values.
#[inline(always)]
fn interleave<R: Real>(a: &[R], k: usize, tile: &mut [R]) {
    for (r, row) in a.chunks_exact(k).enumerate() {
        for (out, &v) in tile.as_chunks_mut::<TILE_ROWS>().0.iter_mut().zip(row) {
            out[r] = v;
        }
    }
}

#[inline(always)]
fn multiply<R: Real>(tile: &[R], panel: &[R]) -> [[R; PANEL]; TILE_ROWS] {
    let mut sums = [[R::ZERO; PANEL]; TILE_ROWS];
    for (a, b) in tile.as_chunks::<TILE_ROWS>().0.iter().zip(panel.as_chunks::<PANEL>().0) {
        for r in 0..TILE_ROWS {
            for c in 0..PANEL {
                sums[r][c] = a[r].fma(b[c], sums[r][c]);
            }
        }
    }
    sums
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
                assert_eq!(product(path, &a, &Panels::of(&b, n)), expected, "{path:?} {m} {k} {n}");
                let turned = Panels::transposed(&transpose(&b, n), k);
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
