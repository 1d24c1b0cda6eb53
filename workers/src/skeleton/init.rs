//! Where learning starts: `b_dec` the geometric median, unit atoms, encoder equal to decoder.

use rayon::prelude::*;

use super::{
    median::geometric_median,
    parameters::{Parameter, Parameters},
};
use crate::{
    kernels::{Path, simd::Kernel, vector},
    random::{hash, unit},
};

/// Stream of the random numbers used here.
const ATOMS: u64 = 0x41_544f_4d53;

/// Parameters before the first step: `b_dec` is the geometric median of `sample`
/// (`[rows, d_in]`), rows of `w_dec` are random directions (Bricken et al. 2023; OpenAI), `w_enc =
/// w_dec`, `b_enc = 0`.
///
/// Directions of sample rows were tried instead: on SmolLM2 layer 15 a few large dimensions make all
/// of them nearly parallel, and after 400k tokens 81 % of the latents were dead.
pub fn parameters(n_latents: usize, d_in: usize, sample: &[f32], seed: u64) -> Parameters<f32> {
    let path = Path::best();
    let b_dec = geometric_median(path, sample, d_in);
    let mut atoms = gaussian_rows(n_latents, d_in, seed);
    atoms.par_chunks_mut(64 * d_in).for_each(|rows| path.run(Normalize { rows, d_in }));
    Parameters {
        d_in,
        w_enc: Parameter::new(atoms.clone()),
        b_enc: Parameter::new(vec![0.0; n_latents]),
        w_dec: Parameter::new(atoms),
        b_dec: Parameter::new(b_dec),
    }
}

/// Box–Muller on counter-based uniforms: element `i` of the matrix depends on `i` and the seed only.
fn gaussian_rows(n_latents: usize, d_in: usize, seed: u64) -> Vec<f32> {
    let normal = |i: usize| {
        let u = 1.0 - unit(hash(&[seed, ATOMS, i as u64, 0]));
        let angle = std::f64::consts::TAU * unit(hash(&[seed, ATOMS, i as u64, 1]));
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        let z = ((-2.0 * u.ln()).sqrt() * angle.cos()) as f32;
        z
    };
    (0..n_latents * d_in).into_par_iter().map(normal).collect()
}

/// Scales rows to unit norm.
struct Normalize<'a> {
    rows: &'a mut [f32],
    d_in: usize,
}

impl Kernel for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for row in self.rows.chunks_exact_mut(self.d_in) {
            vector::normalize(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn atoms_are_unit_and_tied_to_the_encoder() {
        let sample: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).sin()).collect();
        let p = parameters(8, 6, &sample, 3);
        for atom in p.w_dec.value.chunks(6) {
            assert!((vector::dot(atom, atom) - 1.0).abs() < 1e-5);
        }
        assert_eq!(p.w_enc.value, p.w_dec.value);
        assert_eq!(p, parameters(8, 6, &sample, 3));
        assert_ne!(p.w_dec, parameters(8, 6, &sample, 4).w_dec);
    }
}
