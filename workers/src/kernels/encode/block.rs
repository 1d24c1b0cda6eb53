//! One block of rows against all latents: pre-activations live in a register tile and are never stored.

use super::{
    Encoder,
    avx512::SIDE,
    rows::Rows,
    sink::{Both, Sink},
};
use crate::kernels::{Path, Real, simd::Kernel};

/// Rows that share one walk over the weights: packing a panel and fetching it from memory are then
/// 1/86 of the tiles it is multiplied with.
const BLOCK_ROWS: usize = 1032;
/// The smallest block worth packing a panel for.
const SMALL_BLOCK_ROWS: usize = 96;

/// Rows of the blocks that a batch of `rows` is cut into: a multiple of every tile's height, two
/// blocks per thread where they would not get too small. No sum runs over rows, so no bit depends on it.
pub(super) fn block_rows(rows: usize) -> usize {
    let shared = rows.div_ceil(2 * rayon::current_num_threads());
    shared.next_multiple_of(12).clamp(SMALL_BLOCK_ROWS, BLOCK_ROWS)
}

/// Runs one block with the tile that fits the registers of `path`: 12×32 outputs fill 24 of the 32
/// registers of AVX-512, 6×16 fill 12 of AVX2's 16.
pub(super) fn run<R: Real, S: Sink<R>>(
    path: Path,
    encoder: Encoder<R>,
    x: &[R],
    b_dec: &[R],
    sink: Both<R, S>,
) -> (S::Kept, Rows<R>) {
    match path {
        Path::Avx512 => path.run(Block::<R, S, 12, 32> { path, encoder, x, b_dec, sink }),
        _ => path.run(Block::<R, S, 6, 16> { path, encoder, x, b_dec, sink }),
    }
}

/// `x` is `[rows, d_in]`, `b_dec` `[d_in]`; tiles have `ROWS` rows and `COLS` latents.
struct Block<'a, R, S, const ROWS: usize, const COLS: usize> {
    path: Path,
    encoder: Encoder<'a, R>,
    x: &'a [R],
    b_dec: &'a [R],
    sink: Both<'a, R, S>,
}

impl<R: Real, S: Sink<R>, const ROWS: usize, const COLS: usize> Kernel for Block<'_, R, S, ROWS, COLS> {
    type Output = (S::Kept, Rows<R>);

    #[inline(always)]
    fn run(mut self) -> (S::Kept, Rows<R>) {
        let (d, n_rows) = (self.encoder.d_in, self.x.len() / self.encoder.d_in);
        let tiles = interleave_rows::<R, ROWS>(self.x, self.b_dec);
        let mut panel = vec![R::ZERO; d * COLS];
        for first in (0..self.encoder.columns()).step_by(COLS) {
            let bias = self.encoder.panel::<COLS>(self.path, first, &mut panel);
            for (t, tile) in tiles.chunks_exact(d * ROWS).enumerate() {
                let pre_acts = multiply::<R, ROWS, COLS>(tile, &panel, &bias);
                for (r, row) in pre_acts.iter().enumerate().take(n_rows - t * ROWS) {
                    self.sink.offer(t * ROWS + r, first, row);
                }
            }
        }
        self.sink.finish()
    }
}

impl<R: Real> Encoder<'_, R> {
    /// Writes `COLS` latents from column `first` on, `d_in`-major, and returns their biases. Columns
    /// beyond the last have a NaN bias: no comparison selects them.
    #[inline(always)]
    fn panel<const COLS: usize>(&self, path: Path, first: usize, panel: &mut [R]) -> [R; COLS] {
        let last = self.columns() - 1;
        let (panel, _) = panel.as_chunks_mut::<COLS>();
        for c in (0..COLS).step_by(SIDE) {
            let rows: [&[R]; SIDE] = std::array::from_fn(|i| self.weights((first + c + i).min(last)));
            let done = if path == Path::Avx512 { R::interleaved(rows, panel, c) } else { 0 };
            for (i, out) in panel.iter_mut().enumerate().skip(done) {
                out[c..c + SIDE].copy_from_slice(&rows.map(|row| row[i]));
            }
        }
        if let Some(factors) = self.factors {
            let of: [R; COLS] = std::array::from_fn(|c| factors[self.latent((first + c).min(last))]);
            for row in &mut *panel {
                for c in 0..COLS {
                    row[c] = row[c] * of[c];
                }
            }
        }
        let bias = |c| if first + c > last { R::of(f64::NAN) } else { self.bias(first + c) };
        std::array::from_fn(bias)
    }
}

/// `x − b_dec` in tiles of `ROWS`: `[tiles][d_in][ROWS]`, zero-padded.
#[inline(always)]
fn interleave_rows<R: Real, const ROWS: usize>(x: &[R], b_dec: &[R]) -> Vec<R> {
    let d = b_dec.len();
    let n_rows = x.len() / d;
    let mut tiles = vec![R::ZERO; n_rows.next_multiple_of(ROWS) * d];
    for (r, row) in x.chunks_exact(d).enumerate() {
        let tile = &mut tiles[r / ROWS * ROWS * d..][..ROWS * d];
        for (out, (&x, &b)) in tile.as_chunks_mut::<ROWS>().0.iter_mut().zip(row.iter().zip(b_dec)) {
            out[r % ROWS] = x - b;
        }
    }
    tiles
}

/// One register tile: `bias + tileᵀ·panel`, one fused chain per output, ascending in `d_in`.
#[inline(always)]
fn multiply<R: Real, const ROWS: usize, const COLS: usize>(
    tile: &[R],
    panel: &[R],
    bias: &[R; COLS],
) -> [[R; COLS]; ROWS] {
    let mut sums = [*bias; ROWS];
    let (xs, _) = tile.as_chunks::<ROWS>();
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
