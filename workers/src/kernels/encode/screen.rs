//! The exact pre-screen: integers say which latents cannot be among the best `k` of a row, f32 decides
//! among the rest. Pairs and values are those of the f32 encoder, bit for bit.

use rayon::prelude::*;

use super::{
    Encoder, Selected, Selection,
    avx512::{self, SIDE},
    block::block_rows,
    candidates::Candidates,
    quantise::{QuantiseRows, Quantised, ROWS},
    rescore::{Rescore, Rescored},
    rows::Rows,
    vnni,
    walk::Walk,
};
use crate::kernels::Path;

/// Whether integers look at the latents first. Changes the speed and nothing else.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Screen {
    /// Every pre-activation in f32.
    #[default]
    Off,
    /// Eight-bit products first, where the machine has the instructions and the selection is
    /// [`Selection::TopK`].
    Int8,
}

impl Screen {
    /// Whether it does anything on this machine.
    pub fn available(self) -> bool {
        self == Screen::Int8 && vnni::available()
    }
}

/// Latents per latent kept, at least: below that most of the time goes into rescoring. AuxK, which
/// keeps hundreds of some thousand, is not screened.
const WORTH: usize = 48;

/// How well the bound separated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Screening {
    /// Rows that were screened.
    pub rows: usize,
    /// Pairs (row, latent) that the integers left to f32.
    pub candidates: usize,
    /// Rows that went through the f32 encoder after all.
    pub given_up: usize,
}

/// Rows that share one walk over the weights. In a small dictionary most latents are candidates in some
/// row of any block, and rescoring goes fastest while the block's rows stay in L2; the more latents, the
/// more rows have to share the reading of the weights. At 3,072 and 4,608 latents 336 rows are 3 to 10 %
/// faster than 252 or 516, at 12,288 and 24,576 1,032 rows 2 to 4 % faster than 516.
fn screened_rows(latents: usize) -> usize {
    (latents / ROWS).next_multiple_of(ROWS).max(336)
}

/// Top-k of `x`, `[rows, d_in]`, after screening.
pub(super) fn top_k(
    encoder: &Encoder<f32>,
    weights: &Quantised,
    path: Path,
    x: &[f32],
    b_dec: &[f32],
    k: usize,
) -> (Vec<Rows<f32>>, Screening) {
    let (d, rows) = (encoder.d_in, x.len() / encoder.d_in);
    let block = screened_rows(encoder.columns()).min(block_rows(rows));
    let walk = Walk::new(weights.bounds.len());
    let scratch = || Scratch { centred: Vec::new(), candidates: Candidates::new(k, d, walk) };
    let of = |scratch: &mut Scratch, x: &[f32]| scratch.top_k(encoder, weights, path, x, b_dec);
    let blocks: Vec<Rescored> = x.par_chunks(block * d).map_init(scratch, of).collect();
    let candidates = blocks.iter().map(|b| b.candidates).sum();
    let absolute =
        |(b, out): (usize, &Rescored)| out.given_up.iter().map(move |r| b * block + r).collect::<Vec<_>>();
    let given_up: Vec<usize> = blocks.iter().enumerate().flat_map(absolute).collect();
    let screening = Screening { rows, candidates, given_up: given_up.len() };
    let blocks = blocks.into_iter().map(|b| b.rows).collect();
    (fill_in(encoder, path, x, b_dec, k, blocks, &given_up), screening)
}

/// What blocks that follow each other on a thread have in common: memory.
struct Scratch {
    /// Rows without `b_dec`.
    centred: Vec<f32>,
    candidates: Candidates,
}

impl Scratch {
    fn top_k(
        &mut self,
        encoder: &Encoder<f32>,
        weights: &Quantised,
        path: Path,
        x: &[f32],
        b_dec: &[f32],
    ) -> Rescored {
        let Scratch { centred, candidates } = self;
        centred.clear();
        x.chunks_exact(b_dec.len()).for_each(|row| centred.extend(row.iter().zip(b_dec).map(|(x, b)| x - b)));
        let rows = path.run(QuantiseRows { weights, centred });
        candidates.reset(rows.step.len(), |r| rows.step[r] > 0.0);
        vnni::screen(&rows, weights, candidates);
        path.run(Rescore { encoder: *encoder, weights, centred, rows: &rows, candidates })
    }
}

/// Puts the f32 encoder's pairs where rows were given up.
fn fill_in(
    encoder: &Encoder<f32>,
    path: Path,
    x: &[f32],
    b_dec: &[f32],
    k: usize,
    blocks: Vec<Rows<f32>>,
    given_up: &[usize],
) -> Vec<Rows<f32>> {
    if given_up.is_empty() {
        return blocks;
    }
    let d = encoder.d_in;
    let x: Vec<f32> = given_up.iter().flat_map(|&r| &x[r * d..(r + 1) * d]).copied().collect();
    let (filled, _) = encoder.select_blocks(path, &x, b_dec, Selection::TopK(k));
    let mut late = filled.iter().flat_map(|block| (0..block.ends.len()).map(|r| block.row(r)));
    let mut next = given_up.iter().copied().peekable();
    let mut all = Rows::with_capacity(blocks.iter().map(|b| b.ends.len()).sum(), 0);
    for row in blocks.iter().flat_map(|block| (0..block.ends.len()).map(|r| block.row(r))) {
        let here = all.ends.len();
        let pairs = if next.next_if_eq(&here).is_some() { late.next().unwrap_or(row) } else { row };
        all.push(pairs.iter().copied());
    }
    vec![all]
}

/// Number types, some of which have instructions of their own.
pub trait Screened: Sized {
    /// Codes of [`Encoder::select`] with [`Selection::TopK`], screened; `None` where that cannot be.
    #[doc(hidden)]
    fn screened(call: Call<Self>) -> Option<Selected<Self>>;
    /// Writes sixteen rows beside each other; returns how many dimensions are done.
    #[doc(hidden)]
    fn interleaved<const COLS: usize>(
        rows: [&[Self]; SIDE],
        panel: &mut [[Self; COLS]],
        first: usize,
    ) -> usize;
    /// Integers for [`Encoder::with`].
    #[doc(hidden)]
    fn quantised(path: Path, encoder: &Encoder<Self>, x: &[Self], b_dec: &[Self]) -> Option<Quantised>;
}

/// Arguments of [`Encoder::select`].
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Call<'a, R> {
    pub(super) encoder: Encoder<'a, R>,
    pub(super) path: Path,
    pub(super) x: &'a [R],
    pub(super) b_dec: &'a [R],
    pub(super) k: usize,
}

impl Screened for f32 {
    fn screened(call: Call<f32>) -> Option<Selected<f32>> {
        let Call { encoder, path, x, b_dec, k } = call;
        if x.is_empty() || k == 0 || encoder.columns() < WORTH * k {
            return None;
        }
        let made;
        let weights = match encoder.quantised {
            Some(weights) => weights,
            None => {
                made = Self::quantised(path, &encoder, x, b_dec)?;
                &made
            }
        };
        let (blocks, screening) = top_k(&encoder, weights, path, x, b_dec, k);
        Some(Selected { screening, ..encoder.finish(blocks, None) })
    }

    fn interleaved<const COLS: usize>(
        rows: [&[f32]; SIDE],
        panel: &mut [[f32; COLS]],
        first: usize,
    ) -> usize {
        avx512::interleave(rows, panel, first)
    }

    fn quantised(path: Path, encoder: &Encoder<f32>, x: &[f32], b_dec: &[f32]) -> Option<Quantised> {
        Screen::Int8.available().then(|| Quantised::new(path, encoder, x, b_dec))
    }
}

/// Golden numbers need no speed.
impl Screened for f64 {
    fn screened(_: Call<f64>) -> Option<Selected<f64>> {
        None
    }

    fn interleaved<const COLS: usize>(_: [&[f64]; SIDE], _: &mut [[f64; COLS]], _: usize) -> usize {
        0
    }

    fn quantised(_: Path, _: &Encoder<f64>, _: &[f64], _: &[f64]) -> Option<Quantised> {
        None
    }
}

#[cfg(test)]
mod tests;
