//! The loss and its gradient. This is the one place where loss terms are summed.
//!
//! A term is a sparse code with a gradient on what it decodes to: the reconstruction is one, the
//! auxiliary loss over dead latents another. Backward runs over the list of terms, in closed form
//! (`methods` of the field: OpenAI `sparse_autoencoder/kernels.py`; AuxK of Gao et al. 2024, §A.2):
//! with `S = 1/B`, `g = −2S·e`, `gv = ⟨g, w_dec⟩`,
//! `dw_dec = Σ f·g`, `dw_enc = Σ gv·(x − b_dec)`, `db_enc = Σ gv`, `db_dec = Σ g − db_enc·w_enc`.

use super::{
    gradient::{Gradient, Term},
    parameters::Parameters,
    rooms::Rooms,
};
use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        encode::{Among, Encoder, Screen, Selected, Selection},
        lanes::LaneStarts,
        residual::{Coded, Residual, residual, residual_of_few},
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

/// Everything known after the forward pass, ready to be turned into gradients latent by latent.
#[derive(Debug)]
pub struct Backward<'a, R> {
    /// The loss.
    pub losses: Losses,
    /// The main codes.
    pub codes: Codes,
    /// Its gradient.
    pub gradient: Gradient<'a, R>,
}

/// One batch in front of the parameters.
pub struct Step<'batch, 'learner, R> {
    /// Instructions to use.
    pub path: Path,
    /// Whether integers look at the latents first.
    pub screen: Screen,
    /// The parameters, before the step.
    pub parameters: &'learner Parameters<R>,
    /// Rows, `[rows, d_in]`, lane after lane.
    pub x: &'batch [R],
    /// Where each lane starts.
    pub lanes: LaneStarts<'batch>,
    /// `Σ‖x − x̄‖²`.
    pub scatter: f64,
    /// Dead latents, ascending.
    pub dead: &'learner [u32],
}

impl Objective {
    /// Forward pass and the output gradients of every term. The terms hold memory of `rooms`.
    pub fn evaluate<'batch, R: Real>(
        &self,
        step: &Step<'batch, '_, R>,
        rooms: &mut Rooms<R>,
    ) -> Backward<'batch, R> {
        let p = step.parameters;
        let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, p.d_in);
        let (offset, among) = (&p.b_dec.value, self.among(step.dead));
        let (Selected { codes, values, .. }, dead) =
            encoder.select_also(step.path, step.screen, step.x, offset, Selection::TopK(self.k), among);
        let main = step.residual(
            step.x,
            &Coded { codes: &codes, values: &values, w_dec: &p.w_dec.value, offset },
            rooms.take(),
        );

        let scale = self.reconstruction_scale(step.rows(), step.scatter);
        let reconstruction = main.moments.squared_norm * scale;
        let (aux, aux_term) = dead.and_then(|dead| self.aux(step, dead, &main, rooms)).unzip();
        let losses = Losses {
            squared_error: main.moments.squared_norm,
            scatter: step.scatter,
            reconstruction,
            aux: aux.unwrap_or(0.0),
            total: reconstruction + self.aux_coefficient * aux.unwrap_or(0.0),
        };
        let offset = main.moments.column_sums.iter().map(|sum| -2.0 * scale * sum).collect();
        let main = Term::squared_error(&codes, values, main.along_atoms, main.e, scale);
        let terms = std::iter::once(main).chain(aux_term).collect();
        let gradient = Gradient { lanes: step.lanes, x: step.x, b_dec: p.b_dec.value.clone(), terms, offset };
        Backward { losses, codes, gradient }
    }

    /// `S`: 1/B, or 1/(B·variance) = 1/scatter. A batch without variance counts as variance 1.
    fn reconstruction_scale(&self, rows: usize, scatter: f64) -> f64 {
        if self.per_variance && scatter > 0.0 { 1.0 / scatter } else { 1.0 / rows.max(1) as f64 }
    }

    /// What AuxK selects from; None while nobody is there to explain anything.
    fn among<'a>(&self, dead: &'a [u32]) -> Option<Among<'a>> {
        let idle = dead.is_empty() || self.k_aux == 0 || self.aux_coefficient == 0.0;
        (!idle).then_some(Among { latents: dead, k: self.k_aux })
    }

    /// AuxK: dead latents explain the detached residual `e`, decoded without `b_dec`. The loss is
    /// `mean‖e − ê‖² / mean‖e − ē‖²`, scaled by `min(n_dead / k_aux, 1)` (sparsify, SAELens).
    /// None while there is nothing to explain.
    fn aux<R: Real>(
        &self,
        step: &Step<R>,
        dead: Selected<R>,
        main: &Residual<R>,
        rooms: &mut Rooms<R>,
    ) -> Option<(f64, Term<R>)> {
        let scatter = main.moments.scatter(step.rows());
        if scatter <= 0.0 || !scatter.is_finite() {
            return None;
        }
        let (p, Selected { codes, values, .. }) = (step.parameters, dead);
        let offset = &vec![R::ZERO; p.d_in];
        let coded = Coded { codes: &codes, values: &values, w_dec: &p.w_dec.value, offset };
        let left = residual_of_few(step.path, &main.e, &coded, step.dead, step.lanes, rooms.take());
        let few = (step.dead.len() as f64 / self.k_aux as f64).min(1.0);
        let scale = self.aux_coefficient * few / scatter;
        let loss = few * left.moments.squared_norm / scatter;
        let term = Term::squared_error(&codes, values, left.along_atoms, left.e, scale);
        Some((loss, term.shared_rows(step.path, step.dead, step.lanes, step.x, &p.b_dec.value)))
    }
}

impl<R: Real> Step<'_, '_, R> {
    fn rows(&self) -> usize {
        self.x.len() / self.parameters.d_in
    }

    fn residual(&self, target: &[R], coded: &Coded<R>, room: Vec<R>) -> Residual<R> {
        residual(self.path, target, coded, self.lanes, room)
    }
}

#[cfg(test)]
mod tests;
