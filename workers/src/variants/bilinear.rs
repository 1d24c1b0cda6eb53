//! Bilinear autoencoder: a latent is a product of two projections, `f_i = ⟨x, l_i⟩·⟨x, r_i⟩` of the unit
//! row, and what is reconstructed is `xxᵀ ≈ Σ f_i·l_i·r_iᵀ`. Encoder and decoder are one.
//!
//! Dooms & Gauderis 2025 (*Finding Manifolds With Bilinear Autoencoders*), `tdooms/bae`, without their faulty
//! tile weights; by Adam, or by Muon as they do. In the ordered form every prefix of the latents has to
//! reconstruct, so that the first ones say most. Features are dense and signed, sparse only
//! as far as the Hoyer penalty makes them: a frozen dictionary keeps the k of largest magnitude, times
//! the length of the row.

mod frozen;
mod gradient;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    frozen::{FrozenBilinear, unit_rows},
    gradient::{Features, Problem, product_of},
};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    kernels::{Path, adam::AdamStep, simd::Kernel, vector},
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    linear::{
        muon,
        product::{self, Panels},
    },
    skeleton::{
        init::{self, Start},
        parameters::{Parameter, Piece},
        schedule::{Schedule, ScheduleSpec},
    },
    state::LearnerState,
    threads::Threads,
};

/// Elements one task updates.
const BLOCK: usize = 1 << 14;

/// `[learner] kind = "bilinear"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bilinear {
    /// Number of latents. A step costs n² per row beside n·d_in.
    pub n_latents: usize,
    /// Latents a frozen dictionary keeps per row.
    #[serde(default = "k")]
    pub k: usize,
    /// Weight of the Hoyer density of a row's features; 0 turns it off.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// Whether the dictionaries of the first 1, 2, … n latents all have to reconstruct, with equal weight.
    #[serde(default)]
    pub ordered: bool,
    /// What turns gradients into steps.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning rate; left out, with "muon" it is 0.03.
    #[serde(default)]
    pub schedule: ScheduleSpec,
}

/// What turns gradients into steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Optimizer {
    /// A step size per element.
    #[default]
    Adam,
    /// The same step size in every direction; three products of a side with itself per round.
    Muon,
}

/// The learning rate of `tdooms/bae`.
const MUON_LR: f64 = 0.03;

fn k() -> usize {
    32
}

fn alpha() -> f64 {
    0.1
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "bilinear",
    family: "bilinear",
    summary: "latents are products of two projections; reconstructs the outer product of a row with itself",
    paper: "Dooms & Gauderis 2025, arXiv:2510.16820; https://github.com/tdooms/bae",
    columns: "",
    modes: &["ordered: every prefix of the latents reconstructs", "optimizer: adam, muon"],
    example: "jobs/specs/learners/bilinear.toml",
    small: r#"{"kind": "bilinear", "n_latents": 40, "k": 8, "schedule": {"lr": 0.02}}"#,
};

impl LearnerConfig for Bilinear {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let (n, d) = (self.n_latents, setup.d_in);
        // Nearly orthonormal columns, as an orthogonal start would have them.
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        let length = (d as f64 / n as f64).sqrt() as f32;
        let side = |stream: u64| {
            let seed = setup.seed.wrapping_add(stream);
            let mut rows =
                setup.threads.install(|| init::parameters(&Start::plain(n, d, &[], seed)).w_dec.value);
            vector::scale(length, &mut rows);
            Parameter::new(rows)
        };
        let mut schedule = self.schedule.clone();
        if self.optimizer == Optimizer::Muon {
            schedule.lr = schedule.lr.or(Some(MUON_LR));
        }
        let schedule = Schedule::new(&schedule, n, setup.steps);
        let method = Method { spec: self.clone(), d, schedule, left: side(0), right: side(1 << 32) };
        Ok(Box::new(Learner::new(method, 10_000_000, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(
            n > 0 && n <= 1 << 16,
            "n_latents",
            "must be between 1 and 65536: a step costs its square",
        )?;
        Invalid::unless(self.k > 0 && self.k <= n, "k", "must be between 1 and n_latents")?;
        Invalid::unless(self.alpha.is_finite() && self.alpha >= 0.0, "alpha", "must be 0 or positive")?;
        let lr = self.schedule.lr.unwrap_or(1.0);
        Invalid::unless(lr.is_finite() && lr > 0.0, "schedule.lr", "must be positive")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn cpu_only(&self) -> Option<&'static str> {
        Some("a step is dense products of its own two matrices")
    }

    fn uncodable(&self) -> Option<&'static str> {
        Some("it adds up outer products, not atoms")
    }
}

/// What is learned.
#[derive(Debug, Clone)]
struct Method {
    spec: Bilinear,
    d: usize,
    schedule: Schedule,
    left: Parameter<f32>,
    right: Parameter<f32>,
}

impl Method {
    /// `Σ‖x − ‖x‖·X̂·u‖²`, X̂ the symmetric part of the reconstruction of `uuᵀ`, u = x/‖x‖.
    fn squared_error(&self, task: &Task, unit: &[f32], features: &Features<f32>) -> f64 {
        let apply = |weights: &[f32], side: &[f32]| {
            product::product(task.path, &product_of(&features.f, weights), &Panels::of_columns(side, self.d))
        };
        let (left, right) = (apply(&features.b, &self.left.value), apply(&features.a, &self.right.value));
        let of = |row: usize| {
            let span = row * self.d..(row + 1) * self.d;
            let length: f64 = task.x[span.clone()].iter().map(|&v| f64::from(v) * f64::from(v)).sum();
            let off = |i: usize| f64::from(unit[i] - 0.5 * (left[i] + right[i])).powi(2);
            length * span.map(off).sum::<f64>()
        };
        (0..task.rows).into_par_iter().map(of).collect::<Vec<f64>>().iter().sum()
    }
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.d
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let (path, d, lr, n) = (task.path, self.d, self.schedule.lr(task.step), self.n_latents());
        let unit = unit_rows(task.x, d);
        let (left, right) = (&self.left.value, &self.right.value);
        let features = Features::of(path, &unit, d, (left, right));
        let squared_error = self.squared_error(task, &unit, &features);
        let (alpha, ordered) = (self.spec.alpha, self.spec.ordered);
        let problem = Problem { path, lanes: task.lanes, x: &unit, d, left, right, alpha, ordered };
        let gradient = problem.gradient(&features);
        let adam = AdamStep::new(lr, task.step);
        for (side, g) in [(&mut self.left, &gradient.left), (&mut self.right, &gradient.right)] {
            match self.spec.optimizer {
                Optimizer::Adam => descend(path, side, g, &adam),
                Optimizer::Muon => muon::step(path, lr, g, d, &mut side.value, &mut side.m),
            }
        }
        let nnz = (task.rows * self.spec.k) as u64;
        Learned { nnz, squared_error, loss: gradient.loss, lr, fired: vec![true; n] }
    }

    fn freeze(&self, _scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        Box::new(FrozenBilinear {
            d: self.d,
            k: self.spec.k,
            left: self.left.value.clone(),
            right: self.right.value.clone(),
            atoms: unit_rows(&self.left.value, self.d),
            threads: threads.clone(),
        })
    }

    fn save(&self, state: &mut LearnerState) {
        let shape = vec![self.n_latents(), self.d];
        for (name, p) in [("left", &self.left), ("right", &self.right)] {
            state.push_f32(name, shape.clone(), &p.value);
            state.push_f32(&format!("{name}.m"), shape.clone(), &p.m);
            state.push_f32(&format!("{name}.v"), shape.clone(), &p.v);
        }
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let shape = [self.n_latents(), self.d];
        let read = |name: &str| {
            let of = |suffix: &str| state.f32(&format!("{name}{suffix}"), &shape);
            Ok(Parameter { value: of("")?, m: of(".m")?, v: of(".v")? })
        };
        (self.left, self.right) = (read("left")?, read("right")?);
        Ok(())
    }
}

fn descend(path: Path, parameter: &mut Parameter<f32>, gradient: &[f32], adam: &AdamStep<f32>) {
    let pieces = parameter.pieces(BLOCK).zip(gradient.par_chunks(BLOCK));
    pieces.for_each(|(piece, gradient)| path.run(Update { piece, gradient, adam }));
}

struct Update<'a> {
    piece: Piece<'a, f32>,
    gradient: &'a [f32],
    adam: &'a AdamStep<f32>,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        self.piece.descend(self.adam, self.gradient);
    }
}

#[cfg(test)]
mod tests;
