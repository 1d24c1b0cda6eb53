//! Weight gradients of latents that share most rows of a batch, tile by tile of the columns.
//!
//! A latent of the main code fires in some rows of a batch, and its sums read them once. Of the
//! auxiliary code it fires in every fifth or twentieth row: rows gathered a few hundred times per
//! latent come from the third-level cache or from memory each time. Here the columns are cut into
//! tiles, the rows into pieces, and a piece of a tile stays in the second level while all latents pass.
//! Gradients of atom and encoder row go together: four sums hide the latency of the additions.

use rayon::prelude::*;

use super::{
    csc::{ByLatent, Entries},
    lanes::LaneStarts,
    real::Real,
    simd::{Kernel, Path},
    strip::{self, Strip},
};

/// Columns of a tile.
pub const TILE: usize = 32;
/// A row of a piece: a tile of `y`, then the same of `x`.
const PAIR: usize = 2 * TILE;
/// Rows of a piece, 64 KiB in f32. Of 64 rows, the sums took twice the time: loading and storing them counts.
const PIECE_ROWS: usize = 256;

/// A row of a piece. On a cache line: a vector across two of them is two loads, and loads are what the
/// sums wait for.
#[derive(Clone)]
#[repr(align(64))]
struct PairRow<R>([R; PAIR]);

/// What is summed: `Σ decoder·y` and `Σ encoder·(x − centre)` over the entries of each latent.
#[derive(Debug, Clone, Copy)]
pub struct SharedRows<'a, R> {
    /// Rows and weights.
    pub by_latent: &'a ByLatent<R>,
    /// The latents to sum for, ascending.
    pub latents: &'a [u32],
    /// Where each lane starts.
    pub lanes: LaneStarts<'a>,
    /// `[rows, d]`.
    pub y: &'a [R],
    /// `[rows, d]`.
    pub x: &'a [R],
    /// Subtracted from every row of `x`, `[d]`.
    pub centre: &'a [R],
}

/// The sums of some latents.
#[derive(Debug, Clone)]
pub struct TiledSums<R> {
    latents: Vec<u32>,
    /// `[ceil(d / TILE)][latents][PAIR]`, padded with zeros.
    data: Vec<R>,
}

impl<R: Real> TiledSums<R> {
    /// Sums run lane by lane like those of [`super::csc::SumRows`], with the same bits. Runs on the
    /// current rayon pool.
    pub fn of(path: Path, shared: &SharedRows<R>) -> Self {
        let (n, n_tiles) = (shared.latents.len(), shared.centre.len().div_ceil(TILE));
        let mut data = vec![R::ZERO; n_tiles * n * PAIR];
        let parts = (2 * rayon::current_num_threads()).div_ceil(n_tiles.max(1));
        let part = n.div_ceil(parts).max(1);
        data.par_chunks_mut((n * PAIR).max(1)).enumerate().for_each(|(tile, sums)| {
            let latents = shared.latents.par_chunks(part);
            sums.par_chunks_mut(part * PAIR).zip(latents).for_each(|(sums, latents)| {
                path.run(SumTile { shared, latents, first_column: tile * TILE, sums });
            });
        });
        TiledSums { latents: shared.latents.to_vec(), data }
    }

    /// Multiplies all sums by `factor`.
    pub fn scale(&mut self, factor: R) {
        self.data.iter_mut().for_each(|sum| *sum = *sum * factor);
    }

    /// Adds the sums of `latent`, if it has any, to `w_dec` and `w_enc`, both `[d]`.
    #[inline(always)]
    pub fn add_to(&self, latent: u32, w_dec: &mut [R], w_enc: &mut [R]) {
        let Ok(at) = self.latents.binary_search(&latent) else { return };
        let tiles = self.data.chunks_exact((self.latents.len() * PAIR).max(1));
        let columns = w_dec.chunks_mut(TILE).zip(w_enc.chunks_mut(TILE));
        for (tile, (w_dec, w_enc)) in tiles.zip(columns) {
            let (y, x) = tile[at * PAIR..][..PAIR].split_at(TILE);
            w_dec.iter_mut().zip(y).for_each(|(w, &sum)| *w += sum);
            w_enc.iter_mut().zip(x).for_each(|(w, &sum)| *w += sum);
        }
    }
}

/// One tile of the sums of some latents.
struct SumTile<'a, R> {
    shared: &'a SharedRows<'a, R>,
    latents: &'a [u32],
    first_column: usize,
    /// `[latents][PAIR]`.
    sums: &'a mut [R],
}

impl<R: Real> Kernel for SumTile<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (rows, lanes) = (self.shared.y.len() / self.shared.centre.len(), self.shared.lanes);
        let mut under_way = vec![Sums { lane: 0, entry: 0, sum: strip::zero() }; self.latents.len()];
        let mut piece = vec![PairRow([R::ZERO; PAIR]); PIECE_ROWS.min(rows)];
        for first in (0..rows).step_by(PIECE_ROWS) {
            let end = (first + PIECE_ROWS).min(rows);
            self.pack(first, end, &mut piece);
            let totals = self.sums.chunks_exact_mut(PAIR);
            for ((&latent, sums), total) in self.latents.iter().zip(&mut under_way).zip(totals) {
                let entries = self.shared.by_latent.entries(latent as usize);
                let mut all: Strip<R, 4, 16> = strip::load(total, 0);
                sums.add(&entries, lanes, &piece, first..end, &mut all);
                strip::store(&all, total, 0);
            }
        }
    }
}

impl<R: Real> SumTile<'_, R> {
    /// Copies the tile of rows `first..end`, beside each other `y` and `x − centre`.
    #[inline(always)]
    fn pack(&self, first: usize, end: usize, piece: &mut [PairRow<R>]) {
        let SharedRows { y, x, centre, .. } = *self.shared;
        let d = centre.len();
        let columns = self.first_column..(self.first_column + TILE).min(d);
        let centre = &centre[columns.clone()];
        for (row, out) in (first..end).zip(piece) {
            let (y, x) = (&y[row * d..][columns.clone()], &x[row * d..][columns.clone()]);
            let (out_y, out_x) = out.0.split_at_mut(TILE);
            out_y[..y.len()].copy_from_slice(y);
            out_x.iter_mut().zip(x.iter().zip(centre)).for_each(|(out, (&x, &c))| *out = x - c);
        }
    }
}

/// The sums of one latent while pieces go by.
#[derive(Clone)]
struct Sums<R> {
    /// Lane of the entries in `sum`.
    lane: usize,
    /// The next entry.
    entry: usize,
    /// Of the lane so far.
    sum: Strip<R, 4, 16>,
}

impl<R: Real> Sums<R> {
    /// Takes the entries in `rows`; a lane that ends is added to `total`.
    #[inline(always)]
    fn add(
        &mut self,
        entries: &Entries<R>,
        lanes: LaneStarts,
        piece: &[PairRow<R>],
        rows: std::ops::Range<usize>,
        total: &mut Strip<R, 4, 16>,
    ) {
        let (mut sum, mut at) = (self.sum, self.entry);
        loop {
            let lane_end = lanes[self.lane + 1];
            let end = lane_end.min(rows.end);
            while at < entries.rows.len() && (entries.rows[at] as usize) < end {
                let row = &piece[entries.rows[at] as usize - rows.start];
                let [y, x] = [entries.decoder[at], entries.encoder[at]];
                let (groups, _) = row.0.as_chunks::<16>();
                for (n, weight) in [y, y, x, x].into_iter().enumerate() {
                    for i in 0..16 {
                        sum[n][i] = weight.fma(groups[n][i], sum[n][i]);
                    }
                }
                at += 1;
            }
            if lane_end > rows.end {
                break;
            }
            strip::add(&sum, total);
            sum = strip::zero();
            if self.lane + 2 == lanes.len() {
                break;
            }
            self.lane += 1;
        }
        (self.sum, self.entry) = (sum, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codes::Codes,
        random::{hash, unit},
    };

    const ROWS: usize = 700;
    const LANES: &[usize] = &[0, 300, 300, 301, ROWS];

    fn uniform(n: usize, stream: u64) -> Vec<f32> {
        (0..n).map(|i| (unit(hash(&[stream, i as u64])) * 2.0 - 1.0) as f32).collect()
    }

    /// Latent 0 never, the others in every second, third, ... row or so.
    fn codes() -> Codes {
        let mut codes = Codes::new(6);
        for row in 0..ROWS as u64 {
            let fires = |l: &u32| hash(&[5, row, u64::from(*l)]).is_multiple_of(u64::from(*l) + 1);
            codes.push_row((1..6).filter(fires).map(|l| (l, 1.0)));
        }
        codes
    }

    /// Lane by lane, element by element; several pieces of rows, lanes that end inside one and beyond it.
    #[test]
    fn every_path_and_width_equals_the_definition() {
        let codes = codes();
        let (decoder, encoder) = (uniform(codes.nnz(), 1), uniform(codes.nnz(), 2));
        let by_latent = ByLatent::of(&codes, &decoder, &encoder);
        for d in [1, 31, 32, 33, 100] {
            let (y, x, centre) = (uniform(ROWS * d, 3), uniform(ROWS * d, 4), uniform(d, 5));
            let sum = |entries: &Entries<f32>, weights: &[f32], value: &dyn Fn(usize) -> f32| {
                LANES.windows(2).fold(0f32, |total, lane| {
                    let here = entries.rows.iter().zip(weights).map(|(&row, &w)| (row as usize, w));
                    let here = here.filter(|(row, _)| (lane[0]..lane[1]).contains(row));
                    total + here.fold(0f32, |sum, (row, w)| w.mul_add(value(row), sum))
                })
            };
            let latents = [0, 1, 2, 5];
            let shared = SharedRows {
                by_latent: &by_latent,
                latents: &latents,
                lanes: LANES,
                y: &y,
                x: &x,
                centre: &centre,
            };
            for path in Path::available() {
                let sums = TiledSums::of(path, &shared);
                for latent in latents {
                    let (mut w_dec, mut w_enc) = (vec![0f32; d], vec![0f32; d]);
                    sums.add_to(latent, &mut w_dec, &mut w_enc);
                    let entries = by_latent.entries(latent as usize);
                    for c in 0..d {
                        let at = format!("{path:?} d={d} latent {latent} column {c}");
                        assert_eq!(w_dec[c], sum(&entries, entries.decoder, &|r| y[r * d + c]), "{at}");
                        let centred = |r| x[r * d + c] - centre[c];
                        assert_eq!(w_enc[c], sum(&entries, entries.encoder, &centred), "{at}");
                    }
                }
            }
        }
    }

    #[test]
    fn only_the_latents_asked_for_have_sums() {
        let (codes, ones) = (codes(), vec![1f32; ROWS]);
        let weights = vec![1f32; codes.nnz()];
        let by_latent = ByLatent::of(&codes, &weights, &weights);
        let shared = SharedRows {
            by_latent: &by_latent,
            latents: &[2],
            lanes: LANES,
            y: &ones,
            x: &ones,
            centre: &[0.0],
        };
        let sums = TiledSums::of(Path::best(), &shared);
        let of = |latent| {
            let (mut w_dec, mut w_enc) = ([0f32], [0f32]);
            sums.add_to(latent, &mut w_dec, &mut w_enc);
            (w_dec[0], w_enc[0])
        };
        let fired = by_latent.entries(2).rows.len() as f32;
        assert!(fired > 0.0);
        assert_eq!((of(1), of(2)), ((0.0, 0.0), (fired, fired)));
    }
}
