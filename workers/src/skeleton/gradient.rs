//! From the terms of the loss to the gradient of one latent at a time; a dense one is never stored.

use std::ops::Range;

use super::rooms::Rooms;
use crate::{
    codes::Codes,
    kernels::{
        Real,
        csc::{self, ByLatent, Entries, SumRows},
        prefetch,
        tiled::{self, TILE, Tiled},
        vector,
    },
};

/// A sparse code and the gradient of the loss with respect to what it decodes to, up to a factor
/// that the weights of the entries carry.
#[derive(Debug)]
pub struct Term<R> {
    /// Per latent and row: what multiplies `y` in the atom's gradient, and `x − b_dec` in the encoder's.
    pub by_latent: ByLatent<R>,
    /// `[rows, d_in]`.
    pub y: Vec<R>,
    /// `y` and `x − b_dec` once more, if the latents of this term share most rows.
    tiles: Option<[Tiled<R>; 2]>,
}

impl<R: Real> Term<R> {
    /// From the residual `y` of a code whose squared norm the loss multiplies by `scale`: the gradient
    /// of what is decoded is `−2·scale·y`, that of a code value its product with the atom.
    pub fn squared_error(
        codes: &Codes,
        mut values: Vec<R>,
        mut along_atoms: Vec<R>,
        y: Vec<R>,
        scale: f64,
    ) -> Self {
        let rate = R::of(-2.0 * scale);
        vector::scale(rate, &mut values);
        vector::scale(rate, &mut along_atoms);
        Term { by_latent: ByLatent::of(codes, &values, &along_atoms), y, tiles: None }
    }

    /// For a code in which each latent is in many rows. The sums have the same terms, added to those
    /// of other terms of the loss at the end.
    pub fn shared_rows(self, x: &[R], b_dec: &[R]) -> Self {
        let zeros = vec![R::ZERO; b_dec.len()];
        Term { tiles: Some([Tiled::of(&self.y, &zeros), Tiled::of(x, b_dec)]), ..self }
    }
}

/// Everything the update needs of a batch.
#[derive(Debug)]
pub struct Gradient<'a, R> {
    /// Where each lane starts.
    pub lanes: &'a [usize],
    /// Rows, `[rows, d_in]`.
    pub x: &'a [R],
    /// Decoder bias before the step, `[d_in]`.
    pub b_dec: Vec<R>,
    /// The terms of the loss; the reconstruction is the first.
    pub terms: Vec<Term<R>>,
    /// Gradient of `b_dec` through the decoder, `[d_in]`.
    pub offset: Vec<f64>,
}

/// Gradient of one latent's parameters.
#[derive(Debug, Clone)]
pub struct LatentGrad<R> {
    /// `[d_in]`.
    pub w_enc: Vec<R>,
    /// `[d_in]`.
    pub w_dec: Vec<R>,
    /// Scalar.
    pub b_enc: R,
    runs: Vec<Range<usize>>,
}

impl<R: Real> LatentGrad<R> {
    /// Scratch for rows of `d_in`.
    pub fn new(d_in: usize) -> Self {
        let zeros = || vec![R::ZERO; d_in];
        LatentGrad { w_enc: zeros(), w_dec: zeros(), b_enc: R::ZERO, runs: Vec::new() }
    }
}

/// What the terms with shared rows add to the gradients of some consecutive latents.
#[derive(Debug)]
pub struct Shared<R> {
    first: usize,
    /// Columns of a row of the sums: `d_in` in whole tiles; 0 if no term has shared rows.
    width: usize,
    w_dec: Vec<R>,
    w_enc: Vec<R>,
}

impl<R: Real> Shared<R> {
    #[inline(always)]
    fn add_to(&self, latent: usize, grad: &mut LatentGrad<R>) {
        if self.width > 0 {
            let (at, d) = ((latent - self.first) * self.width, grad.w_dec.len());
            vector::add(&self.w_dec[at..at + d], &mut grad.w_dec);
            vector::add(&self.w_enc[at..at + d], &mut grad.w_enc);
        }
    }
}

impl<R: Real> Gradient<'_, R> {
    /// Whether [`Gradient::shared`] has work to share: then it wants many latents at once.
    pub fn shares_rows(&self) -> bool {
        self.terms.iter().any(|term| term.tiles.is_some())
    }

    /// The part of the gradients of `latents` that is summed tile by tile.
    #[inline(always)]
    pub fn shared(&self, latents: Range<usize>) -> Shared<R> {
        let width = if self.shares_rows() { tiled::padded(self.b_dec.len()) } else { 0 };
        let zeros = || vec![R::ZERO; width * latents.len()];
        let mut shared = Shared { first: latents.start, width, w_dec: zeros(), w_enc: zeros() };
        for term in &self.terms {
            if let Some([y, x]) = &term.tiles {
                let with_runs = |latent| {
                    let entries = term.by_latent.entries(latent);
                    (csc::runs_of(entries.rows, self.lanes), entries)
                };
                let entries: Vec<_> = latents.clone().map(with_runs).collect();
                add_tiles::<R, false>(y, &entries, &mut shared.w_dec);
                add_tiles::<R, true>(x, &entries, &mut shared.w_enc);
            }
        }
        shared
    }

    /// The raw gradient of one latent's parameters, before projection, given the [`Gradient::shared`]
    /// of a range it is in. Says whether the latent is in any code; if not, `grad` is zero.
    #[inline(always)]
    pub fn latent(&self, latent: usize, shared: &Shared<R>, grad: &mut LatentGrad<R>) -> bool {
        grad.w_enc.fill(R::ZERO);
        grad.w_dec.fill(R::ZERO);
        grad.b_enc = R::ZERO;
        let mut touched = false;
        for term in &self.terms {
            touched |= self.add(term, latent, grad);
        }
        shared.add_to(latent, grad);
        touched
    }

    /// Asks for the rows that [`Gradient::latent`] will read.
    #[inline(always)]
    pub fn prefetch(&self, latent: usize) {
        let d = self.b_dec.len();
        for term in self.terms.iter().filter(|term| term.tiles.is_none()) {
            for &row in term.by_latent.entries(latent).rows.iter().take(16) {
                prefetch::soon(&term.y[row as usize * d..][..d]);
                prefetch::soon(&self.x[row as usize * d..][..d]);
            }
        }
    }

    #[inline(always)]
    fn add(&self, term: &Term<R>, latent: usize, grad: &mut LatentGrad<R>) -> bool {
        let entries = term.by_latent.entries(latent);
        let (rows, LatentGrad { w_enc, w_dec, b_enc, runs }) = (entries.rows, grad);
        csc::lane_runs(rows, self.lanes, runs);
        if term.tiles.is_none() {
            SumRows { runs, rows, weights: entries.decoder, y: &term.y, centre: None, total: w_dec }.run();
            let centre = Some(&self.b_dec[..]);
            SumRows { runs, rows, weights: entries.encoder, y: self.x, centre, total: w_enc }.run();
        }
        *b_enc += csc::sum_weights(runs, entries.encoder);
        !rows.is_empty()
    }

    /// Gradient of `b_dec`, given `Σ_latents db_enc·w_enc` (`[d_in]`): the pre-bias enters twice.
    pub fn b_dec(&self, through_encoder: &[f64]) -> Vec<R> {
        self.offset.iter().zip(through_encoder).map(|(&direct, &enc)| R::of(direct - enc)).collect()
    }

    /// Gives the memory of the terms back.
    pub fn vacate(self, rooms: &mut Rooms<R>) {
        self.terms.into_iter().for_each(|term| rooms.give(term.y));
    }

    /// Whether a latent is in the main code of this batch.
    pub fn fired(&self, latent: usize) -> bool {
        !self.terms[0].by_latent.entries(latent).rows.is_empty()
    }
}

/// Adds to each latent's row of `sums` its weighted rows of `tiled`, all latents tile by tile.
#[inline(always)]
fn add_tiles<R: Real, const ENCODER: bool>(
    tiled: &Tiled<R>,
    latents: &[(Vec<Range<usize>>, Entries<R>)],
    sums: &mut [R],
) {
    let width = sums.len() / latents.len().max(1);
    for (tile, y) in tiled.tiles().enumerate() {
        for (latent, (runs, entries)) in latents.iter().enumerate() {
            let weights = if ENCODER { entries.encoder } else { entries.decoder };
            let total = &mut sums[latent * width + tile * TILE..][..TILE];
            SumRows { runs, rows: entries.rows, weights, y, centre: None, total }.run_in_tile();
        }
    }
}
