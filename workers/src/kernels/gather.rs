//! Sparse decode: a row of codes gathers its atoms.

use rayon::prelude::*;

use super::{
    real::Real,
    simd::{Kernel, Path},
    strip::{self, Columns, Strip},
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
            let span = self.codes.offsets[self.first + r]..self.codes.offsets[self.first + r + 1];
            let (latents, values) = (&self.codes.latents[span.clone()], &self.values[span]);
            strip::walk::<4>(
                d,
                &mut DecodeRow { latents, values, w_dec: self.w_dec, offset: self.offset, out },
            );
        }
    }
}

/// One row of codes onto one row of output.
struct DecodeRow<'a, R> {
    latents: &'a [u32],
    values: &'a [R],
    w_dec: &'a [R],
    offset: &'a [R],
    out: &'a mut [R],
}

impl<R: Real> Columns for DecodeRow<'_, R> {
    #[inline(always)]
    fn strip<const N: usize, const L: usize>(&mut self, at: usize) {
        let x_hat: Strip<R, N, L> = decoded(self.latents, self.values, self.w_dec, self.offset, at);
        strip::store(&x_hat, self.out, at);
    }
}

/// One strip of `offset + Σ_j values[j] · w_dec[latents[j]]`.
#[inline(always)]
pub(crate) fn decoded<R: Real, const N: usize, const L: usize>(
    latents: &[u32],
    values: &[R],
    w_dec: &[R],
    offset: &[R],
    at: usize,
) -> Strip<R, N, L> {
    let d = offset.len();
    let mut sum = strip::load(offset, at);
    for (&latent, &value) in latents.iter().zip(values) {
        strip::fma(value, &w_dec[latent as usize * d..][..d], at, &mut sum);
    }
    sum
}
