//! A complete dictionary: after whitening, the rotation whose codes have the largest ℓp norm, p = 3 or
//! 4. Codes with few large entries have a larger one than codes with many small ones.
//!
//! Zhai et al. 2020 (*Complete Dictionary Learning via ℓ4-Norm Maximization*), Shen et al. 2020 (ℓ3); Xue &
//! Lau 2021 (*Online Orthogonal Dictionary Learning Based on Frank–Wolfe*). `gpm`: the rotation
//! becomes the polar factor of the gradient, no step size. `frank_wolfe`: the gradient is tracked over
//! batches and the rotation moves towards its polar factor. It gives d_in latents, no more: a privileged
//! basis if there is one, not an overcomplete dictionary. Codes are dense and signed, so a frozen
//! dictionary keeps the k of largest magnitude.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    codes::Codes,
    frozen::{Atoms, Coder, Frozen},
    kernels::{
        Path,
        encode::{Encoder, Screen, Selection},
        gather,
    },
    learner::{DictLearner, Dictionary, LinearEncoder, Mismatch, Setup},
    linear::{
        polar::polar,
        product::{self, Panels},
        whitening::{centred, whitening},
    },
    skeleton::init::{self, Start},
    state::LearnerState,
    threads::Threads,
};

/// How the rotation moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// To the polar factor of the gradient of each batch; for large batches.
    Gpm,
    /// Towards the polar factor of the tracked gradient; for small batches.
    FrankWolfe,
}

/// `[learner] kind = "odl"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Odl {
    /// Number of latents: the width of the data.
    pub n_latents: usize,
    /// How the rotation moves.
    #[serde(default = "mode")]
    pub mode: Mode,
    /// Power that is maximised: 3 or 4. 3 needs fewer rows.
    #[serde(default = "p")]
    pub p: u32,
    /// Latents a frozen dictionary keeps per row.
    #[serde(default = "k")]
    pub k: usize,
    /// Added to the variances before whitening, as a share of their mean: directions with less
    /// variance than this are not blown up to full size.
    #[serde(default = "ridge")]
    pub ridge: f64,
}

fn mode() -> Mode {
    Mode::FrankWolfe
}

fn p() -> u32 {
    3
}

fn k() -> usize {
    32
}

fn ridge() -> f64 {
    1e-3
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "odl",
    family: "classical",
    summary: "complete orthogonal dictionary: the rotation of the whitened data with the largest lp norm",
    paper: "Zhai et al. 2020, arXiv:1906.02435; Xue & Lau 2021, arXiv:2103.01484",
    columns: "",
    modes: &["gpm", "frank_wolfe"],
    example: "jobs/specs/learners/odl.toml",
    small: r#"{"kind": "odl", "n_latents": 24, "mode": "gpm", "k": 4}"#,
};

impl LearnerConfig for Odl {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let d = setup.d_in;
        let method = setup.threads.install(|| {
            let path = Path::best();
            let directions = init::parameters(&Start::plain(d, d, &[], setup.seed)).w_dec.value;
            let directions: Vec<f64> = directions.into_iter().map(f64::from).collect();
            let (mean, root, inverse) = whitening(path, setup.sample, d, self.ridge);
            let rotation = polar(path, &directions, d);
            Method { spec: self.clone(), mean, root, inverse, rotation, tracked: vec![0.0; d * d] }
        });
        Ok(Box::new(Learner::new(method, 10_000_000, setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        Invalid::unless(
            self.n_latents == d_in,
            "n_latents",
            "must be the width of the data: it is a rotation",
        )?;
        Invalid::unless(self.p == 3 || self.p == 4, "p", "must be 3 or 4")?;
        Invalid::unless(self.k > 0 && self.k <= self.n_latents, "k", "must be between 1 and n_latents")?;
        Invalid::unless(self.ridge > 0.0 && self.ridge.is_finite(), "ridge", "must be positive")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }
}

/// What is known.
#[derive(Debug, Clone)]
struct Method {
    spec: Odl,
    mean: Vec<f64>,
    root: Vec<f64>,
    inverse: Vec<f64>,
    /// Rows are directions of the whitened data; for Frank–Wolfe inside the unit ball.
    rotation: Vec<f64>,
    tracked: Vec<f64>,
}

impl Method {
    /// `Σ |c|ᵖ` and its gradient over p, `[d, d]`, of whitened rows.
    fn gradient(&self, task: &Task, white: &[f64]) -> (f64, Vec<f64>) {
        let (d, p) = (self.mean.len(), self.spec.p);
        let codes = product::product(task.path, white, &Panels::of_rows(&self.rotation, d));
        let power = |c: &f64| c.abs().powi(p as i32 - 1) * c.signum();
        let powers: Vec<f64> = codes.iter().map(power).collect();
        let value = codes.iter().zip(&powers).map(|(c, power)| c * power).sum();
        (value, product::cross(task.path, task.lanes, (&powers, d), (white, d)))
    }

    fn turn(&mut self, task: &Task, gradient: &[f64]) {
        let d = self.mean.len();
        if self.spec.mode == Mode::Gpm {
            self.rotation = polar(task.path, gradient, d);
            return;
        }
        let t = task.step as f64;
        let (rho, gamma) =
            ((4.0 / (t + 8.0).powf(2.0 / 3.0)).min(1.0), (2.0 / (t + 1.0).powf(0.75)).min(1.0));
        let per_row = rho / task.rows as f64;
        self.tracked.iter_mut().zip(gradient).for_each(|(old, g)| *old = (1.0 - rho) * *old + per_row * g);
        let target = polar(task.path, &self.tracked, d);
        self.rotation.iter_mut().zip(target).for_each(|(old, s)| *old = (1.0 - gamma) * *old + gamma * s);
    }

    /// Unit atoms in the scaled units, and encoder rows with codes to match.
    fn dictionary(&self, path: Path, scale: f32) -> (Atoms, Vec<f32>) {
        let d = self.mean.len();
        let rotation = match self.spec.mode {
            Mode::Gpm => self.rotation.clone(),
            Mode::FrankWolfe => polar(path, &self.rotation, d),
        };
        #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
        let narrow = |v: f64| v as f32;
        let b_dec = self.mean.iter().map(|&m| narrow(m / f64::from(scale))).collect();
        let (atoms, norms) = Atoms::normalised(&product::square(path, &rotation, &self.root, d), d, b_dec);
        let encoder = product::square(path, &rotation, &self.inverse, d);
        let w_enc = encoder.iter().enumerate().map(|(i, &v)| narrow(v * norms[i / d])).collect();
        (atoms, w_enc)
    }
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.mean.len()
    }

    fn n_latents(&self) -> usize {
        self.mean.len()
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let d = self.d_in();
        let (atoms, w_enc) = self.dictionary(task.path, 1.0);
        let codes = Largest::new(w_enc, self.spec.k).codes(task.path, &atoms, task.x);
        let mut x_hat = vec![0f32; task.x.len()];
        gather::decode(task.path, &codes, &codes.values, &atoms.w_dec, &atoms.b_dec, &mut x_hat);
        let white =
            product::product(task.path, &centred(task.x, &self.mean), &Panels::of_columns(&self.inverse, d));
        let (value, gradient) = self.gradient(task, &white);
        self.turn(task, &gradient);
        let mut fired = vec![false; d];
        codes.latents.iter().for_each(|&latent| fired[latent as usize] = true);
        let squares = task.x.iter().zip(&x_hat).map(|(x, h)| f64::from(x - h).powi(2));
        let loss = -value / (task.rows * d) as f64;
        Learned { nnz: codes.nnz() as u64, squared_error: squares.sum(), loss, lr: 0.0, fired }
    }

    fn freeze(&self, scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        let d = self.d_in();
        let (atoms, w_enc) = self.dictionary(Path::best(), scale);
        let mut tensors = LearnerState::default();
        tensors.push_f32("W_enc_rows", vec![d, d], &w_enc);
        Box::new(Frozen {
            kind: INFO.kind,
            atoms,
            coder: Largest::new(w_enc, self.spec.k),
            threads: threads.clone(),
            cfg: json!({ "k": self.spec.k, "p": self.spec.p, "apply_b_dec_to_input": true }),
            tensors,
        })
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f64("mean", &self.mean);
        state.push_f64("root", &self.root);
        state.push_f64("inverse", &self.inverse);
        state.push_f64("rotation", &self.rotation);
        state.push_f64("tracked", &self.tracked);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let d = self.d_in();
        self.mean = state.f64("mean", d)?;
        self.root = state.f64("root", d * d)?;
        self.inverse = state.f64("inverse", d * d)?;
        self.rotation = state.f64("rotation", d * d)?;
        self.tracked = state.f64("tracked", d * d)?;
        Ok(())
    }
}

/// The k products of largest magnitude.
#[derive(Debug)]
struct Largest {
    w_enc: Vec<f32>,
    bias: Vec<f32>,
    k: usize,
}

impl Largest {
    fn new(w_enc: Vec<f32>, k: usize) -> Self {
        let n = w_enc.len().isqrt();
        Largest { w_enc, bias: vec![0.0; n], k }
    }
}

impl Coder for Largest {
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes {
        let encoder = Encoder::all(&self.w_enc, &self.bias, atoms.d_in);
        encoder.select(path, Screen::Off, x, &atoms.b_dec, Selection::AbsTopK(self.k)).codes
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        Some(LinearEncoder { rows: &self.w_enc, bias: &self.bias })
    }
}

#[cfg(test)]
mod tests;
