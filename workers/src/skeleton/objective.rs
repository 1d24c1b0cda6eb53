//! The loss and its gradient. This is the one place where loss terms are summed.
//!
//! A term is a sparse code with a gradient on what it decodes to: the reconstruction is one, the
//! auxiliary loss over dead latents another. Backward runs over the list of terms, in closed form
//! (`methods` of the field: OpenAI `sparse_autoencoder/kernels.py`; AuxK of Gao et al. 2024, §A.2):
//! with `S = 1/B`, `g = −2S·e`, `gv = ⟨g, w_dec⟩`,
//! `dw_dec = Σ f·g`, `dw_enc = Σ gv·(x − b_dec)`, `db_enc = Σ gv`, `db_dec = Σ g − db_enc·w_enc`.

use rayon::prelude::*;

use super::parameters::Parameters;
use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        csc::{self, ByLatent},
        encode::{Encoder, Screen, Selected, Selection},
        gather,
        lanes::{self, LaneStarts},
        simd::Kernel,
        vector,
    },
};

/// What the loss is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Objective {
    /// Latents kept per row.
    pub k: usize,
    /// Weight of the auxiliary loss, 1/32 in the paper.
    pub aux_coefficient: f64,
    /// Dead latents that may explain the residual, per row.
    pub k_aux: usize,
    /// Divide the reconstruction loss by the variance of the batch, which makes it scale-free.
    pub per_variance: bool,
}

/// The value of the loss, term by term.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Losses {
    /// `Σ‖e‖²` over the batch.
    pub squared_error: f64,
    /// `Σ‖x − x̄‖²` over the batch.
    pub scatter: f64,
    /// Mean squared error, divided by the variance if the objective says so.
    pub reconstruction: f64,
    /// Auxiliary loss before its coefficient; 0 while no latent is dead.
    pub aux: f64,
    /// What is minimised.
    pub total: f64,
}

/// A sparse code and the gradient of the loss with respect to what it decodes to.
struct Term<R> {
    by_latent: ByLatent,
    values: Vec<R>,
    value_grads: Vec<R>,
    /// `[rows, d_in]`.
    g: Vec<R>,
}

/// Everything known after the forward pass, ready to be turned into gradients latent by latent.
pub struct Backward<R> {
    lanes: Vec<usize>,
    /// `x − b_dec`, `[rows, d_in]`.
    centred: Vec<R>,
    terms: Vec<Term<R>>,
    /// `Σ g` of the terms that decode with `b_dec`, `[d_in]`.
    offset_grad: Vec<f64>,
    /// The loss.
    pub losses: Losses,
    /// The main codes.
    pub codes: Codes,
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
    lane_sum: Vec<R>,
}

impl<R: Real> LatentGrad<R> {
    /// Scratch for rows of `d_in`.
    pub fn new(d_in: usize) -> Self {
        let zeros = || vec![R::ZERO; d_in];
        LatentGrad { w_enc: zeros(), w_dec: zeros(), b_enc: R::ZERO, lane_sum: zeros() }
    }
}

/// One batch in front of the parameters.
pub struct Step<'a, R> {
    /// Instructions to use.
    pub path: Path,
    /// Whether integers look at the latents first.
    pub screen: Screen,
    /// The parameters, before the step.
    pub parameters: &'a Parameters<R>,
    /// Rows, `[rows, d_in]`, lane after lane.
    pub x: &'a [R],
    /// Where each lane starts.
    pub lanes: LaneStarts<'a>,
    /// Dead latents, ascending.
    pub dead: &'a [u32],
}

impl Objective {
    /// Forward pass and the output gradients of every term.
    pub fn evaluate<R: Real>(&self, step: &Step<R>) -> Backward<R> {
        let (p, d) = (step.parameters, step.parameters.d_in);
        let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, d);
        let Selected { codes, values, .. } =
            encoder.select(step.path, step.screen, step.x, &p.b_dec.value, Selection::TopK(self.k));
        let mut error = vec![R::ZERO; step.x.len()];
        gather::decode(step.path, &codes, &values, &p.w_dec.value, &p.b_dec.value, &mut error);
        error.par_iter_mut().zip(step.x).for_each(|(e, &x)| *e = x - *e);

        let mut losses = self.reconstruction(step, &error);
        let aux = self.aux_term(step, &error, &mut losses);
        losses.total = losses.reconstruction + self.aux_coefficient * losses.aux;

        let rate = R::of(-2.0 * self.reconstruction_scale(step.rows(), losses.scatter));
        error.par_iter_mut().for_each(|e| *e = *e * rate);
        let main = Term::new(step, &codes, values, error);
        Backward {
            lanes: step.lanes.to_vec(),
            centred: centre(step.x, &p.b_dec.value),
            offset_grad: lanes::column_sums(&main.g, d, step.lanes),
            terms: std::iter::once(main).chain(aux).collect(),
            losses,
            codes,
        }
    }

    fn reconstruction<R: Real>(&self, step: &Step<R>, error: &[R]) -> Losses {
        let d = step.parameters.d_in;
        let squared_error = lanes::sum(&squared_norms(step.path, error, d), step.lanes);
        let scatter = lanes::scatter(step.x, &squared_norms(step.path, step.x, d), d, step.lanes);
        let reconstruction = squared_error * self.reconstruction_scale(step.rows(), scatter);
        Losses { squared_error, scatter, reconstruction, ..Losses::default() }
    }

    /// `S`: 1/B, or 1/(B·variance) = 1/scatter. A batch without variance counts as variance 1.
    fn reconstruction_scale(&self, rows: usize, scatter: f64) -> f64 {
        if self.per_variance && scatter > 0.0 { 1.0 / scatter } else { 1.0 / rows.max(1) as f64 }
    }

    /// AuxK: dead latents explain the detached residual `e`, decoded without `b_dec`. The loss is
    /// `mean‖e − ê‖² / mean‖e − ē‖²`, scaled by `min(n_dead / k_aux, 1)` (sparsify, SAELens).
    fn aux_term<R: Real>(&self, step: &Step<R>, error: &[R], losses: &mut Losses) -> Option<Term<R>> {
        if step.dead.is_empty() || self.k_aux == 0 || self.aux_coefficient == 0.0 {
            return None;
        }
        let (p, d) = (step.parameters, step.parameters.d_in);
        let scatter = lanes::scatter(error, &squared_norms(step.path, error, d), d, step.lanes);
        if scatter <= 0.0 || !scatter.is_finite() {
            return None;
        }
        let encoder = Encoder::subset(&p.w_enc.value, &p.b_enc.value, d, step.dead);
        let Selected { codes, values, .. } =
            encoder.select(step.path, step.screen, step.x, &p.b_dec.value, Selection::TopK(self.k_aux));
        let mut residual = vec![R::ZERO; error.len()];
        gather::decode(step.path, &codes, &values, &p.w_dec.value, &vec![R::ZERO; d], &mut residual);
        residual.par_iter_mut().zip(error).for_each(|(r, &e)| *r = e - *r);
        let few = (step.dead.len() as f64 / self.k_aux as f64).min(1.0);
        losses.aux = few * lanes::sum(&squared_norms(step.path, &residual, d), step.lanes) / scatter;
        let rate = R::of(-2.0 * self.aux_coefficient * few / scatter);
        residual.par_iter_mut().for_each(|r| *r = *r * rate);
        Some(Term::new(step, &codes, values, residual))
    }
}

impl<R: Real> Step<'_, R> {
    fn rows(&self) -> usize {
        self.x.len() / self.parameters.d_in
    }
}

impl<R: Real> Term<R> {
    fn new(step: &Step<R>, codes: &Codes, values: Vec<R>, g: Vec<R>) -> Self {
        let p = step.parameters;
        let value_grads = gather::value_grads(step.path, codes, &g, &p.w_dec.value, p.d_in);
        Term { by_latent: ByLatent::of(codes), values, value_grads, g }
    }
}

impl<R: Real> Backward<R> {
    /// The raw gradient of one latent's parameters, before projection.
    #[inline(always)]
    pub fn latent(&self, latent: usize, grad: &mut LatentGrad<R>) {
        grad.w_enc.fill(R::ZERO);
        grad.w_dec.fill(R::ZERO);
        grad.b_enc = R::ZERO;
        for term in &self.terms {
            let entries = term.by_latent.entries(latent);
            let decoded = entries.clone().map(|(row, pair)| (row, term.values[pair]));
            csc::add_rows_by_lane(decoded, &self.lanes, &term.g, &mut grad.w_dec, &mut grad.lane_sum);
            let encoded = entries.clone().map(|(row, pair)| (row, term.value_grads[pair]));
            csc::add_rows_by_lane(encoded, &self.lanes, &self.centred, &mut grad.w_enc, &mut grad.lane_sum);
            grad.b_enc += self.bias_grad(entries, &term.value_grads);
        }
    }

    #[inline(always)]
    fn bias_grad(&self, entries: impl Iterator<Item = (usize, usize)>, value_grads: &[R]) -> R {
        let (mut total, mut lane_sum, mut lane) = (R::ZERO, R::ZERO, 0);
        for (row, pair) in entries {
            while row >= self.lanes[lane + 1] {
                total += std::mem::take(&mut lane_sum);
                lane += 1;
            }
            lane_sum += value_grads[pair];
        }
        total + lane_sum
    }

    /// Gradient of `b_dec`, given `Σ_latents db_enc·w_enc` (`[d_in]`): the pre-bias enters twice.
    pub fn b_dec(&self, through_encoder: &[f64]) -> Vec<R> {
        self.offset_grad.iter().zip(through_encoder).map(|(&direct, &enc)| R::of(direct - enc)).collect()
    }

    /// Whether a latent fired in this batch.
    pub fn fired(&self, latent: usize) -> bool {
        let offsets = &self.terms[0].by_latent.offsets;
        offsets[latent] < offsets[latent + 1]
    }
}

/// `x − b_dec`, row by row.
fn centre<R: Real>(x: &[R], b_dec: &[R]) -> Vec<R> {
    let mut centred = x.to_vec();
    centred.par_chunks_mut(b_dec.len()).for_each(|row| {
        row.iter_mut().zip(b_dec).for_each(|(x, &b)| *x = *x - b);
    });
    centred
}

/// `‖y_b‖²` per row.
pub fn squared_norms<R: Real>(path: Path, y: &[R], d: usize) -> Vec<f64> {
    let mut norms = vec![0f64; y.len() / d];
    let blocks = norms.par_chunks_mut(64).zip(y.par_chunks(64 * d));
    blocks.for_each(|(norms, rows)| path.run(SquaredNorms { rows, d, norms }));
    norms
}

struct SquaredNorms<'a, R> {
    rows: &'a [R],
    d: usize,
    norms: &'a mut [f64],
}

impl<R: Real> Kernel for SquaredNorms<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (norm, row) in self.norms.iter_mut().zip(self.rows.chunks_exact(self.d)) {
            *norm = vector::dot(row, row).f64();
        }
    }
}

#[cfg(test)]
mod tests;
