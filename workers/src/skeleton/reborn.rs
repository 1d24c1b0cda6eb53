//! Latents that start again: new rows, a bias of 0, no momentum.

use std::ops::Range;

use super::parameters::{Parameter, Parameters};

/// Which latents, and what their rows become.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reborn {
    /// Ascending.
    pub latents: Vec<u32>,
    /// Of the encoder, `[latents, d_in]`.
    pub encoder: Vec<f32>,
    /// `[latents, d_out]`.
    pub atoms: Vec<f32>,
}

impl Reborn {
    /// Changes them, where the weights are here.
    pub fn apply(&self, p: &mut Parameters<f32>) {
        let (d_in, d_out) = (p.d_in, p.d_out());
        let rows = self.encoder.chunks_exact(d_in).zip(self.atoms.chunks_exact(d_out));
        for (&latent, (encoder, atom)) in self.latents.iter().zip(rows) {
            let latent = latent as usize;
            begin(&mut p.w_enc, latent * d_in, encoder);
            begin(&mut p.w_dec, latent * d_out, atom);
            begin(&mut p.b_enc, latent, &[0.0]);
        }
    }
}

/// Values from `at` on, without a past.
fn begin(parameter: &mut Parameter<f32>, at: usize, values: &[f32]) {
    let span: Range<usize> = at..at + values.len();
    parameter.value[span.clone()].copy_from_slice(values);
    parameter.m[span.clone()].fill(0.0);
    parameter.v[span].fill(0.0);
}
