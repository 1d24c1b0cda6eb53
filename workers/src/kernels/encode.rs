//! Encode and select in one pass: pre-activations live in registers and are never stored.
//!
//! `pre_acts = (x − b_dec)·w_encᵀ + b_enc`. A register tile of `ROWS`×`COLS` outputs is
//! accumulated over the whole of `d_in`; what beats the row's running threshold is kept as a
//! candidate, and a full candidate list is pruned to the best `k`. Exact: ties go to the lower latent.

use rayon::prelude::*;

use super::{
    real::Real,
    simd::{Kernel, Path},
};
use crate::codes::Codes;

/// Rows of a register tile. 6×16 fills 12 of AVX2's 16 registers.
const ROWS: usize = 6;
/// Latents of a register tile.
const COLS: usize = 16;
/// Rows that share one walk over the weights: 48 rows of 768 floats stay in a 256 KiB L2.
const BLOCK_ROWS: usize = 48;
/// Candidates kept beyond `k` before pruning: rarely full, small enough to stay in L1.
const SLACK: usize = 96;

/// Encoder weights in the order the tiles read them: panels of `COLS` latents, `d_in`-major.
#[derive(Debug, Clone)]
pub struct Packed<R> {
    d_in: usize,
    n_latents: usize,
    /// `[ceil(n_latents / COLS)][d_in][COLS]`, zero-padded.
    panels: Vec<R>,
    /// `[ceil(n_latents / COLS)][COLS]`; padding holds −∞ so that it is never selected.
    bias: Vec<R>,
    /// Latent of each column; `None` for all latents in order.
    latents: Option<Vec<u32>>,
}

impl<R: Real> Packed<R> {
    /// Packs all latents. `w_enc` is row-major `[n_latents, d_in]`, `b_enc` `[n_latents]`.
    pub fn all(w_enc: &[R], b_enc: &[R], d_in: usize) -> Self {
        Self::pack(w_enc, b_enc, d_in, None)
    }

    /// Packs the latents listed, ascending; codes still carry the original numbers.
    pub fn subset(w_enc: &[R], b_enc: &[R], d_in: usize, latents: Vec<u32>) -> Self {
        Self::pack(w_enc, b_enc, d_in, Some(latents))
    }

    fn pack(w_enc: &[R], b_enc: &[R], d_in: usize, latents: Option<Vec<u32>>) -> Self {
        let columns = latents.as_ref().map_or(b_enc.len(), Vec::len);
        let row_of = |column: usize| latents.as_ref().map_or(column, |l| l[column] as usize);
        let n_panels = columns.div_ceil(COLS);
        let mut panels = vec![R::ZERO; n_panels * d_in * COLS];
        panels.par_chunks_mut(d_in * COLS).enumerate().for_each(|(p, panel)| {
            for c in 0..COLS.min(columns - p * COLS) {
                let row = row_of(p * COLS + c) * d_in;
                for (i, &w) in w_enc[row..row + d_in].iter().enumerate() {
                    panel[i * COLS + c] = w;
                }
            }
        });
        let mut bias = vec![R::of(f64::NEG_INFINITY); n_panels * COLS];
        (0..columns).for_each(|c| bias[c] = b_enc[row_of(c)]);
        Packed { d_in, n_latents: b_enc.len(), panels, bias, latents }
    }

    /// Top-`k` positive pre-activations per row as codes: `ReLU(TopK_k(pre_acts))`.
    ///
    /// `x` is row-major `[rows, d_in]`, `b_dec` `[d_in]`. Runs on the current rayon pool.
    pub fn top_k(&self, path: Path, x: &[R], b_dec: &[R], k: usize) -> (Codes, Vec<R>) {
        let blocks: Vec<Vec<Vec<(u32, R)>>> = x
            .par_chunks(BLOCK_ROWS * self.d_in)
            .map(|rows| path.run(Block { packed: self, rows, b_dec, k }))
            .collect();
        let mut codes = Codes::new(self.n_latents);
        let mut values = Vec::with_capacity(x.len() / self.d_in.max(1) * k);
        for row in blocks.into_iter().flatten() {
            values.extend(row.iter().map(|&(_, v)| v));
            #[allow(clippy::cast_possible_truncation, reason = "codes carry f32; f64 is for golden numbers")]
            codes.push_row(row.into_iter().map(|(latent, v)| (latent, v.f64() as f32)));
        }
        (codes, values)
    }
}

/// One block of rows against all panels.
struct Block<'a, R> {
    packed: &'a Packed<R>,
    rows: &'a [R],
    b_dec: &'a [R],
    k: usize,
}

impl<R: Real> Kernel for Block<'_, R> {
    /// Per row, (latent, value) ascending by latent.
    type Output = Vec<Vec<(u32, R)>>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (d, packed) = (self.packed.d_in, self.packed);
        let n_rows = self.rows.len() / d;
        let tiles = pack_rows(self.rows, self.b_dec, d);
        let mut best: Vec<Candidates<R>> = (0..n_rows).map(|_| Candidates::new(self.k)).collect();
        for (p, panel) in packed.panels.chunks_exact(d * COLS).enumerate() {
            let (bias, _) = packed.bias[p * COLS..].as_chunks::<COLS>();
            for (tile, best) in tiles.chunks_exact(d * ROWS).zip(best.chunks_mut(ROWS)) {
                let pre_acts = multiply(tile, panel, &bias[0]);
                for (row, best) in pre_acts.iter().zip(best) {
                    best.offer(p * COLS, row);
                }
            }
        }
        best.into_iter().map(|c| c.finish(packed.latents.as_deref())).collect()
    }
}

/// `x − b_dec` in tiles of [`ROWS`]: `[tiles][d_in][ROWS]`, zero-padded.
#[inline(always)]
fn pack_rows<R: Real>(rows: &[R], b_dec: &[R], d: usize) -> Vec<R> {
    let n_rows = rows.len() / d;
    let mut tiles = vec![R::ZERO; n_rows.div_ceil(ROWS) * ROWS * d];
    for (r, row) in rows.chunks_exact(d).enumerate() {
        let tile = &mut tiles[r / ROWS * ROWS * d..][..ROWS * d];
        for (i, (&x, &b)) in row.iter().zip(b_dec).enumerate() {
            tile[i * ROWS + r % ROWS] = x - b;
        }
    }
    tiles
}

/// One register tile: `bias + tileᵀ·panel`, one fused chain per output, ascending in `d_in`.
#[inline(always)]
fn multiply<R: Real>(tile: &[R], panel: &[R], bias: &[R; COLS]) -> [[R; COLS]; ROWS] {
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

/// The best latents of one row so far.
struct Candidates<R> {
    k: usize,
    /// Nothing at or below this can be among the best `k`. Starts at 0: ReLU.
    threshold: R,
    pairs: Vec<(u32, R)>,
}

impl<R: Real> Candidates<R> {
    #[inline(always)]
    fn new(k: usize) -> Self {
        Candidates { k, threshold: R::ZERO, pairs: Vec::with_capacity(k + SLACK + COLS) }
    }

    /// Columns `first..first + COLS` with these pre-activations.
    #[inline(always)]
    fn offer(&mut self, first: usize, pre_acts: &[R; COLS]) {
        let mut any = false;
        for &z in pre_acts {
            any |= z > self.threshold;
        }
        if any {
            self.keep(first, pre_acts);
        }
    }

    #[inline(never)]
    fn keep(&mut self, first: usize, pre_acts: &[R; COLS]) {
        #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
        for (c, &z) in pre_acts.iter().enumerate() {
            if z > self.threshold {
                self.pairs.push(((first + c) as u32, z));
            }
        }
        if self.pairs.len() >= self.k + SLACK {
            self.prune();
        }
    }

    /// Keeps the best `k`: larger value first, then lower column. Later columns must beat the k-th.
    fn prune(&mut self) {
        if self.pairs.len() <= self.k {
            return;
        }
        if self.k == 0 {
            self.pairs.clear();
            return;
        }
        self.pairs.select_nth_unstable_by(self.k - 1, |a, b| {
            b.1.partial_cmp(&a.1).unwrap_or(std::cmp::Ordering::Equal).then(a.0.cmp(&b.0))
        });
        self.pairs.truncate(self.k);
        self.threshold = self.pairs[self.k - 1].1;
    }

    fn finish(mut self, latents: Option<&[u32]>) -> Vec<(u32, R)> {
        self.prune();
        self.pairs.sort_unstable_by_key(|&(column, _)| column);
        if let Some(latents) = latents {
            self.pairs.iter_mut().for_each(|(column, _)| *column = latents[*column as usize]);
        }
        self.pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    fn uniform(n: usize, stream: u64) -> Vec<f32> {
        (0..n).map(|i| (unit(hash(&[stream, i as u64])) * 2.0 - 1.0) as f32).collect()
    }

    /// Every pre-activation, sorted: the definition.
    fn slow(w: &[f32], b: &[f32], x: &[f32], b_dec: &[f32], k: usize) -> Codes {
        let d = b_dec.len();
        let mut codes = Codes::new(b.len());
        for row in x.chunks(d) {
            let mut z: Vec<(u32, f32)> = (0..b.len())
                .map(|i| {
                    let mut sum = b[i];
                    for j in 0..d {
                        sum = (row[j] - b_dec[j]).mul_add(w[i * d + j], sum);
                    }
                    (i as u32, sum)
                })
                .filter(|&(_, z)| z > 0.0)
                .collect();
            z.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            z.truncate(k);
            z.sort_by_key(|p| p.0);
            codes.push_row(z);
        }
        codes
    }

    #[test]
    fn every_path_equals_the_definition() {
        for (n, d, rows, k) in
            [(1, 1, 1, 1), (40, 7, 13, 3), (333, 33, 101, 32), (500, 64, 50, 500), (20, 8, 5, 0)]
        {
            let (w, b) = (uniform(n * d, 1), uniform(n, 2));
            let (x, b_dec) = (uniform(rows * d, 3), uniform(d, 4));
            let expected = slow(&w, &b, &x, &b_dec, k);
            for path in Path::available() {
                let packed = Packed::all(&w, &b, d);
                assert_eq!(packed.top_k(path, &x, &b_dec, k).0, expected, "{path:?} n={n} d={d}");
            }
        }
    }

    #[test]
    fn ties_go_to_the_lower_latent() {
        let packed = Packed::all(&vec![1.0f32; 300], &vec![0.0; 300], 1);
        let (codes, _) = packed.top_k(Path::best(), &[2.0], &[0.0], 4);
        assert_eq!(codes.row(0).0, [0, 1, 2, 3]);
    }

    #[test]
    fn a_subset_keeps_the_numbers() {
        let (w, b) = (uniform(50 * 9, 5), uniform(50, 6));
        let x = uniform(9 * 4, 7);
        let subset = Packed::subset(&w, &b, 9, (10..50).collect());
        let (codes, _) = subset.top_k(Path::best(), &x, &[0.0; 9], 5);
        assert!(codes.latents.iter().all(|&l| l >= 10));
        let mut masked = b.clone();
        masked[..10].fill(f32::NEG_INFINITY);
        assert_eq!(codes, slow(&w, &masked, &x, &[0.0; 9], 5));
    }
}
