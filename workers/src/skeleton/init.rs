//! Where learning starts: `b_dec` the geometric median, unit atoms, encoder equal to decoder.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    median::geometric_median,
    parameters::{Parameter, Parameters},
    subspace::active_subspace,
};
use crate::{
    kernels::{Path, simd::Kernel, vector},
    random::{hash, unit},
    variants::Invalid,
};

/// Streams of the random numbers used here.
const ATOMS: u64 = 0x41_544f_4d53;
const ENCODER: u64 = 0x45_4e43;

/// `[learner.init]`: the directions that atoms start from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Init {
    /// Anywhere (Bricken et al. 2023; OpenAI).
    #[default]
    Random,
    /// In the subspace that the activations really use, which leaves fewer dead latents where that is
    /// small (`OpenMOSS/Language-Model-SAEs`, active subspace initialisation).
    ActiveSubspace {
        /// Its dimension. Left out: as many principal directions as hold 99 % of the variance.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        d_active: Option<usize>,
    },
}

impl Init {
    /// Whether it is what is taken when nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Init::default()
    }

    /// Checks the dimension.
    ///
    /// # Errors
    /// It is 0 or larger than `d_in`.
    pub fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        let Init::ActiveSubspace { d_active: Some(d) } = self else { return Ok(()) };
        Invalid::unless(
            (1..=d_in).contains(d),
            "init.d_active",
            "must be between 1 and the width of the vectors",
        )
    }
}

/// What parameters are made from.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Number of latents.
    pub n_latents: usize,
    /// Width of the vectors.
    pub d_in: usize,
    /// Sample of the vectors, `[rows, d_in]`.
    pub sample: &'a [f32],
    /// Width and sample of what is reconstructed, where that is not the vectors themselves.
    pub target: Option<(usize, &'a [f32])>,
    /// Seed of the random directions.
    pub seed: u64,
    /// Where they lie.
    pub init: &'a Init,
}

impl<'a> Start<'a> {
    /// Random directions that reconstruct the vectors themselves.
    pub fn plain(n_latents: usize, d_in: usize, sample: &'a [f32], seed: u64) -> Self {
        Start { n_latents, d_in, sample, target: None, seed, init: &Init::Random }
    }
}

/// Parameters before the first step: `b_dec` is the geometric median of what is reconstructed, rows
/// of `w_dec` are random directions (Bricken et al. 2023; OpenAI), `w_enc = w_dec`, `b_enc = 0`. With a
/// target of its own, `w_enc` has directions of its own and there is no pre-bias.
///
/// Directions of sample rows were tried instead: on SmolLM2 layer 15 a few large dimensions make all
/// of them nearly parallel, and after 400k tokens 81 % of the latents were dead.
pub fn parameters(start: &Start) -> Parameters<f32> {
    let (n, d) = (start.n_latents, start.d_in);
    let (d_out, modelled) = start.target.unwrap_or((d, start.sample));
    let w_dec = directions(start, modelled, d_out, ATOMS);
    let w_enc =
        if start.target.is_some() { directions(start, start.sample, d, ENCODER) } else { w_dec.clone() };
    Parameters {
        d_in: d,
        pre_bias: start.target.is_none(),
        w_enc: Parameter::new(w_enc),
        b_enc: Parameter::new(vec![0.0; n]),
        w_dec: Parameter::new(w_dec),
        b_dec: Parameter::new(geometric_median(Path::best(), modelled, d_out)),
        extras: Vec::new(),
    }
}

/// Random unit rows, `[n_latents, d]`.
fn directions(start: &Start, sample: &[f32], d: usize, stream: u64) -> Vec<f32> {
    let path = Path::best();
    let mut rows = match start.init {
        Init::Random => gaussian_rows(start.n_latents, d, start.seed, stream),
        Init::ActiveSubspace { d_active } => {
            let basis = active_subspace(sample, d, *d_active);
            spanned(&gaussian_rows(start.n_latents, basis.len(), start.seed, stream), &basis, d)
        }
    };
    rows.par_chunks_mut(64 * d).for_each(|rows| path.run(Normalize { rows, d_in: d }));
    rows
}

/// Rows whose coordinates in `basis` are the rows of `coordinates`.
fn spanned(coordinates: &[f32], basis: &[Vec<f32>], d: usize) -> Vec<f32> {
    let row = |coordinates: &[f32]| {
        let mut row = vec![0f32; d];
        coordinates.iter().zip(basis).for_each(|(&c, direction)| vector::axpy(c, direction, &mut row));
        row
    };
    coordinates.par_chunks(basis.len().max(1)).flat_map_iter(row).collect()
}

/// Box–Muller on counter-based uniforms: element `i` of the matrix depends on `i` and the seed only.
pub fn gaussian_rows(n_latents: usize, d_in: usize, seed: u64, stream: u64) -> Vec<f32> {
    let normal = |i: usize| {
        let u = 1.0 - unit(hash(&[seed, stream, i as u64, 0]));
        let angle = std::f64::consts::TAU * unit(hash(&[seed, stream, i as u64, 1]));
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

    fn start<'a>(sample: &'a [f32], init: &'a Init, seed: u64) -> Start<'a> {
        Start { n_latents: 8, d_in: 6, sample, target: None, seed, init }
    }

    #[test]
    fn atoms_are_unit_and_tied_to_the_encoder() {
        let sample: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).sin()).collect();
        let of = |seed| parameters(&start(&sample, &Init::Random, seed));
        let p = of(3);
        for atom in p.w_dec.value.chunks(6) {
            assert!((vector::dot(atom, atom) - 1.0).abs() < 1e-5);
        }
        assert_eq!(p.w_enc.value, p.w_dec.value);
        assert_eq!(p, of(3));
        assert_ne!(p.w_dec, of(4).w_dec);
    }

    /// Rows lie in the plane of the first two coordinates, off the origin.
    #[test]
    fn atoms_start_in_the_active_subspace() {
        let sample: Vec<f32> =
            (0..40).flat_map(|i| [(i as f32).sin(), (i as f32 * 1.7).cos(), 3.0, 0.0, 0.0, -2.0]).collect();
        for d_active in [None, Some(2)] {
            let p = parameters(&start(&sample, &Init::ActiveSubspace { d_active }, 3));
            for atom in p.w_dec.value.chunks(6) {
                assert!(atom[2..].iter().all(|v| v.abs() < 1e-5), "{d_active:?} {atom:?}");
                assert!((vector::dot(atom, atom) - 1.0).abs() < 1e-5);
            }
        }
    }
}
