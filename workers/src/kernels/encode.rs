//! Encode and select in one pass: pre-activations live in registers and are never stored.
//!
//! `pre_acts = (x − b_dec)·w_encᵀ + b_enc`, in a register tile accumulated over the whole of `d_in`
//! (`block`); a sink keeps what the [`Selection`] asks for. Exact, ties included: every path,
//! and the int8 pre-screen, give the same pairs and the same bits.

mod avx512;
mod block;
mod by_latent;
mod candidates;
mod heads;
mod lists;
#[cfg(target_arch = "x86_64")]
mod offer;
mod order;
mod quantise;
#[cfg(target_arch = "x86_64")]
mod registers;
mod rescore;
mod rows;
mod screen;
mod sink;
mod vnni;
mod walk;

use rayon::prelude::*;

use self::{
    block::block_rows,
    rows::{Rows, assemble},
    screen::Call,
    sink::{Above, BatchTop, Both, Floor, RowTop, Sink, among, cut},
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

impl<R: Real> Selection<'_, R> {
    /// The same as a card takes it; thresholds are kept in `room`.
    pub fn narrow<'r>(&self, room: &'r mut Vec<f32>) -> Selection<'r, f32> {
        match *self {
            Selection::TopK(k) => Selection::TopK(k),
            Selection::AbsTopK(k) => Selection::AbsTopK(k),
            Selection::BatchTopK(k) => Selection::BatchTopK(k),
            Selection::Above(thresholds) => {
                room.extend_from_slice(&R::narrow(thresholds));
                Selection::Above(room)
            }
        }
    }
}

/// A second selection from the same pre-activations: of each row the `k` largest positive ones among
/// some latents.
#[derive(Debug, Clone, Copy)]
pub struct Among<'a> {
    /// The latents, ascending.
    pub latents: &'a [u32],
    /// Latents kept per row.
    pub k: usize,
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

impl Selected<f32> {
    /// What a card selected.
    pub fn widen<R: Real>(self) -> Selected<R> {
        let Selected { codes, values, threshold, screening } = self;
        let threshold = threshold.map(|threshold| R::of(f64::from(threshold)));
        Selected { codes, values: R::widen(values), threshold, screening }
    }
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
    /// What the pre-activations of each latent are multiplied by.
    factors: Option<&'a [R]>,
}

impl<'a, R: Real> Encoder<'a, R> {
    /// All latents. `w_enc` is row-major `[n_latents, d_in]`, `b_enc` `[n_latents]`.
    pub fn all(w_enc: &'a [R], b_enc: &'a [R], d_in: usize) -> Self {
        Encoder { w_enc, b_enc, d_in, latents: None, quantised: None, factors: None }
    }

    /// The latents listed, ascending; codes still carry the original numbers.
    pub fn subset(w_enc: &'a [R], b_enc: &'a [R], d_in: usize, latents: &'a [u32]) -> Self {
        Encoder { w_enc, b_enc, d_in, latents: Some(latents), quantised: None, factors: None }
    }

    /// Multiplies rows and biases by a number per latent, `[n_latents]`, as they are packed: another matrix
    /// of that size is never made. Without the pre-screen, whose integers are of the rows as they are.
    pub fn weighted(self, factors: &'a [R]) -> Self {
        Encoder { factors: Some(factors), ..self }
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
        let bias = self.b_enc[self.latent(column)];
        self.factors.map_or(bias, |factors| bias * factors[self.latent(column)])
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
        self.select_also(path, screen, x, b_dec, selection, None).0
    }

    /// [`Encoder::select`], and what `among` asks for: in f32 from the same product, with the
    /// pre-screen, which leaves most pre-activations unknown, from a product of those latents alone.
    pub fn select_also(
        &self,
        path: Path,
        screen: Screen,
        x: &[R],
        b_dec: &[R],
        selection: Selection<R>,
        among: Option<Among>,
    ) -> (Selected<R>, Option<Selected<R>>) {
        if let (Screen::Int8, Selection::TopK(k), None) = (screen, selection, self.factors)
            && let Some(selected) = R::screened(Call { encoder: *self, path, x, b_dec, k })
        {
            let apart = |Among { latents, k }| {
                let encoder = Encoder::subset(self.w_enc, self.b_enc, self.d_in, latents);
                encoder.select(path, screen, x, b_dec, Selection::TopK(k))
            };
            return (selected, among.map(apart));
        }
        let (blocks, also, threshold) = self.select_both(path, x, b_dec, selection, among);
        (self.finish(blocks, threshold), among.map(|_| self.finish(also, None)))
    }

    /// Pairs by block, and the threshold where there is one.
    fn select_blocks(
        &self,
        path: Path,
        x: &[R],
        b_dec: &[R],
        selection: Selection<R>,
    ) -> (Vec<Rows<R>>, Option<R>) {
        let (blocks, _, threshold) = self.select_both(path, x, b_dec, selection, None);
        (blocks, threshold)
    }

    /// Pairs by block, those of `among` by block, and the threshold where there is one.
    fn select_both(
        &self,
        path: Path,
        x: &[R],
        b_dec: &[R],
        selection: Selection<R>,
        among: Option<Among>,
    ) -> (Vec<Rows<R>>, Vec<Rows<R>>, Option<R>) {
        let room = |k: usize| k.saturating_mul(x.len() / self.d_in.max(1));
        let (call, floor) = (Blocks { encoder: self, path, x, b_dec, among }, Floor::default());
        let (mut blocks, also) = match selection {
            Selection::TopK(k) => call.each(|rows| RowTop::<R, false>::new(rows, k)),
            Selection::AbsTopK(k) => call.each(|rows| RowTop::<R, true>::new(rows, k)),
            Selection::BatchTopK(k) => call.each(|rows| BatchTop::new(rows, room(k), &floor)),
            Selection::Above(thresholds) => {
                let of_columns = self.thresholds(thresholds);
                call.each(|rows| Above::new(rows, of_columns.clone(), WIDEST_PANEL))
            }
        };
        let threshold = match selection {
            Selection::BatchTopK(k) => cut(&mut blocks, room(k), &floor),
            _ => None,
        };
        (blocks, also, threshold)
    }

    /// One threshold per column.
    fn thresholds(&self, thresholds: &[R]) -> Vec<R> {
        let of = |column| if thresholds.len() == 1 { thresholds[0] } else { thresholds[self.latent(column)] };
        (0..self.columns()).map(of).collect()
    }

    /// The columns of `latents`, by panel.
    fn listed(&self, latents: &[u32]) -> among::Listed {
        #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
        let is_listed = |&column: &u32| latents.binary_search(&(self.latent(column as usize) as u32)).is_ok();
        #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
        among::Listed::new((0..self.columns() as u32).filter(is_listed).collect(), self.columns())
    }

    fn finish(&self, mut blocks: Vec<Rows<R>>, threshold: Option<R>) -> Selected<R> {
        if let Some(latents) = self.latents {
            blocks.iter_mut().for_each(|block| block.rename(latents));
        }
        let (codes, values) = assemble(&blocks, self.b_enc.len());
        Selected { codes, values, threshold, screening: Screening::default() }
    }
}

/// A batch to be cut into blocks.
struct Blocks<'a, R> {
    encoder: &'a Encoder<'a, R>,
    path: Path,
    x: &'a [R],
    b_dec: &'a [R],
    among: Option<Among<'a>>,
}

impl<R: Real> Blocks<'_, R> {
    /// What a sink per block keeps of all columns, and of the columns of `among`.
    fn each<S: Sink<R>>(&self, sink: impl Fn(usize) -> S + Sync) -> (Vec<S::Kept>, Vec<Rows<R>>) {
        let Blocks { encoder, path, x, b_dec, among } = *self;
        let d = encoder.d_in;
        let listed = among.map(|among| (encoder.listed(among.latents), among.k));
        let of = |x: &[R]| {
            let rows = x.len() / d;
            let also = listed.as_ref().map(|(listed, k)| among::Top::new(rows, *k, listed));
            block::run(path, *encoder, x, b_dec, Both { all: sink(rows), also })
        };
        x.par_chunks(block_rows(x.len() / d) * d).map(of).unzip()
    }
}

#[cfg(test)]
mod tests;
