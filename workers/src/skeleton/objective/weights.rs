//! What a variant asks of the weights, wherever they lie.

use super::Loss;
use crate::{
    card::Matrix,
    kernels::{
        Real,
        encode::{Encoder, Screen, Selected, Selection},
        vector,
    },
};

impl<R: Real> Loss<'_, '_, '_, R> {
    /// `Σ‖part‖` of every row of a matrix that is cut into parts of `widths`, `[n_latents]`.
    pub fn norms(&self, of: Matrix, widths: &[usize]) -> Vec<R> {
        let (step, p) = (self.step, self.step.parameters);
        match (step.card, of) {
            (Some(card), _) => R::widen(card.norms(of, widths)),
            (None, Matrix::Encoder) => vector::norms_in_parts(step.path, &p.w_enc.value, widths),
            (None, Matrix::Atoms) => vector::norms_in_parts(step.path, &p.w_dec.value, widths),
        }
    }

    /// Encoder rows of some latents, ascending, `[latents, d_in]`, and their biases.
    pub fn encoder(&self, latents: &[u32]) -> (Vec<R>, Vec<R>) {
        let p = self.step.parameters;
        if let Some(card) = self.step.card {
            let (rows, biases) = card.encoder(latents);
            return (R::widen(rows), R::widen(biases));
        }
        let row = |&latent: &u32| &p.w_enc.value[latent as usize * p.d_in..][..p.d_in];
        let rows = latents.iter().flat_map(row).copied().collect();
        (rows, latents.iter().map(|&latent| p.b_enc.value[latent as usize]).collect())
    }

    /// The `k·rows` pre-activations of the batch that are largest after each latent's are multiplied by
    /// its weight, `[n_latents]`, positive; values are without the weight, the threshold is with it.
    pub fn select_weighted(&self, k: usize, weights: &[R]) -> Selected<R> {
        let mut selected = self.weighted(k, weights);
        let Selected { codes, values, .. } = &mut selected;
        for ((&latent, value), code) in codes.latents.iter().zip(values).zip(&mut codes.values) {
            *value = *value / weights[latent as usize];
            #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
            let narrow = value.f64() as f32;
            *code = narrow;
        }
        selected
    }

    /// The same with values that are multiplied.
    fn weighted(&self, k: usize, weights: &[R]) -> Selected<R> {
        let (step, p) = (self.step, self.step.parameters);
        if let Some(card) = step.card {
            return card.select_weighted(k, &R::narrow(weights)).widen();
        }
        let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, p.d_in).weighted(weights);
        encoder.select(step.path, Screen::Off, step.x, &self.gradient.centre, Selection::BatchTopK(k))
    }
}
