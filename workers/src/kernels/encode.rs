//! Encode and select in one pass: pre-activations live in registers and are never stored.
//!
//! `pre_acts = (x − b_dec)·w_encᵀ + b_enc`, in a register tile accumulated over the whole of `d_in`
//! (`block`); a sink keeps what the [`Selection`] asks for. Exact, ties included: every path,
//! and the int8 pre-screen, give the same pairs and the same bits.

mod avx512;
mod block;
mod candidates;
mod heads;
mod order;
mod quantise;
mod rescore;
mod rows;
mod screen;
mod sink;
mod vnni;

use rayon::prelude::*;

use self::{
    block::block_rows,
    rows::{Rows, assemble},
    screen::Call,
    sink::{Above, BatchTop, RowTop, Sink, cut},
};
pub use self::{
    heads::{HeadCodes, Heads},
    quantise::Quantised,
    screen::{Screen, Screened, Screening},
};
use super::{real::Real, simd::Path};
use crate::codes::Codes;

/// See [`super::peak::fma`]; `None` for [`Path::Portable`].
pub(super) fn fma_peak(path: Path, rounds: u64) -> Option<f32> {
    avx512::peak(path, rounds)
}

/// See [`super::peak::int8`].
pub(super) fn int8_peak(rounds: u64) -> Option<i32> {
    vnni::peak(rounds)
}

/// Columns of the widest tile.
const WIDEST_PANEL: usize = 32;

/// Which pre-activations of a batch become codes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Selection<'a, R> {
    /// The `k` largest positive ones of each row: `ReLU(TopK_k(pre_acts))`. Ties: lower latent.
    TopK(usize),
    /// The `k` of largest magnitude in each row, with their signs (AbsTopK). Ties: lower latent.
    AbsTopK(usize),
    /// The `k·rows` largest positive ones of the batch (BatchTopK). Ties: lower row, lower latent.
    BatchTopK(usize),
    /// All above θ (JumpReLU; BatchTopK at inference): one θ per latent, or a single one for all.
    Above(&'a [R]),
}

/// What was selected.
#[derive(Debug, Clone, PartialEq)]
pub struct Selected<R> {
    /// The codes.
    pub codes: Codes,
    /// The values of the codes in full precision.
    pub values: Vec<R>,
    /// The smallest value kept, for [`Selection::BatchTopK`] alone: what inference learns θ from.
    pub threshold: Option<R>,
    /// What the pre-screen did; zeros where there was none.
    pub screening: Screening,
}

/// Encoder weights where they lie in the learner: panels are packed as they are used, so that no
/// second copy of the weights exists.
#[derive(Debug, Clone, Copy)]
pub struct Encoder<'a, R> {
    w_enc: &'a [R],
    b_enc: &'a [R],
    d_in: usize,
    /// Latent of each column; `None` for all latents in order.
    latents: Option<&'a [u32]>,
    quantised: Option<&'a Quantised>,
}

impl<'a, R: Real> Encoder<'a, R> {
    /// All latents. `w_enc` is row-major `[n_latents, d_in]`, `b_enc` `[n_latents]`.
    pub fn all(w_enc: &'a [R], b_enc: &'a [R], d_in: usize) -> Self {
        Encoder { w_enc, b_enc, d_in, latents: None, quantised: None }
    }

    /// The latents listed, ascending; codes still carry the original numbers.
    pub fn subset(w_enc: &'a [R], b_enc: &'a [R], d_in: usize, latents: &'a [u32]) -> Self {
        Encoder { w_enc, b_enc, d_in, latents: Some(latents), quantised: None }
    }

    /// How many latents take part.
    fn columns(&self) -> usize {
        self.latents.map_or(self.b_enc.len(), <[u32]>::len)
    }

    #[inline(always)]
    fn latent(&self, column: usize) -> usize {
        self.latents.map_or(column, |latents| latents[column] as usize)
    }

    #[inline(always)]
    fn weights(&self, column: usize) -> &'a [R] {
        &self.w_enc[self.latent(column) * self.d_in..][..self.d_in]
    }

    #[inline(always)]
    fn bias(&self, column: usize) -> R {
        self.b_enc[self.latent(column)]
    }

    /// Integers for [`Encoder::with`], for rows like `x`; `None` where no pre-screen is available.
    pub fn quantise(&self, path: Path, x: &[R], b_dec: &[R]) -> Option<Quantised> {
        R::quantised(path, self, x, b_dec)
    }

    /// Screens with integers made before, of these very weights and latents.
    pub fn with(self, quantised: &'a Quantised) -> Self {
        Encoder { quantised: Some(quantised), ..self }
    }

    /// Codes of `x`, row-major `[rows, d_in]`, after `b_dec` (`[d_in]`) is subtracted. Runs on the
    /// current rayon pool; rows do not depend on each other, so how they are cut changes no bit.
    pub fn select(
        &self,
        path: Path,
        screen: Screen,
        x: &[R],
        b_dec: &[R],
        selection: Selection<R>,
    ) -> Selected<R> {
        if let (Screen::Int8, Selection::TopK(k)) = (screen, selection)
            && let Some(selected) = R::screened(Call { encoder: *self, path, x, b_dec, k })
        {
            return selected;
        }
        let (blocks, threshold) = self.select_blocks(path, x, b_dec, selection);
        self.finish(blocks, threshold)
    }

    /// Pairs by block, and the threshold where there is one.
    fn select_blocks(
        &self,
        path: Path,
        x: &[R],
        b_dec: &[R],
        selection: Selection<R>,
    ) -> (Vec<Rows<R>>, Option<R>) {
        let room = |k: usize| k.saturating_mul(x.len() / self.d_in.max(1));
        let mut blocks = match selection {
            Selection::TopK(k) => self.blocks(path, x, b_dec, |rows| RowTop::<R, false>::new(rows, k)),
            Selection::AbsTopK(k) => self.blocks(path, x, b_dec, |rows| RowTop::<R, true>::new(rows, k)),
            Selection::BatchTopK(k) => self.blocks(path, x, b_dec, |rows| BatchTop::new(rows, room(k))),
            Selection::Above(thresholds) => {
                let of_columns = self.thresholds(thresholds);
                self.blocks(path, x, b_dec, |rows| Above::new(rows, of_columns.clone(), WIDEST_PANEL))
            }
        };
        let threshold = match selection {
            Selection::BatchTopK(k) => cut(&mut blocks, room(k)),
            _ => None,
        };
        (blocks, threshold)
    }

    /// One threshold per column.
    fn thresholds(&self, thresholds: &[R]) -> Vec<R> {
        let of = |column| if thresholds.len() == 1 { thresholds[0] } else { thresholds[self.latent(column)] };
        (0..self.columns()).map(of).collect()
    }

    fn blocks<S: Sink<R>>(
        &self,
        path: Path,
        x: &[R],
        b_dec: &[R],
        sink: impl Fn(usize) -> S + Sync,
    ) -> Vec<S::Kept> {
        let d = self.d_in;
        let of = |x: &[R]| block::run(path, *self, x, b_dec, sink(x.len() / d));
        x.par_chunks(block_rows(x.len() / d) * d).map(of).collect()
    }

    fn finish(&self, mut blocks: Vec<Rows<R>>, threshold: Option<R>) -> Selected<R> {
        if let Some(latents) = self.latents {
            blocks.iter_mut().for_each(|block| block.rename(latents));
        }
        let (codes, values) = assemble(&blocks, self.b_enc.len());
        Selected { codes, values, threshold, screening: Screening::default() }
    }
}

#[cfg(test)]
mod tests;
