//! Turns gradients into a step, latent by latent: project, Adam, renormalise.

use rayon::prelude::*;

use super::{
    gradient::{Gradient, LatentGrad},
    parameters::{Parameters, Piece},
};
use crate::kernels::{Path, adam::AdamStep, simd::Kernel, vector};

/// Latents one task updates. Their partial sums are added in block order.
const BLOCK_LATENTS: usize = 32;

/// One step for every parameter. `b_dec` last, its gradient from the old `w_enc`.
pub fn apply(path: Path, parameters: &mut Parameters<f32>, gradient: &Gradient<f32>, adam: &AdamStep<f32>) {
    let d = parameters.d_in;
    let rows = BLOCK_LATENTS * d;
    let weights = parameters.w_enc.pieces(rows).zip(parameters.w_dec.pieces(rows));
    let through_encoder: Vec<Vec<f32>> = weights
        .zip(parameters.b_enc.pieces(BLOCK_LATENTS))
        .enumerate()
        .map(|(block, ((w_enc, w_dec), b_enc))| {
            let first = block * BLOCK_LATENTS;
            path.run(UpdateLatents { first, d, w_enc, w_dec, b_enc, gradient, adam })
        })
        .collect();
    let mut total = vec![0f64; d];
    for block in through_encoder {
        total.iter_mut().zip(block).for_each(|(total, part)| *total += f64::from(part));
    }
    parameters.b_dec.whole().descend(adam, &gradient.b_dec(&total));
}

struct UpdateLatents<'a> {
    first: usize,
    d: usize,
    w_enc: Piece<'a, f32>,
    w_dec: Piece<'a, f32>,
    b_enc: Piece<'a, f32>,
    gradient: &'a Gradient<'a, f32>,
    adam: &'a AdamStep<f32>,
}

impl Kernel for UpdateLatents<'_> {
    /// `Σ db_enc·w_enc` over the block, with the weights from before the step, `[d_in]`.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(mut self) -> Vec<f32> {
        let (d, mut grad) = (self.d, LatentGrad::new(self.d));
        let mut through_encoder = vec![0f32; d];
        for row in 0..self.b_enc.value.len() {
            if row + 1 < self.b_enc.value.len() {
                self.gradient.prefetch(self.first + row + 1);
            }
            let touched = self.gradient.latent(self.first + row, &mut grad);
            let (mut encoder, mut atom) = (self.w_enc.row(row, d), self.w_dec.row(row, d));
            if touched {
                vector::axpy(grad.b_enc, encoder.value, &mut through_encoder);
                let parallel = vector::dot(&grad.w_dec, atom.value);
                vector::axpy(-parallel, atom.value, &mut grad.w_dec);
            }
            encoder.descend(self.adam, &grad.w_enc);
            self.b_enc.row(row, 1).descend(self.adam, &[grad.b_enc]);
            atom.descend(self.adam, &grad.w_dec);
            vector::normalize(atom.value);
        }
        through_encoder
    }
}
