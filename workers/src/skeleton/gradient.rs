//! From the terms of the loss to the gradient of one latent at a time; a dense one is never stored.

use std::ops::Range;

use super::rooms::Rooms;
use crate::{
    card::CardTerm,
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
    /// Each pair adds `decoder·y` to the gradient of its atom and `encoder·(x − b_dec)` to that of its
    /// encoder row. Without `y` no atom is concerned.
    pub fn new(codes: &Codes, decoder: &[R], encoder: &[R], y: Vec<R>) -> Self {
        Term { by_latent: ByLatent::of(codes, decoder, encoder), y, sums: None }
    }

    /// [`Term::new`] of the pairs whose latent is in `latents`.
    pub fn of_latents(latents: Range<usize>, codes: &Codes, decoder: &[R], encoder: &[R], y: Vec<R>) -> Self {
        Term { by_latent: ByLatent::of_latents(codes, decoder, encoder, latents), y, sums: None }
    }

    /// For a code of `latents` alone, each in many rows. The sums have the same terms, added to those
    /// of other terms of the loss at the end. Changes nothing where `y` and `x` differ in width.
    pub fn shared_rows(self, path: Path, latents: &[u32], lanes: LaneStarts, x: &[R], centre: &[R]) -> Self {
        if self.y.len() != x.len() {
            return self;
        }
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
    /// What is subtracted before encoding, `[d_in]`.
    pub centre: Vec<R>,
    /// Whether that is the decoder bias.
    pub pre_bias: bool,
    /// The terms of the loss.
    pub terms: Vec<Term<R>>,
    /// The terms of a learner on a card, which has no others.
    pub card_terms: Vec<CardTerm>,
    /// Gradient of `b_dec` through the decoder, `[d_out]`.
    pub offset: Vec<f64>,
    /// What the gradient of `b_enc` has beside the sum of the encoder weights, `[n_latents]`.
    pub bias: Option<Vec<R>>,
    /// What all rows add to the gradients of the encoder at once: of its rows, `[n_latents, d_in]`, and
    /// of its biases.
    pub dense: Option<(Vec<R>, Vec<R>)>,
    /// What each atom adds of itself to its own gradient, `[n_latents]`.
    pub pull: Option<Vec<R>>,
    /// Gradients of the extra parameters.
    pub extras: Vec<Vec<R>>,
}

/// Gradient of one latent's parameters.
#[derive(Debug, Clone)]
pub struct LatentGrad<R> {
    /// `[d_in]`.
    pub w_enc: Vec<R>,
    /// `[d_out]`.
    pub w_dec: Vec<R>,
    /// Scalar.
    pub b_enc: R,
    /// Sum of the encoder weights, by which `b_dec` enters before encoding; mostly `b_enc`.
    pub through: R,
    runs: Vec<Range<usize>>,
}

impl<R: Real> LatentGrad<R> {
    /// Scratch for rows of `d_in` and atoms of `d_out`.
    pub fn new(d_in: usize, d_out: usize) -> Self {
        let (w_enc, w_dec) = (vec![R::ZERO; d_in], vec![R::ZERO; d_out]);
        LatentGrad { w_enc, w_dec, b_enc: R::ZERO, through: R::ZERO, runs: Vec::new() }
    }
}

impl<R: Real> Gradient<'_, R> {
    /// The raw gradient of one latent's parameters, before projection. Says whether the latent is in any
    /// code; if not, `grad` is zero.
    #[inline(always)]
    pub fn latent(&self, latent: usize, grad: &mut LatentGrad<R>) -> bool {
        grad.w_enc.fill(R::ZERO);
        grad.w_dec.fill(R::ZERO);
        grad.through = R::ZERO;
        let mut touched = self.pull.is_some() || self.dense.is_some();
        for term in &self.terms {
            touched |= self.add(term, latent, grad);
        }
        for sums in self.terms.iter().filter_map(|term| term.sums.as_ref()) {
            #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
            sums.add_to(latent as u32, &mut grad.w_dec, &mut grad.w_enc);
        }
        if let Some((rows, biases)) = &self.dense {
            let d = grad.w_enc.len();
            vector::add(&rows[latent * d..][..d], &mut grad.w_enc);
            grad.through += biases[latent];
        }
        grad.b_enc = self.bias.as_ref().map_or(grad.through, |bias| grad.through + bias[latent]);
        touched
    }

    /// Asks for the rows that [`Gradient::latent`] will read.
    #[inline(always)]
    pub fn prefetch(&self, latent: usize) {
        let (d_in, d_out) = (self.centre.len(), self.offset.len());
        for term in self.terms.iter().filter(|term| term.sums.is_none()) {
            for &row in term.by_latent.entries(latent).rows.iter().take(16) {
                if !term.y.is_empty() {
                    prefetch::soon(&term.y[row as usize * d_out..][..d_out]);
                }
                prefetch::soon(&self.x[row as usize * d_in..][..d_in]);
            }
        }
    }

    #[inline(always)]
    fn add(&self, term: &Term<R>, latent: usize, grad: &mut LatentGrad<R>) -> bool {
        let entries = term.by_latent.entries(latent);
        let (rows, LatentGrad { w_enc, w_dec, through, runs, .. }) = (entries.rows, grad);
        csc::lane_runs(rows, self.lanes, runs);
        if term.sums.is_none() {
            if !term.y.is_empty() {
                let weights = entries.decoder;
                SumRows { runs, rows, weights, y: &term.y, centre: None, total: w_dec }.run();
            }
            let centre = Some(&self.centre[..]);
            SumRows { runs, rows, weights: entries.encoder, y: self.x, centre, total: w_enc }.run();
        }
        *through += csc::sum_weights(runs, entries.encoder);
        !rows.is_empty()
    }

    /// Gradient of `b_dec`, given `Σ_latents through·w_enc` (`[d_in]`): a pre-bias enters twice.
    pub fn b_dec(&self, through_encoder: &[f64]) -> Vec<R> {
        if !self.pre_bias {
            return self.offset.iter().map(|&direct| R::of(direct)).collect();
        }
        self.offset.iter().zip(through_encoder).map(|(&direct, &enc)| R::of(direct - enc)).collect()
    }

    /// Multiplies all of it by `factor`; nothing changes if that is 1.
    pub fn scale(&mut self, factor: f64) {
        if factor == 1.0 {
            return;
        }
        let narrow = R::of(factor);
        for term in &mut self.terms {
            term.by_latent.scale(narrow);
            term.sums.iter_mut().for_each(|sums| sums.scale(narrow));
        }
        self.offset.iter_mut().for_each(|g| *g *= factor);
        let dense = self.dense.iter_mut().flat_map(|(rows, biases)| [rows, biases]);
        let lists = self.bias.iter_mut().chain(&mut self.pull).chain(&mut self.extras).chain(dense);
        lists.for_each(|list| vector::scale(narrow, list));
    }

    /// Gives the memory of the terms back.
    pub fn vacate(self, rooms: &mut Rooms<R>) {
        self.terms.into_iter().for_each(|term| rooms.give(term.y));
        self.dense.into_iter().for_each(|(rows, _)| rooms.give(rows));
    }
}
