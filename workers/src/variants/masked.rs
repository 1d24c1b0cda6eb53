//! The masking objective: code what is seen of a row, be judged by what was hidden.
//!
//! Chidambaram et al. 2023 (*Hiding Data Helps*), `2014mchidamb/masked-sparse-coding-icml`. With noise,
//! atoms beyond the true ones learn to fit the noise of the coordinates that chose them; hidden
//! coordinates have noise of their own. Codes are OMP's and constant for the gradient; one mask per step.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    coders::{AnyCoder, CodedAtoms, Gram, Searched, block::Coded, omp::Omp, rows::centred},
    kernels::{
        Path, Real,
        adam::AdamStep,
        csc::{ByLatent, SumRows, lane_runs},
        lanes::LaneStarts,
        product::Panels,
        residual,
        residual::residual,
        simd::Kernel,
        vector,
    },
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    random::{hash, unit},
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
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of d")]
fn hidden_count(share: f64, d: usize) -> usize {
    ((share * d as f64).round() as usize).min(d.saturating_sub(1))
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
        let rotation = spec.rotate.then(|| random_rotation(d, setup.seed));
        let sample = rotated(path, &rotation, d, centred(setup.sample, &centre));
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
        let x = rotated(path, &self.rotation, d, centred(batch.x, &self.centre));
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

/// The coordinates a coder sees, and those the loss is taken on.
#[derive(Debug, PartialEq)]
struct Mask {
    seen: Vec<usize>,
    /// Parallel to the coordinates.
    counts: Vec<bool>,
}

impl Mask {
    /// Hides `hidden` of `d` coordinates; if that is none, all are seen and all count.
    fn draw(d: usize, hidden: usize, words: &[u64]) -> Mask {
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by_cached_key(|&c| (hash(&[words, &[c as u64]].concat()), c));
        let mut seen = order[hidden..].to_vec();
        seen.sort_unstable();
        let mut counts = vec![hidden == 0; d];
        order[..hidden].iter().for_each(|&c| counts[c] = true);
        Mask { seen, counts }
    }

    /// OMP on the seen coordinates of `x`, `[rows, d]`, with atoms renormalised there.
    fn code<R: Real>(&self, path: Path, k: usize, atoms: &[R], x: &[R]) -> Coded<R> {
        let m = self.seen.len();
        let mut part = self.visible(atoms);
        let norms: Vec<R> = part.chunks_exact(m).map(|atom| vector::dot(atom, atom).sqrt()).collect();
        part.chunks_exact_mut(m).for_each(vector::normalize);
        let (panels, n) = (Panels::of_rows(&part, m), norms.len());
        let mut gram = vec![R::ZERO; n * n];
        panels.times(path, &part, &mut gram);
        let gram = Gram::new(&part, m, Some(&gram));
        let mut coded = AnyCoder::Omp(Omp { k }).code(path, &panels, gram, &self.visible(x));
        for (value, &latent) in coded.values.iter_mut().zip(&coded.codes.latents) {
            *value = *value / norms[latent as usize];
        }
        coded
    }

    fn visible<R: Real>(&self, rows: &[R]) -> Vec<R> {
        let d = self.counts.len();
        rows.par_chunks(d).flat_map_iter(|row| self.seen.iter().map(|&c| row[c])).collect()
    }

    /// The mean over rows of the squared error that counts; the rest of `e`, `[rows, d]`, becomes 0.
    fn loss<R: Real>(&self, e: &mut [R], d: usize) -> f64 {
        let rows: Vec<f64> = e
            .par_chunks_mut(d)
            .map(|e| {
                e.iter_mut()
                    .zip(&self.counts)
                    .for_each(|(e, &counts)| *e = if counts { *e } else { R::ZERO });
                e.iter().map(|e| e.f64() * e.f64()).sum()
            })
            .collect();
        rows.iter().sum::<f64>() / rows.len().max(1) as f64
    }
}

/// Of the mean squared error with respect to the atoms, codes held: `−2/rows · Σ α_j·e`, `[n_latents, d]`.
fn gradient<R: Real>(path: Path, coded: &Coded<R>, e: &[R], d: usize, lanes: LaneStarts) -> Vec<R> {
    let share = R::of(-2.0 / coded.codes.rows().max(1) as f64);
    let weights: Vec<R> = coded.values.iter().map(|&value| share * value).collect();
    let by_latent = ByLatent::of(&coded.codes, &weights, &weights);
    let mut g = vec![R::ZERO; coded.codes.n_latents * d];
    g.par_chunks_mut(d).enumerate().for_each(|(latent, total)| {
        let entries = by_latent.entries(latent);
        let mut runs = Vec::new();
        lane_runs(entries.rows, lanes, &mut runs);
        let (rows, weights) = (entries.rows, entries.decoder);
        path.run(Sum(SumRows { runs: &runs, rows, weights, y: e, centre: None, total }));
    });
    g
}

struct Sum<'a, R>(SumRows<'a, R>);

impl<R: Real> Kernel for Sum<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.run();
    }
}

/// Gaussian rows made orthonormal one after the other (Gram–Schmidt, twice), `[d, d]`.
fn random_rotation(d: usize, seed: u64) -> Vec<f32> {
    let mut axes: Vec<f64> = (0..d * d)
        .map(|i| (0..12).map(|t| unit(hash(&[seed, STREAM, 1, t, i as u64]))).sum::<f64>() - 6.0)
        .collect();
    for at in 0..2 * d {
        let (done, rest) = axes.split_at_mut(at / 2 * d);
        let Some(axis) = rest.get_mut(..d) else { break };
        for other in done.chunks_exact(d) {
            vector::axpy(-vector::dot(other, axis), other, axis);
        }
        vector::normalize(axis);
    }
    #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
    axes.into_iter().map(|v| v as f32).collect()
}

/// `x·rotationᵀ`, `[rows, d]`.
fn rotated(path: Path, rotation: &Option<Vec<f32>>, d: usize, x: Vec<f32>) -> Vec<f32> {
    let Some(rotation) = rotation else { return x };
    let mut out = vec![0f32; x.len()];
    Panels::of_rows(rotation, d).times(path, &x, &mut out);
    out
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
