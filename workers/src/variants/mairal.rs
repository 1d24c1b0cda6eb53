//! Online dictionary learning: `min ½‖x − αD‖² + λ‖α‖₁`, `‖d_j‖ ≤ 1`, one mini-batch at a time.
//!
//! Mairal, Bach, Ponce & Sapiro 2010; schedule and order of scikit-learn's
//! `MiniBatchDictionaryLearning`. There is no encoder: codes are searched for, in learning and at
//! inference alike. What past rows have to say about the atoms is kept in two additive sums.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    coders::{
        AnyCoder, CodedAtoms, Searched,
        fista::Fista,
        lars::Lars,
        lasso_cd::LassoCd,
        nnomp::Nnomp,
        omp::Omp,
        rows::{centred, rms},
    },
    kernels::{Path, residual, residual::residual},
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    skeleton::median::geometric_median,
    state::LearnerState,
    surrogate::{Online, online::Settings, sweep::Constraint, unused},
    threads::Threads,
};

/// `[learner] kind = "mairal"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mairal {
    /// Number of latents. Statistics are n_latents² numbers, a step costs 2·n_latents²·d_in.
    pub n_latents: usize,
    /// Weight of `‖codes‖₁`, as a share of the root mean square norm of the centred rows.
    #[serde(default = "lambda")]
    pub lambda: f64,
    /// What finds the codes.
    #[serde(default)]
    pub coder: MairalCoder,
    /// Most pairs of a row, for the coder "omp".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// What old statistics are multiplied with at each step. Left out: an average over all rows whose
    /// weights follow scikit-learn; less than 1 forgets, for data that drift.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<f64>,
    /// Codes are not negative.
    #[serde(default)]
    pub positive_codes: bool,
    /// Elements of atoms are not negative.
    #[serde(default)]
    pub positive_atoms: bool,
    /// The geometric median of the first rows is subtracted from all rows.
    #[serde(default = "centre")]
    pub centre: bool,
}

/// What finds the codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MairalCoder {
    /// The lasso by coordinate descent on an active set: the fastest.
    #[default]
    Cd,
    /// The lasso by least angle regression: exact.
    Lars,
    /// The lasso by accelerated proximal gradient.
    Fista,
    /// Orthogonal matching pursuit with `k` atoms; `lambda` has no effect.
    Omp,
}

fn lambda() -> f64 {
    0.1
}

fn centre() -> bool {
    true
}

/// Optimality conditions hold up to this share of `lambda` while learning and at inference.
const TOLERANCE: f32 = 1e-3;

/// Stream of the atoms drawn at the start.
const START: u64 = 0x4d41_4952;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "mairal",
    family: "classical",
    summary: "online dictionary learning: the lasso finds codes, two additive sums move the atoms",
    paper: "Mairal et al. 2010, arXiv:0908.0050",
    columns: "",
    modes: &["coder: cd, lars, fista, omp", "positive_codes", "positive_atoms", "forgetting"],
    example: "jobs/specs/learners/mairal.toml",
    small: r#"{"kind": "mairal", "n_latents": 40, "lambda": 0.05}"#,
};

impl LearnerConfig for Mairal {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(setup.threads.install(|| MairalLearner::new(self, setup))))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 65_536, "n_latents", "must be between 1 and 65536")?;
        let lambda = self.lambda;
        Invalid::unless(lambda.is_finite() && lambda > 0.0, "lambda", "must be positive")?;
        let k_fits = self.k.is_none_or(|k| k > 0 && k <= n);
        Invalid::unless(k_fits, "k", "must be between 1 and n_latents")?;
        let omp = self.coder == MairalCoder::Omp;
        Invalid::unless(omp == self.k.is_some(), "k", "belongs to the coder \"omp\", which needs it")?;
        let beta = self.forgetting.unwrap_or(1.0);
        Invalid::unless(beta > 0.0 && beta <= 1.0, "forgetting", "must be above 0 and at most 1")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        self.k
    }
}

impl Mairal {
    /// The coder for rows whose root mean square norm is `norm`.
    fn coder(&self, norm: f32) -> AnyCoder<f32> {
        #[allow(clippy::cast_possible_truncation, reason = "rows are f32")]
        let lambda = self.lambda as f32 * norm;
        let (positive, tolerance, k) = (self.positive_codes, TOLERANCE, self.k.unwrap_or(1));
        match self.coder {
            MairalCoder::Cd => AnyCoder::Cd(LassoCd { lambda, positive, tolerance }),
            MairalCoder::Lars => AnyCoder::Lars(Lars { lambda, positive }),
            MairalCoder::Fista => AnyCoder::Fista(Fista { lambda, positive, tolerance }),
            MairalCoder::Omp if positive => AnyCoder::Nnomp(Nnomp { k }),
            MairalCoder::Omp => AnyCoder::Omp(Omp { k }),
        }
    }
}

/// Online dictionary learning under way.
#[derive(Debug)]
struct MairalLearner {
    spec: Mairal,
    d_in: usize,
    seed: u64,
    online: Online<f32>,
    /// Subtracted from every row, `[d_in]`.
    centre: Vec<f32>,
    /// Root mean square norm of the centred sample.
    norm: f32,
    path: Path,
    threads: Threads,
}

impl MairalLearner {
    fn new(spec: &Mairal, setup: &Setup) -> Self {
        let (path, d) = (Path::best(), setup.d_in);
        let centre = if spec.centre { geometric_median(path, setup.sample, d) } else { vec![0.0; d] };
        let sample = centred(setup.sample, &centre);
        let mut atoms = vec![0f32; spec.n_latents * d];
        for (j, atom) in atoms.chunks_exact_mut(d).enumerate() {
            unused::draw(&sample, atom, &[setup.seed, START, j as u64]);
            positive_part(spec.positive_atoms, atom);
        }
        let online = Online::new(atoms, d);
        let (spec, threads) = (spec.clone(), setup.threads.clone());
        MairalLearner {
            spec,
            d_in: d,
            seed: setup.seed,
            online,
            centre,
            norm: rms(&sample, d),
            path,
            threads,
        }
    }

    fn settings(&self) -> Settings<f32> {
        Settings {
            coder: self.spec.coder(self.norm),
            forgetting: self.spec.forgetting,
            constraint: Constraint { positive: self.spec.positive_atoms, unit: false },
            seed: self.seed,
        }
    }

    fn learn(&mut self, batch: &ActivationBatch) -> StepReport {
        let (settings, x) = (self.settings(), centred(batch.x, &self.centre));
        let facts = || BatchFacts::here(self.path, batch.x, self.d_in, batch.lanes);
        let scatter = batch.facts.unwrap_or_else(facts).scatter;
        let coded = self.online.code(self.path, &settings.coder, &x);
        let nothing = vec![0f32; self.d_in];
        let (codes, values, w_dec) = (&coded.codes, &coded.values[..], &self.online.atoms[..]);
        let decoded = residual::Coded { codes, values, w_dec, offset: &nothing };
        let squared_error = residual(self.path, &x, &decoded, batch.lanes, Vec::new()).moments.squared_norm;
        let l1: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
        self.online.learn(self.path, &settings, &coded, &x, batch.lanes);
        StepReport {
            rows: batch.rows() as u64,
            nnz: coded.codes.nnz() as u64,
            squared_error,
            scatter,
            loss: (0.5 * squared_error + settings.coder.lambda() * l1) / batch.rows() as f64,
            dead: self.online.unused() as u64,
            ..StepReport::default()
        }
    }
}

fn positive_part(positive: bool, atom: &mut [f32]) {
    if positive {
        atom.iter_mut().for_each(|v| *v = v.max(0.0));
    }
}

impl DictLearner for MairalLearner {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport::default();
        }
        self.threads.clone().install(|| self.learn(batch))
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let (scale, spec) = (scales.first(), &self.spec);
        let centre = self.centre.iter().map(|c| c / scale).collect();
        let coder = spec.coder(self.norm / scale);
        // The lasso's weight in the units of the data: what a coder elsewhere must be given.
        let (lambda, positive) = (coder.lambda(), spec.positive_codes);
        let cfg = json!({ "coder": spec.coder, "lambda": lambda, "k": spec.k, "positive": positive });
        let atoms = CodedAtoms::new(self.online.atoms.clone(), centre, self.threads.clone());
        Box::new(Searched { kind: INFO.kind, coder, atoms, cfg, tensors: LearnerState::default() })
    }

    fn save(&self) -> LearnerState {
        let (n, d) = (self.spec.n_latents, self.d_in);
        let mut state = LearnerState::default();
        state.push_f32("atoms", vec![n, d], &self.online.atoms);
        state.push_f32("a", vec![n, n], &self.online.statistics.a);
        state.push_f32("b", vec![n, d], &self.online.statistics.b);
        state.push_f32("centre", vec![d], &self.centre);
        state.push_f32("norm", vec![1], &[self.norm]);
        state.push_u64("step", &[self.online.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let (n, d) = (self.spec.n_latents, self.d_in);
        let (atoms, centre) = (state.f32("atoms", &[n, d])?, state.f32("centre", &[d])?);
        let (a, b) = (state.f32("a", &[n, n])?, state.f32("b", &[n, d])?);
        let (norm, step) = (state.f32("norm", &[1])?, state.u64("step", 1)?);
        let mut online = Online::new(atoms, d);
        (online.statistics.a, online.statistics.b) = (a, b);
        online.step = step.first().copied().unwrap_or_default();
        (self.online, self.centre) = (online, centre);
        self.norm = norm.first().copied().unwrap_or(1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
