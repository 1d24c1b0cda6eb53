//! The masking objective: code what is seen of a row, be judged by what was hidden.
//!
//! Chidambaram et al. 2023 (*Hiding Data Helps*), `2014mchidamb/masked-sparse-coding-icml`. With noise,
//! atoms beyond the true ones learn to fit the noise of the coordinates that chose them; hidden
//! coordinates have noise of their own. Codes are OMP's and constant for the gradient; one mask per step.

mod mask;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::mask::{Mask, gradient, hidden_count};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    coders::{AnyCoder, CodedAtoms, Searched, omp::Omp, rows::centred},
    kernels::{Path, adam::AdamStep, product::Panels, residual, residual::residual, simd::Kernel, vector},
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    linear::rotation,
    skeleton::{
        dead_latents::DeadLatents,
        median::geometric_median,
        parameters::Parameter,
        schedule::{Schedule, ScheduleSpec},
    },
    state::LearnerState,
    surrogate::unused,
    threads::Threads,
};

/// `[learner] kind = "masked"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Masked {
    /// Number of latents.
    pub n_latents: usize,
    /// Latents per row.
    pub k: usize,
    /// Share of the coordinates that are hidden from the coder and count in the loss. 0: none are hidden
    /// and all count, which is plain reconstruction.
    #[serde(default = "hidden")]
    pub hidden: f64,
    /// Masks coordinates of a random rotation of the vectors: activations have a few large dimensions,
    /// and whether those are hidden would decide every step.
    #[serde(default = "rotate")]
    pub rotate: bool,
    /// Learning rate.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// A latent that has not fired for this many tokens is dead.
    #[serde(default = "dead_after_tokens")]
    pub dead_after_tokens: u64,
}

fn hidden() -> f64 {
    0.1
}

fn rotate() -> bool {
    true
}

fn dead_after_tokens() -> u64 {
    10_000_000
}

/// Stream of the random numbers used here.
const STREAM: u64 = 0x4d41_534b;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "masked",
    family: "classical",
    summary: "codes the seen coordinates of a row, learns from the hidden ones: noise cannot be fitted",
    paper: "Chidambaram et al. 2023, arXiv:2302.12715",
    columns: "",
    modes: &["hidden = 0: reconstruction", "rotate"],
    example: "jobs/specs/learners/masked.toml",
    small: r#"{"kind": "masked", "n_latents": 40, "k": 3, "schedule": {"lr": 1e-2}}"#,
};

impl LearnerConfig for Masked {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(setup.threads.install(|| MaskedLearner::new(self, setup))))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 65_536, "n_latents", "must be between 1 and 65536")?;
        Invalid::unless((0.0..1.0).contains(&self.hidden), "hidden", "must be at least 0 and below 1")?;
        let seen = d_in - hidden_count(self.hidden, d_in);
        let fits = self.k > 0 && self.k <= n && self.k <= seen;
        Invalid::unless(fits, "k", "must be between 1 and n_latents, and not above the seen coordinates")?;
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
        Some("its codes are searched for, atom by atom")
    }
}

/// Masked learning under way.
#[derive(Debug)]
struct MaskedLearner {
    spec: Masked,
    seed: u64,
    schedule: Schedule,
    /// Atoms of the rotated vectors, `[n_latents, d]`, unit norm.
    atoms: Parameter<f32>,
    /// Subtracted from every row before it is rotated, `[d]`.
    centre: Vec<f32>,
    /// Rows are the axes of the rotated space, `[d, d]`.
    rotation: Option<Vec<f32>>,
    dead: DeadLatents,
    step: u64,
    path: Path,
    threads: Threads,
}

impl MaskedLearner {
    fn new(spec: &Masked, setup: &Setup) -> Self {
        let (path, d) = (Path::best(), setup.d_in);
        let centre = geometric_median(path, setup.sample, d);
        let rotation: Option<Vec<f32>> = spec.rotate.then(|| rotation::random(d, setup.seed));
        let sample = rotation::apply(path, rotation.as_deref(), d, centred(setup.sample, &centre));
        let mut atoms = vec![0f32; spec.n_latents * d];
        for (j, atom) in atoms.chunks_exact_mut(d).enumerate() {
            unused::draw(&sample, atom, &[setup.seed, STREAM, j as u64]);
        }
        MaskedLearner {
            spec: spec.clone(),
            seed: setup.seed,
            schedule: Schedule::new(&spec.schedule, spec.n_latents, setup.steps),
            atoms: Parameter::new(atoms),
            centre,
            rotation,
            dead: DeadLatents::new(spec.n_latents, spec.dead_after_tokens),
            step: 0,
            path,
            threads: setup.threads.clone(),
        }
    }

    fn d(&self) -> usize {
        self.centre.len()
    }

    /// Which coordinates count in this step's loss, and which are seen.
    fn mask(&self) -> Mask {
        Mask::draw(self.d(), hidden_count(self.spec.hidden, self.d()), &[self.seed, STREAM, self.step])
    }

    fn learn(&mut self, batch: &ActivationBatch) -> StepReport {
        let (d, path, mask) = (self.d(), self.path, self.mask());
        let x = rotation::apply(path, self.rotation.as_deref(), d, centred(batch.x, &self.centre));
        let facts = || BatchFacts::here(path, batch.x, d, batch.lanes);
        let scatter = batch.facts.unwrap_or_else(facts).scatter;
        let coded = mask.code(path, self.spec.k, &self.atoms.value, &x);
        let nothing = vec![0f32; d];
        let (codes, values) = (&coded.codes, &coded.values[..]);
        let decoded = residual::Coded { codes, values, w_dec: &self.atoms.value, offset: &nothing };
        let mut left = residual(path, &x, &decoded, batch.lanes, Vec::new());
        let loss = mask.loss(&mut left.e, d);
        let g = gradient(path, &coded, &left.e, d, batch.lanes);
        self.step += 1;
        let lr = self.schedule.lr(self.step);
        self.descend(&AdamStep::new(lr, self.step), &g);
        let mut fired = vec![false; self.spec.n_latents];
        codes.latents.iter().for_each(|&latent| fired[latent as usize] = true);
        self.dead.observe(batch.rows(), |latent| fired[latent]);
        StepReport {
            rows: batch.rows() as u64,
            nnz: codes.nnz() as u64,
            squared_error: left.moments.squared_norm,
            scatter,
            loss: if left.moments.squared_norm.is_finite() { loss } else { f64::NAN },
            lr,
            dead: self.dead.list().len() as u64,
            ..StepReport::default()
        }
    }

    fn descend(&mut self, adam: &AdamStep<f32>, g: &[f32]) {
        let (d, path) = (self.d(), self.path);
        self.atoms.pieces(d).zip(g.par_chunks(d)).for_each(|(mut atom, g)| {
            atom.descend(adam, g);
            path.run(Unit(atom.value));
        });
    }
}

struct Unit<'a>(&'a mut [f32]);

impl Kernel for Unit<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        vector::normalize(self.0);
    }
}

impl DictLearner for MaskedLearner {
    fn d_in(&self) -> usize {
        self.d()
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport { lr: self.schedule.lr(self.step), ..StepReport::default() };
        }
        self.threads.clone().install(|| self.learn(batch))
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let centre = self.centre.iter().map(|c| c / scales.first()).collect();
        let mut atoms = self.atoms.value.clone();
        if let Some(rotation) = &self.rotation {
            let panels = Panels::of_columns(rotation, self.d());
            self.threads.install(|| panels.times(self.path, &self.atoms.value, &mut atoms));
        }
        Box::new(Searched {
            kind: INFO.kind,
            coder: AnyCoder::Omp(Omp { k: self.spec.k }),
            atoms: CodedAtoms::new(atoms, centre, self.threads.clone()),
            cfg: json!({ "coder": "omp", "k": self.spec.k }),
            tensors: LearnerState::default(),
        })
    }

    fn save(&self) -> LearnerState {
        let (n, d) = (self.spec.n_latents, self.d());
        let mut state = LearnerState::default();
        state.push_f32("atoms", vec![n, d], &self.atoms.value);
        state.push_f32("atoms.m", vec![n, d], &self.atoms.m);
        state.push_f32("atoms.v", vec![n, d], &self.atoms.v);
        state.push_f32("centre", vec![d], &self.centre);
        state.push_u64("since_tokens", self.dead.since_tokens());
        state.push_u64("step", &[self.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let (n, d) = (self.spec.n_latents, self.d());
        let value = state.f32("atoms", &[n, d])?;
        let (m, v) = (state.f32("atoms.m", &[n, d])?, state.f32("atoms.v", &[n, d])?);
        let (centre, since) = (state.f32("centre", &[d])?, state.u64("since_tokens", n)?);
        self.step = state.u64("step", 1)?.first().copied().unwrap_or_default();
        (self.atoms, self.centre) = (Parameter { value, m, v }, centre);
        self.dead.restore(since);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
