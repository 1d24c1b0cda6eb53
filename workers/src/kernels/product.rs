//! Dense products in register tiles: the right operand is packed once and multiplied with many rows.
//!
//! Each output is one fused multiply-add chain, ascending in the summed dimension, so neither the path
//! nor the way rows are shared out changes a bit.

use rayon::prelude::*;

use super::{
    real::Real,
    simd::{Kernel, Path},
};

/// Outputs of a panel: two registers of AVX-512, four of AVX2.
pub const COLS: usize = 32;

/// Rows one task multiplies: a multiple of every tile's height.
const TASK_ROWS: usize = 96;

/// A matrix in panels of [`COLS`] outputs: `[panels][depth][COLS]`, padded with zeros. `depth` is what
/// is summed over.
#[derive(Debug, Clone)]
pub struct Panels<R> {
    outputs: usize,
    depth: usize,
    data: Vec<R>,
}

impl<R: Real> Panels<R> {
    /// The outputs are the rows of `w`, `[outputs, depth]`: for `x·wᵀ`. Runs on the current pool.
    pub fn of_rows(w: &[R], depth: usize) -> Self {
        let outputs = w.len() / depth.max(1);
        let mut panels = Panels::zero(outputs, depth);
        panels.data.par_chunks_mut((depth * COLS).max(1)).enumerate().for_each(|(p, panel)| {
            for (c, row) in w.chunks_exact(depth).skip(p * COLS).take(COLS).enumerate() {
                panel.chunks_exact_mut(COLS).zip(row).for_each(|(out, &v)| out[c] = v);
            }
        });
        panels
    }

    /// The outputs are the columns of `w`, `[depth, outputs]`: for `x·w`. Runs on the current pool.
    pub fn of_columns(w: &[R], outputs: usize) -> Self {
        let mut panels = Panels::zero(outputs, w.len() / outputs.max(1));
        let task = (panels.depth * COLS).max(1);
        panels.data.par_chunks_mut(task).enumerate().for_each(|(p, panel)| {
            let columns = p * COLS..((p + 1) * COLS).min(outputs);
            for (out, row) in panel.chunks_exact_mut(COLS).zip(w.chunks_exact(outputs)) {
                out[..columns.len()].copy_from_slice(&row[columns.clone()]);
            }
        });
        panels
    }

    /// Adds an output, `[depth]`.
    pub fn push(&mut self, output: &[R]) {
        if self.outputs.is_multiple_of(COLS) {
            self.data.resize(self.data.len() + self.depth * COLS, R::ZERO);
        }
        let panel = &mut self.data[self.outputs / COLS * self.depth * COLS..];
        for (row, &v) in panel.chunks_exact_mut(COLS).zip(output) {
            row[self.outputs % COLS] = v;
        }
        self.outputs += 1;
    }

    fn zero(outputs: usize, depth: usize) -> Self {
        Panels { outputs, depth, data: vec![R::ZERO; outputs.div_ceil(COLS) * depth * COLS] }
    }

    /// What is summed over.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs of a row.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Back to `[depth, outputs]`, the layout [`Panels::of_columns`] was given.
    pub fn columns_into(&self, w: &mut [R]) {
        for (p, panel) in self.panels().enumerate() {
            let columns = p * COLS..((p + 1) * COLS).min(self.outputs);
            for (row, values) in w.chunks_exact_mut(self.outputs).zip(panel.chunks_exact(COLS)) {
                row[columns.clone()].copy_from_slice(&values[..columns.len()]);
            }
        }
    }

    /// The panels in order, each `[depth, COLS]`.
    pub fn panels(&self) -> std::slice::ChunksExact<'_, R> {
        self.data.chunks_exact((self.depth * COLS).max(1))
    }

    /// The same, to be changed in place.
    pub fn panels_mut(&mut self) -> std::slice::ChunksExactMut<'_, R> {
        let len = (self.depth * COLS).max(1);
        self.data.chunks_exact_mut(len)
    }

    /// `out[r, j] = Σ_i x[r, i]·w[i, j]`; `x` is `[rows, depth]`, `out` `[rows, outputs]`, overwritten.
    /// Runs on the current rayon pool.
    pub fn times(&self, path: Path, x: &[R], out: &mut [R]) {
        let (x_len, out_len) = ((TASK_ROWS * self.depth).max(1), (TASK_ROWS * self.outputs).max(1));
        let tasks = x.par_chunks(x_len).zip(out.par_chunks_mut(out_len));
        tasks.for_each(|(x, out)| self.times_here(path, x, out));
    }

    /// [`Panels::times`] on the calling thread.
    pub fn times_here(&self, path: Path, x: &[R], out: &mut [R]) {
        match path {
            // 12×32 sums fill 24 of the 32 registers of AVX-512, 3×32 fill 12 of AVX2's 16.
            Path::Avx512 => path.run(Times::<R, 12> { panels: self, x, out }),
            _ => path.run(Times::<R, 3> { panels: self, x, out }),
        }
    }
}

struct Times<'a, R, const ROWS: usize> {
    panels: &'a Panels<R>,
    x: &'a [R],
    out: &'a mut [R],
}

impl<R: Real, const ROWS: usize> Kernel for Times<'_, R, ROWS> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (depth, outputs) = (self.panels.depth, self.panels.outputs);
        let tiles = interleave::<R, ROWS>(self.x, depth);
        for (p, panel) in self.panels.panels().enumerate() {
            let columns = p * COLS..((p + 1) * COLS).min(outputs);
            let groups = self.out.chunks_mut(ROWS * outputs).zip(tiles.chunks_exact(depth * ROWS));
            for (out, rows) in groups {
                let sums = tile::<R, ROWS>(rows, panel);
                for (out, sums) in out.chunks_exact_mut(outputs).zip(&sums) {
                    out[columns.clone()].copy_from_slice(&sums[..columns.len()]);
                }
            }
        }
    }
}

/// Rows of `x`, `[rows, depth]`, in tiles of `ROWS`: `[tiles][depth][ROWS]`, padded with zeros.
#[inline(always)]
pub fn interleave<R: Real, const ROWS: usize>(x: &[R], depth: usize) -> Vec<R> {
    let rows = x.len() / depth.max(1);
    let mut tiles = vec![R::ZERO; rows.next_multiple_of(ROWS) * depth];
    for (r, row) in x.chunks_exact(depth.max(1)).enumerate() {
        let tile = &mut tiles[r / ROWS * ROWS * depth..][..ROWS * depth];
        for (out, &v) in tile.as_chunks_mut::<ROWS>().0.iter_mut().zip(row) {
            out[r % ROWS] = v;
        }
    }
    tiles
}

/// One register tile: `rows` is `[depth][ROWS]`, `panel` `[depth][COLS]`.
#[inline(always)]
pub fn tile<R: Real, const ROWS: usize>(rows: &[R], panel: &[R]) -> [[R; COLS]; ROWS] {
    let mut sums = [[R::ZERO; COLS]; ROWS];
    let (xs, _) = rows.as_chunks::<ROWS>();
    let (ws, _) = panel.as_chunks::<COLS>();
    for (x, w) in xs.iter().zip(ws) {
        for r in 0..ROWS {
            for c in 0..COLS {
                sums[r][c] = x[r].fma(w[c], sums[r][c]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    fn uniform(n: usize, stream: u64) -> Vec<f32> {
        (0..n).map(|i| (unit(hash(&[stream, i as u64])) * 2.0 - 1.0) as f32).collect()
    }

    #[test]
    fn every_path_and_shape_equals_the_definition() {
        for (rows, depth, outputs) in [(1, 1, 1), (13, 7, 33), (100, 40, 64), (97, 65, 31), (0, 3, 5)] {
            let (x, w) = (uniform(rows * depth, 1), uniform(outputs * depth, 2));
            let chain = |r: usize, j: usize| {
                (0..depth).fold(0f32, |sum, i| x[r * depth + i].mul_add(w[j * depth + i], sum))
            };
            let slow: Vec<f32> = (0..rows * outputs).map(|at| chain(at / outputs, at % outputs)).collect();
            let turned: Vec<f32> =
                (0..depth * outputs).map(|at| w[at % outputs * depth + at / outputs]).collect();
            for path in Path::available() {
                for panels in [Panels::of_rows(&w, depth), Panels::of_columns(&turned, outputs)] {
                    let mut out = vec![f32::NAN; rows * outputs];
                    panels.times(path, &x, &mut out);
                    assert_eq!(out, slow, "{path:?} {rows}×{depth}×{outputs}");
                }
            }
            let mut back = vec![f32::NAN; turned.len()];
            Panels::of_columns(&turned, outputs).columns_into(&mut back);
            assert_eq!(back, turned);
        }
    }
}
