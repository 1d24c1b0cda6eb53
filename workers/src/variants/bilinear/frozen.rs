//! A bilinear autoencoder that no longer changes.

use rayon::prelude::*;
use serde_json::json;

use super::{INFO, gradient::Features};
use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    kernels::{Path, vector},
    learner::{Dictionary, LinearEncoder, Mismatch},
    state::LearnerState,
    threads::Threads,
};

/// Rounds of power iteration that decoding takes.
const ROUNDS: usize = 50;

/// Both sides, and what the trait asks for.
#[derive(Debug)]
pub(super) struct FrozenBilinear {
    pub(super) d: usize,
    pub(super) k: usize,
    /// `[n, d]`.
    pub(super) left: Vec<f32>,
    /// `[n, d]`.
    pub(super) right: Vec<f32>,
    /// The left side as unit rows.
    pub(super) atoms: Vec<f32>,
    pub(super) threads: Threads,
}

impl FrozenBilinear {
    /// `½·Σ c_i·(l_i⟨r_i, v⟩ + r_i⟨l_i, v⟩)`: the symmetric part of what the codes say, times `v`.
    fn apply(&self, latents: &[u32], values: &[f32], v: &[f32]) -> Vec<f32> {
        let mut out = vec![0f32; self.d];
        for (&latent, &value) in latents.iter().zip(values) {
            let at = latent as usize * self.d;
            let (left, right) = (&self.left[at..][..self.d], &self.right[at..][..self.d]);
            vector::axpy(0.5 * value * vector::dot(right, v), left, &mut out);
            vector::axpy(0.5 * value * vector::dot(left, v), right, &mut out);
        }
        out
    }

    /// The direction with the largest eigenvalue, times it; its largest entry is positive.
    fn principal(&self, latents: &[u32], values: &[f32]) -> Vec<f32> {
        let mut v = vec![0f32; self.d];
        for (&latent, &value) in latents.iter().zip(values) {
            vector::axpy(value, &self.left[latent as usize * self.d..][..self.d], &mut v);
        }
        vector::normalize(&mut v);
        for _ in 0..ROUNDS {
            v = self.apply(latents, values, &v);
            vector::normalize(&mut v);
        }
        let size = vector::dot(&self.apply(latents, values, &v), &v).max(0.0);
        let largest = v.iter().fold(0f32, |most, &v| if v.abs() > most.abs() { v } else { most });
        vector::scale(if largest < 0.0 { -size } else { size }, &mut v);
        v
    }

    fn codes(&self, x: &[f32]) -> Codes {
        let n = self.n_latents();
        let lengths: Vec<f32> = x.chunks_exact(self.d).map(|row| vector::dot(row, row).sqrt()).collect();
        let unit = unit_rows(x, self.d);
        let features = Features::of(Path::best(), &unit, self.d, (&self.left, &self.right));
        let rows = features.f.par_chunks(n.max(1)).zip(&lengths);
        let kept: Vec<_> = rows.map(|(f, &length)| largest(f, length, self.k)).collect();
        let mut codes = Codes::new(n);
        kept.into_iter().for_each(|row| codes.push_row(row));
        codes
    }
}

/// The `k` of largest magnitude, of equals the first, times `length`; ascending, without zeros.
#[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
fn largest(f: &[f32], length: f32, k: usize) -> Vec<(u32, f32)> {
    let mut order: Vec<u32> = (0..f.len() as u32).collect();
    let size = |i: u32| f[i as usize].abs();
    order.sort_unstable_by(|&a, &b| size(b).total_cmp(&size(a)).then(a.cmp(&b)));
    order.truncate(k);
    order.sort_unstable();
    order.into_iter().map(|i| (i, f[i as usize] * length)).filter(|pair| pair.1 != 0.0).collect()
}

/// Rows over their lengths; rows of zeros stay.
pub(super) fn unit_rows(x: &[f32], d: usize) -> Vec<f32> {
    let mut unit = x.to_vec();
    unit.par_chunks_exact_mut(d).for_each(vector::normalize);
    unit
}

impl Dictionary for FrozenBilinear {
    fn d_in(&self) -> usize {
        self.d
    }

    fn n_latents(&self) -> usize {
        self.left.len() / self.d.max(1)
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.threads.install(|| self.codes(x))
    }

    /// Up to sign: `xxᵀ` does not know the sign of x. [`Dictionary::reconstruct`] does.
    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.threads.install(|| {
            x_hat.par_chunks_exact_mut(self.d).enumerate().for_each(|(row, out)| {
                let (latents, values) = codes.row(row);
                out.copy_from_slice(&self.principal(latents, values));
            });
        });
    }

    /// The reconstruction of `xxᵀ/‖x‖` applied to `x/‖x‖`: x, if it is exact.
    fn reconstruct(&self, x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
        self.threads.install(|| {
            let unit = unit_rows(x, self.d);
            let rows = x_hat.par_chunks_exact_mut(self.d).zip(unit.par_chunks_exact(self.d));
            rows.enumerate().for_each(|(row, (out, unit))| {
                let (latents, values) = codes.row(row);
                out.copy_from_slice(&self.apply(latents, values, unit));
            });
        });
    }

    fn atoms(&self) -> &[f32] {
        &self.atoms
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        None
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let (n, d) = (self.n_latents(), self.d);
        let mut tensors = LearnerState::default();
        tensors.push_f32("W_left", vec![n, d], &self.left);
        tensors.push_f32("W_right", vec![n, d], &self.right);
        tensors.push_f32("W_dec", vec![n, d], &self.atoms);
        tensors.push_f32("b_dec", vec![d], &vec![0.0; d]);
        export::plain(INFO.kind, (d, n), &tensors, &json!({ "k": self.k }))
    }
}
