//! What only some kinds of learners ask of a card: dense maps, lengths, single latents, the length of a gradient.

use atomflow_workers::{
    card::{CardGradient, CardRows, Matrix},
    kernels::encode::{Selected, Selection},
};

use super::{Autoencoder, State, begun, counted, no_gradient, total};
use crate::{
    Runtime,
    card::{Floats, Lost},
    encoder::{Encoder, selected},
    kernels::{
        lines::Lines,
        norms,
        product::Product,
        rows,
        transpose::transpose,
        update::{Beside, Latents},
    },
};

impl<R: Runtime> Autoencoder<R> {
    pub(super) fn weighted(&self, state: &State, k: usize, weights: &[f32]) -> Result<Selected<f32>, Lost> {
        let weights = self.card.upload(weights);
        let encoder = Encoder { weights: Some(&weights), ..self.encoder(state) };
        let centred = &begun(state)?.centred;
        let (pairs, threshold) = encoder.select(&self.card, centred, Selection::BatchTopK(k))?;
        selected(pairs, threshold, state.latents.b_enc.value.len())
    }

    pub(super) fn without_map(&self, state: &mut State, map: &[f32]) -> Result<CardRows, Lost> {
        let (there, left) = state.stack.push(&self.card);
        let (batch, d_out) = (begun(state)?, state.b_dec.value.len());
        let (w, bias) = (self.card.upload(map), self.card.upload(&vec![0.0; d_out]));
        let (d, rows) = (state.zeros.len(), state.stack.rows());
        let product = Product { x: &batch.x, w: &w, bias: &bias, d, rows, first: 0, width: d_out };
        product.run(&self.card, &left);
        rows::mix(&self.card, &left, -1.0, 1.0, &batch.target);
        Ok(there)
    }

    pub(super) fn crossed(&self, state: &State, y: &CardRows) -> Result<Vec<f32>, Lost> {
        let (d, d_out, rows) = (state.zeros.len(), state.b_dec.value.len(), state.stack.rows());
        let x = transpose(&self.card, &begun(state)?.x, d);
        let y = transpose(&self.card, &state.stack.find(y)?, d_out);
        let out = self.card.room(d_out * d);
        let product = Product { x: &y, w: &x, bias: &state.zeros, d: rows, rows: d_out, first: 0, width: d };
        product.run(&self.card, &out);
        self.card.download(&out)
    }

    pub(super) fn mixed(
        &self,
        state: &State,
        to: &CardRows,
        factor: f32,
        from: &CardRows,
    ) -> Result<(), Lost> {
        rows::mix(&self.card, &state.stack.find(to)?, 1.0, factor, &state.stack.find(from)?);
        Ok(())
    }

    pub(super) fn lengths(&self, state: &State, of: Matrix, widths: &[usize]) -> Result<Vec<f32>, Lost> {
        let matrix = match of {
            Matrix::Encoder => &state.latents.w_enc.value,
            Matrix::Atoms => &state.latents.w_dec.value,
        };
        let widths = widths.iter().map(|&width| counted(width)).collect::<Result<Vec<u32>, Lost>>()?;
        self.card.download(&norms::norms(&self.card, matrix, &widths))
    }

    pub(super) fn encoder_of(&self, state: &State, latents: &[u32]) -> Result<(Vec<f32>, Vec<f32>), Lost> {
        let Latents { w_enc, b_enc, .. } = &state.latents;
        let list = self.card.upload(latents);
        let of =
            |from: &Floats, d| self.card.download(&rows::gather(&self.card, Lines::Floats(from), d, &list));
        Ok((of(&w_enc.value, state.zeros.len())?, of(&b_enc.value, 1)?))
    }

    pub(super) fn squared(&self, state: &State, gradient: &CardGradient) -> Result<f64, Lost> {
        let pairs = state.gradient.as_ref().ok_or_else(no_gradient)?;
        let [bias, pull] = [gradient.bias, gradient.pull].map(|own| own.map(|own| self.card.upload(own)));
        let beside = Beside { bias: bias.as_ref(), pull: pull.as_ref() };
        let squares = pairs.squares(&self.card, &state.latents.w_dec.value, beside);
        Ok(total(&self.card.download(&squares)?))
    }

    pub(super) fn begin_again(&self, state: &State, latents: &[u32], encoder: &[f32], atoms: &[f32]) {
        let (card, Latents { w_enc, b_enc, w_dec }) = (&self.card, &state.latents);
        let (list, d_in, d_out) = (card.upload(latents), state.zeros.len(), state.b_dec.value.len());
        let put =
            |to: &Floats, values: &[f32], d: usize| rows::scatter(card, &card.upload(values), d, &list, to);
        let nothing = vec![0.0; latents.len()];
        [&b_enc.value, &b_enc.m, &b_enc.v].into_iter().for_each(|part| put(part, &nothing, 1));
        for (weights, values, d) in [(w_enc, encoder, d_in), (w_dec, atoms, d_out)] {
            put(&weights.value, values, d);
            weights.moments.forget(card, d, &list);
        }
        w_enc.round_again(card, d_in, Some(&b_enc.value));
        w_dec.round_again(card, d_out, None);
    }
}
