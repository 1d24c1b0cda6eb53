//! Where learning starts: the geometric median, unit atoms, encoder equal to decoder.

use rayon::prelude::*;

use super::parameters::{Parameter, Parameters};
use crate::{
    kernels::vector,
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
    let b_dec = geometric_median(sample, d_in);
    let mut atoms = gaussian_rows(n_latents, d_in, seed);
    atoms.par_chunks_mut(d_in).for_each(vector::normalize);
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

/// Weiszfeld's iteration from the mean, at most 100 rounds, tolerance 1e-5 of the norm
/// (`saprmarks/dictionary_learning`, `trainers/top_k.py`, `geometric_median`).
///
/// `sample` is `[rows, d_in]`; an empty sample gives zeros. Sums run in row order in f64.
pub fn geometric_median(sample: &[f32], d_in: usize) -> Vec<f32> {
    let rows: Vec<&[f32]> = sample.chunks_exact(d_in).collect();
    let mut median = weighted_mean(&rows, d_in, |_| 1.0);
    for _ in 0..100 {
        let next = weighted_mean(&rows, d_in, |row| 1.0 / distance(row, &median).max(1e-6));
        let (moved, size) =
            (norm_of(next.iter().zip(&median).map(|(a, b)| a - b)), norm_of(next.iter().copied()));
        median = next;
        if moved <= 1e-5 * size {
            break;
        }
    }
    #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
    median.into_iter().map(|v| v as f32).collect()
}

fn weighted_mean(rows: &[&[f32]], d_in: usize, weight: impl Fn(&[f32]) -> f64 + Sync) -> Vec<f64> {
    let weights: Vec<f64> = rows.par_iter().map(|row| weight(row)).collect();
    let total: f64 = weights.iter().sum::<f64>();
    let mut mean = vec![0f64; d_in];
    for (row, w) in rows.iter().zip(&weights) {
        mean.iter_mut().zip(*row).for_each(|(m, &x)| *m += w * f64::from(x));
    }
    mean.iter_mut().for_each(|m| *m /= if total > 0.0 { total } else { 1.0 });
    mean
}

fn distance(row: &[f32], point: &[f64]) -> f64 {
    norm_of(row.iter().zip(point).map(|(&x, p)| f64::from(x) - p))
}

fn norm_of(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_four_points_is_known() {
        // methods.md §0.4: exactly (0.5, 0.5), while the mean is (2.75, 2.75).
        let median = geometric_median(&[0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 10.0, 10.0], 2);
        assert!(median.iter().all(|m| (m - 0.5).abs() < 1e-3), "{median:?}");
    }

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
