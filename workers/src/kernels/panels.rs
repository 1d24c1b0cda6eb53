//! Products of dense matrices that fit a step: second moments, and what is a function of all latents of
//! a batch, some latents at a time.
//!
//! The right factor is packed once into panels of 32 columns that stay in the second-level cache
//! while all rows of the left factor pass. Each output is one fused multiply-add chain per cut, the
//! chains added in order, so every path gives the same bits.

use rayon::prelude::*;

use super::{
    lanes::LaneStarts,
    real::Real,
    simd::{Kernel, Path},
    strip::{self, Strip},
};

/// Columns of a panel.
const PANEL: usize = 32;
/// Rows of the product one task works on.
const BLOCK_ROWS: usize = 32;

/// A matrix `[rows, columns]` by panels of columns: `[ceil(columns / PANEL)][rows][PANEL]`.
#[derive(Debug, Clone)]
pub struct Panels<R> {
    rows: usize,
    columns: usize,
    data: Vec<R>,
}

impl<R: Real> Panels<R> {
    /// `matrix − centre`, each row without `centre` (`[columns]`). Runs on the current rayon pool.
    pub fn of(matrix: &[R], centre: &[R]) -> Self {
        let columns = centre.len();
        let rows = matrix.len() / columns.max(1);
        let value = |row: usize, column: usize| matrix[row * columns + column] - centre[column];
        Panels::new(rows, columns, value)
    }

    /// The transpose of `matrix − centre`.
    pub fn transposed(matrix: &[R], centre: &[R]) -> Self {
        let width = centre.len();
        let value = |row: usize, column: usize| matrix[column * width + row] - centre[row];
        Panels::new(width, matrix.len() / width.max(1), value)
    }

    fn new(rows: usize, columns: usize, value: impl Fn(usize, usize) -> R + Sync) -> Self {
        let mut data = vec![R::ZERO; columns.next_multiple_of(PANEL) * rows];
        data.par_chunks_mut((rows * PANEL).max(1)).enumerate().for_each(|(panel, data)| {
            let span = panel * PANEL..((panel + 1) * PANEL).min(columns);
            for (row, out) in data.chunks_exact_mut(PANEL).enumerate() {
                out.iter_mut().zip(span.clone()).for_each(|(out, column)| *out = value(row, column));
            }
        });
        Panels { rows, columns, data }
    }
}

/// `a·b`: `a` is `[m, k]`, `b` `[k, n]`, `out` `[m, n]`, overwritten; sums over k are cut at `cuts`.
#[derive(Debug)]
pub struct Product<'a, R> {
    /// Left factor.
    pub a: &'a [R],
    /// Right factor.
    pub b: &'a Panels<R>,
    /// Where chains of sums end, `0..=k`.
    pub cuts: LaneStarts<'a>,
    /// The product.
    pub out: &'a mut [R],
}

impl<R: Real> Product<'_, R> {
    /// Does it on the current rayon pool.
    pub fn run_on(self, path: Path) {
        let (b, cuts) = (self.b, self.cuts);
        let rows = self.a.par_chunks((BLOCK_ROWS * b.rows).max(1));
        let out = self.out.par_chunks_mut((BLOCK_ROWS * b.columns).max(1));
        rows.zip(out).for_each(|(a, out)| path.run(Product { a, b, cuts, out }));
    }

    #[inline(always)]
    fn four_rows(&mut self, row: usize, panel: &[R], first: usize) {
        let k = self.b.rows;
        let a: [&[R]; 4] = std::array::from_fn(|r| &self.a[(row + r) * k..][..k]);
        let mut totals = [strip::zero::<R, 2, 16>(); 4];
        for cut in self.cuts.windows(2) {
            let [mut s0, mut s1, mut s2, mut s3] = [strip::zero::<R, 2, 16>(); 4];
            for j in cut[0]..cut[1] {
                let b = &panel[j * PANEL..][..PANEL];
                strip::fma(a[0][j], b, 0, &mut s0);
                strip::fma(a[1][j], b, 0, &mut s1);
                strip::fma(a[2][j], b, 0, &mut s2);
                strip::fma(a[3][j], b, 0, &mut s3);
            }
            for (sum, total) in [s0, s1, s2, s3].iter().zip(&mut totals) {
                strip::add(sum, total);
            }
        }
        for (r, total) in totals.iter().enumerate() {
            self.store(row + r, first, total);
        }
    }

    #[inline(always)]
    fn one_row(&mut self, row: usize, panel: &[R], first: usize) {
        let a = &self.a[row * self.b.rows..][..self.b.rows];
        let mut total = strip::zero::<R, 2, 16>();
        for cut in self.cuts.windows(2) {
            let mut sum = strip::zero();
            for j in cut[0]..cut[1] {
                strip::fma(a[j], &panel[j * PANEL..][..PANEL], 0, &mut sum);
            }
            strip::add(&sum, &mut total);
        }
        self.store(row, first, &total);
    }

    #[inline(always)]
    fn store(&mut self, row: usize, first: usize, total: &Strip<R, 2, 16>) {
        let columns = self.b.columns;
        let out = &mut self.out[row * columns..][..columns];
        let width = (columns - first).min(PANEL);
        out[first..][..width].copy_from_slice(&total.as_flattened()[..width]);
    }
}

impl<R: Real> Kernel for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let b = self.b;
        let rows = self.out.len() / b.columns.max(1);
        for (at, panel) in b.data.chunks_exact((b.rows * PANEL).max(1)).enumerate() {
            let fours = rows / 4 * 4;
            // Loops, not closures: a closure that is not inlined loses the instructions of the path.
            for row in (0..fours).step_by(4) {
                self.four_rows(row, panel, at * PANEL);
            }
            for row in fours..rows {
                self.one_row(row, panel, at * PANEL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_equals_the_definition() {
        let value = |i: usize| ((i * 37 + 11) % 97) as f32 / 31.0 - 1.0;
        for (m, k, n) in [(1, 1, 1), (5, 7, 3), (9, 40, 33), (70, 13, 96)] {
            let a: Vec<f32> = (0..m * k).map(value).collect();
            let b: Vec<f32> = (0..k * n).map(|i| value(i * 3)).collect();
            let centre: Vec<f32> = (0..n).map(|i| value(i * 5)).collect();
            let cuts = [0, k / 2, k / 2, k];
            let definition = |i: usize| {
                let chain = |span: std::ops::Range<usize>| {
                    let term =
                        |sum: f32, j: usize| a[i / n * k + j].mul_add(b[j * n + i % n] - centre[i % n], sum);
                    span.fold(0f32, term)
                };
                0.0 + chain(0..k / 2) + chain(k / 2..k)
            };
            let expected: Vec<f32> = (0..m * n).map(definition).collect();
            for path in Path::available() {
                let (panels, mut out) = (Panels::of(&b, &centre), vec![f32::NAN; m * n]);
                Product { a: &a, b: &panels, cuts: &cuts, out: &mut out }.run_on(path);
                assert_eq!(out, expected, "{path:?} {m} {k} {n}");
            }
        }
    }

    #[test]
    fn transposed_is_the_transpose() {
        let matrix: Vec<f64> = (0..70).map(f64::from).collect();
        let centre: Vec<f64> = (0..7).map(|i| f64::from(i) * 0.5).collect();
        let turned: Vec<f64> = (0..70).map(|i| matrix[i % 10 * 7 + i / 10] - centre[i / 10]).collect();
        let expected = Panels::of(&turned, &[0.0; 10]);
        assert_eq!(Panels::transposed(&matrix, &centre).data, expected.data);
    }
}
