//! Turns gradients into a step, latent by latent: project, Adam, renormalise.

use rayon::prelude::*;

use super::{
    gradient::{Gradient, LatentGrad},
    parameters::{Parameters, Piece},
};
use crate::kernels::{Path, adam::AdamStep, simd::Kernel, vector};

/// Latents one task updates. Their partial sums are added in block order.
const BLOCK_LATENTS: usize = 32;

/// Numbers of a variant's own parameter that one task updates.
const OWN: usize = 8192;

/// What atoms have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atoms {
    /// Of unit norm: the gradient along an atom is removed, and atoms are normalised after the step.
    UnitNorm,
    /// Of any norm.
    Free,
    /// Made of the variant's own parameters: the step leaves an atom's gradient where its first moment would
    /// be, and leaves atoms and own parameters to [`super::SaeVariant::compose`].
    Composed,
}

/// One step for every parameter. `b_dec` last, its gradient from the old `w_enc`.
pub fn apply(
    path: Path,
    parameters: &mut Parameters<f32>,
    gradient: &Gradient<f32>,
    adam: &AdamStep<f32>,
    atoms: Atoms,
) {
    let (d_in, d_out) = (parameters.d_in, parameters.d_out());
    let latents = BLOCK_LATENTS;
    let weights = parameters.w_enc.pieces(latents * d_in).zip(parameters.w_dec.pieces(latents * d_out));
    let through_encoder: Vec<Vec<f32>> = weights
        .zip(parameters.b_enc.pieces(latents))
        .enumerate()
        .map(|(block, ((w_enc, w_dec), b_enc))| {
            let first = block * latents;
            path.run(UpdateLatents { first, w_enc, w_dec, b_enc, gradient, adam, atoms })
        })
        .collect();
    let mut total = vec![0f64; d_in];
    for block in through_encoder {
        total.iter_mut().zip(block).for_each(|(total, part)| *total += f64::from(part));
    }
    parameters.b_dec.whole().descend(adam, &gradient.b_dec(&total));
    if atoms != Atoms::Composed {
        own(path, parameters, gradient, adam);
    }
}

/// One step for what a variant learns beside the weights.
pub fn own(path: Path, parameters: &mut Parameters<f32>, gradient: &Gradient<f32>, adam: &AdamStep<f32>) {
    for (extra, gradient) in parameters.extras.iter_mut().zip(&gradient.extras) {
        let pieces = extra.parameter.pieces(OWN).zip(gradient.par_chunks(OWN));
        pieces.for_each(|(piece, g)| path.run(Descend { piece, adam, g }));
    }
}

/// One step of a piece of any parameter.
struct Descend<'a> {
    piece: Piece<'a, f32>,
    adam: &'a AdamStep<f32>,
    g: &'a [f32],
}

impl Kernel for Descend<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        self.piece.descend(self.adam, self.g);
    }
}

struct UpdateLatents<'a> {
    first: usize,
    w_enc: Piece<'a, f32>,
    w_dec: Piece<'a, f32>,
    b_enc: Piece<'a, f32>,
    gradient: &'a Gradient<'a, f32>,
    adam: &'a AdamStep<f32>,
    atoms: Atoms,
}

impl Kernel for UpdateLatents<'_> {
    /// `Σ db_enc·w_enc` over the block, with the weights from before the step, `[d_in]`.
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(mut self) -> Vec<f32> {
        let (d_in, d_out) = (self.gradient.centre.len(), self.gradient.offset.len());
        let mut grad = LatentGrad::new(d_in, d_out);
        let mut through_encoder = vec![0f32; d_in];
        for row in 0..self.b_enc.value.len() {
            if row + 1 < self.b_enc.value.len() {
                self.gradient.prefetch(self.first + row + 1);
            }
            let touched = self.gradient.latent(self.first + row, &mut grad);
            let (mut encoder, mut atom) = (self.w_enc.row(row, d_in), self.w_dec.row(row, d_out));
            if touched {
                vector::axpy(grad.through, encoder.value, &mut through_encoder);
                constrain(self.gradient, self.atoms, self.first + row, atom.value, &mut grad.w_dec);
            }
            encoder.descend(self.adam, &grad.w_enc);
            self.b_enc.row(row, 1).descend(self.adam, &[grad.b_enc]);
            match self.atoms {
                Atoms::Composed => atom.hold(&grad.w_dec),
                _ => atom.descend(self.adam, &grad.w_dec),
            }
            if self.atoms == Atoms::UnitNorm {
                vector::normalize(atom.value);
            }
        }
        through_encoder
    }
}

/// What the loss and the constraint make of an atom's gradient `g`, given the atom itself.
#[inline(always)]
fn constrain(of: &Gradient<f32>, atoms: Atoms, latent: usize, atom: &[f32], g: &mut [f32]) {
    if let Some(pull) = &of.pull {
        vector::axpy(pull[latent], atom, g);
    }
    if atoms == Atoms::UnitNorm {
        let parallel = vector::dot(g, atom);
        vector::axpy(-parallel, atom, g);
    }
}
