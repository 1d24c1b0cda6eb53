//! Row-wise gathers over atoms: sparse decode, and the gradient of the code values (SDDMM).

use rayon::prelude::*;

use super::{
    real::Real,
    simd::{Kernel, Path},
    vector::{axpy, dot},
};
use crate::codes::Codes;

/// Rows one task works on.
const BLOCK_ROWS: usize = 64;

/// `out[b] = offset + Σ_j values[b,j] · w_dec[latent j]`, atoms added in ascending latent order.
///
/// `values` runs parallel to `codes.latents`; `w_dec` is `[n_latents, d]`, `offset` `[d]`, `out` `[rows, d]`.
pub fn decode<R: Real>(path: Path, codes: &Codes, values: &[R], w_dec: &[R], offset: &[R], out: &mut [R]) {
    let d = offset.len();
    out.par_chunks_mut(BLOCK_ROWS * d).enumerate().for_each(|(block, out)| {
        path.run(Decode { codes, values, w_dec, offset, first: block * BLOCK_ROWS, out });
    });
}

struct Decode<'a, R> {
    codes: &'a Codes,
    values: &'a [R],
    w_dec: &'a [R],
    offset: &'a [R],
    first: usize,
    out: &'a mut [R],
}

impl<R: Real> Kernel for Decode<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let d = self.offset.len();
        for (r, out) in self.out.chunks_exact_mut(d).enumerate() {
            out.copy_from_slice(self.offset);
            let span = self.codes.offsets[self.first + r]..self.codes.offsets[self.first + r + 1];
            for (&latent, &value) in self.codes.latents[span.clone()].iter().zip(&self.values[span]) {
                axpy(value, &self.w_dec[latent as usize * d..][..d], out);
            }
        }
    }
}

/// `grads[b,j] = ⟨g[b], w_dec[latent j]⟩` for every pair of `codes`; `g` is `[rows, d]`.
pub fn value_grads<R: Real>(path: Path, codes: &Codes, g: &[R], w_dec: &[R], d: usize) -> Vec<R> {
    let blocks: Vec<Vec<R>> = g
        .par_chunks(BLOCK_ROWS * d)
        .enumerate()
        .map(|(block, g)| path.run(ValueGrads { codes, g, w_dec, d, first: block * BLOCK_ROWS }))
        .collect();
    blocks.concat()
}

struct ValueGrads<'a, R> {
    codes: &'a Codes,
    g: &'a [R],
    w_dec: &'a [R],
    d: usize,
    first: usize,
}

impl<R: Real> Kernel for ValueGrads<'_, R> {
    type Output = Vec<R>;

    #[inline(always)]
    fn run(self) -> Vec<R> {
        let d = self.d;
        let mut grads = Vec::new();
        for (r, g) in self.g.chunks_exact(d).enumerate() {
            let span = self.codes.offsets[self.first + r]..self.codes.offsets[self.first + r + 1];
            let atoms = self.codes.latents[span].iter().map(|&l| &self.w_dec[l as usize * d..][..d]);
            grads.extend(atoms.map(|atom| dot(g, atom)));
        }
        grads
    }
}
