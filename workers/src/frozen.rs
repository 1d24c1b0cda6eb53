//! A frozen dictionary of atoms and a bias, whatever finds its codes.

use std::fmt::Debug;

use serde_json::Value;

use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    kernels::{Path, gather},
    learner::{Dictionary, LinearEncoder, Mismatch},
    state::LearnerState,
    threads::Threads,
};

/// Finds the codes of rows. A row's code depends on that row alone.
pub trait Coder: Debug + Send + Sync {
    /// Codes of `x`, `[rows, d_in]`, on the current rayon pool.
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes;

    /// See [`Dictionary::linear_encoder`].
    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        None
    }
}

/// `x_hat = codes·w_dec + b_dec`, in the units of the data.
#[derive(Debug, Clone)]
pub struct Atoms {
    /// Width of the vectors.
    pub d_in: usize,
    /// Row-major `[n_latents, d_in]`, unit norm (zero for a latent that was never used).
    pub w_dec: Vec<f32>,
    /// `[d_in]`.
    pub b_dec: Vec<f32>,
}

impl Atoms {
    /// Number of latents.
    pub fn n_latents(&self) -> usize {
        self.w_dec.len() / self.d_in.max(1)
    }

    /// `x − b_dec`, row by row.
    pub fn centred(&self, x: &[f32]) -> Vec<f32> {
        let row = |row: &[f32]| row.iter().zip(&self.b_dec).map(|(x, b)| x - b).collect::<Vec<_>>();
        x.chunks_exact(self.d_in.max(1)).flat_map(row).collect()
    }

    /// Rows of any length as unit rows and their lengths.
    #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
    pub fn normalised(rows: &[f64], d_in: usize, b_dec: Vec<f32>) -> (Atoms, Vec<f64>) {
        let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let norms: Vec<f64> = rows.chunks_exact(d_in.max(1)).map(norm).collect();
        let unit = |(i, v): (usize, &f64)| {
            let norm = norms[i / d_in];
            if norm > 0.0 { (v / norm) as f32 } else { 0.0 }
        };
        (Atoms { d_in, w_dec: rows.iter().enumerate().map(unit).collect(), b_dec }, norms)
    }
}

/// Atoms with a coder: a [`Dictionary`].
#[derive(Debug)]
pub struct Frozen<C> {
    /// The word in `[learner] kind`.
    pub kind: &'static str,
    /// What is decoded with.
    pub atoms: Atoms,
    /// What is encoded with.
    pub coder: C,
    /// Where kernels run.
    pub threads: Threads,
    /// Fields beside the usual ones in `cfg.json`.
    pub cfg: Value,
    /// Tensors beside `W_dec` and `b_dec` in `sae_weights.safetensors`.
    pub tensors: LearnerState,
}

impl<C: Coder> Dictionary for Frozen<C> {
    fn d_in(&self) -> usize {
        self.atoms.d_in
    }

    fn n_latents(&self) -> usize {
        self.atoms.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.threads.install(|| self.coder.codes(Path::best(), &self.atoms, x))
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let Atoms { w_dec, b_dec, .. } = &self.atoms;
        let decode = || gather::decode(Path::best(), codes, &codes.values, w_dec, b_dec, x_hat);
        self.threads.install(decode);
    }

    fn atoms(&self) -> &[f32] {
        &self.atoms.w_dec
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.coder.linear_encoder()
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let (n, d) = (self.n_latents(), self.d_in());
        let mut tensors = self.tensors.clone();
        tensors.push_f32("W_dec", vec![n, d], &self.atoms.w_dec);
        tensors.push_f32("b_dec", vec![d], &self.atoms.b_dec);
        export::plain(self.kind, (d, n), &tensors, &self.cfg)
    }
}
