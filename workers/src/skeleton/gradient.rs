//! From the terms of the loss to the gradient of one latent at a time; a dense one is never stored.

use std::ops::Range;

use super::rooms::Rooms;
use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        csc::{self, ByLatent, SumRows},
        lanes::LaneStarts,
        prefetch,
        tiled::{SharedRows, TiledSums},
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
    /// The sums over rows, if the latents of this term share most of them.
    sums: Option<TiledSums<R>>,
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
        Term { by_latent: ByLatent::of(codes, &values, &along_atoms), y, sums: None }
    }

    /// For a code of `latents` alone, each in many rows. The sums have the same terms, added to those
    /// of other terms of the loss at the end.
    pub fn shared_rows(self, path: Path, latents: &[u32], lanes: LaneStarts, x: &[R], centre: &[R]) -> Self {
        let shared = SharedRows { by_latent: &self.by_latent, latents, lanes, y: &self.y, x, centre };
        Term { sums: Some(TiledSums::of(path, &shared)), ..self }
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

impl<R: Real> Gradient<'_, R> {
    /// The raw gradient of one latent's parameters, before projection. Says whether the latent is in any
    /// code; if not, `grad` is zero.
    #[inline(always)]
    pub fn latent(&self, latent: usize, grad: &mut LatentGrad<R>) -> bool {
        grad.w_enc.fill(R::ZERO);
        grad.w_dec.fill(R::ZERO);
        grad.b_enc = R::ZERO;
        let mut touched = false;
        for term in &self.terms {
            touched |= self.add(term, latent, grad);
        }
        for sums in self.terms.iter().filter_map(|term| term.sums.as_ref()) {
            #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
            sums.add_to(latent as u32, &mut grad.w_dec, &mut grad.w_enc);
        }
        touched
    }

    /// Asks for the rows that [`Gradient::latent`] will read.
    #[inline(always)]
    pub fn prefetch(&self, latent: usize) {
        let d = self.b_dec.len();
        for term in self.terms.iter().filter(|term| term.sums.is_none()) {
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
        if term.sums.is_none() {
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
