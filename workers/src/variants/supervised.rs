//! Supervised dictionary learning: atoms that reconstruct the vectors and predict a label.
//!
//! Lee, Lyu & Yao 2022 (*Supervised Dictionary Learning with Auxiliary Covariates*), `ljw9510/SDL`:
//! `min ξ·(½‖x − hW‖² + λ‖h‖₁)/norm² + NLL(y; σ(score))`, the score linear in what atoms make of a row
//! (`filter`: `Wx`) or in the codes (`feature`: `h`), and in covariates. Blocks are moved in turn, each by
//! a quadratic above the loss: the score's weights; in the feature form the codes of labelled rows, the
//! lasso with one more coordinate; the atoms by a sweep over additive sums as in `mairal`. Rows whose
//! label or covariates are unknown count in the reconstruction only. No label is needed to encode.

mod pull;
mod score;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::{
    pull::{Pull, aim},
    score::{Labelled, Score, cross_entropy, sigma},
};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    coders::{
        AnyCoder, CodedAtoms, Searched,
        block::Coded,
        lasso_cd::LassoCd,
        rows::{centred, rms},
    },
    codes::Codes,
    kernels::{Path, product::Panels, residual, residual::residual},
    learner::{
        ActivationBatch, BatchFacts, Beside, Columns, DictLearner, Dictionary, Mismatch, Role, Scales, Setup,
        StepReport,
    },
    skeleton::median::geometric_median,
    state::LearnerState,
    surrogate::{
        Decay, Online,
        online::decay,
        statistics::Rows,
        sweep::{Constraint, sweep},
        unused,
    },
    threads::Threads,
};

/// `[learner] kind = "supervised"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supervised {
    /// Number of latents.
    pub n_latents: usize,
    /// Column of the label, true or false (or 1 and 0; null is unknown).
    pub label: String,
    /// Columns of numbers that the score may use beside the atoms.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub covariates: Vec<String>,
    /// What the score is linear in.
    #[serde(default)]
    pub form: Form,
    /// Weight ξ of the reconstruction against the label. 0: the label alone (form "filter" only).
    #[serde(default = "xi")]
    pub xi: f64,
    /// Weight of `‖codes‖₁`, as a share of the root mean square norm of the centred rows.
    #[serde(default = "lambda")]
    pub lambda: f64,
    /// Weight of `½‖weights‖²` of the score.
    #[serde(default = "ridge")]
    pub ridge: f64,
    /// What old sums are multiplied with at each step. Left out: an average over all rows, as `mairal`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<f64>,
}

/// What the score is linear in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Products of the row with the atoms.
    #[default]
    Filter,
    /// Codes.
    Feature,
}

fn xi() -> f64 {
    1.0
}

fn lambda() -> f64 {
    0.1
}

fn ridge() -> f64 {
    1e-3
}

/// Optimality conditions hold up to this share of `lambda` while learning and at inference.
const TOLERANCE: f32 = 1e-3;

/// Stream of the atoms drawn at the start.
const START: u64 = 0x5355_5056;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "supervised",
    family: "classical",
    summary: "atoms that reconstruct and predict a label, with covariates (SDL)",
    paper: "Lee, Lyu & Yao 2022, arXiv:2206.06774",
    columns: "label: truth values; covariates: numbers",
    modes: &["form: filter, feature", "xi = 0: logistic regression", "forgetting"],
    example: "jobs/specs/learners/supervised.toml",
    small: r#"{"kind": "supervised", "n_latents": 40, "label": "y", "covariates": ["p"], "lambda": 0.05, "form": "feature"}"#,
};

impl LearnerConfig for Supervised {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let one_each = setup.beside_widths.iter().all(|&width| width == 1);
        Invalid::unless(one_each, "label", "and covariates must be columns of one number per row")?;
        Ok(Box::new(setup.threads.install(|| SupervisedLearner::new(self, setup))))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 16_384, "n_latents", "must be between 1 and 16384: sums are n by n")?;
        Invalid::unless(!self.label.is_empty(), "label", "must name a column")?;
        let named = self.covariates.iter().all(|name| !name.is_empty());
        Invalid::unless(named, "covariates", "must name columns")?;
        let positive = |v: f64| v.is_finite() && v > 0.0;
        Invalid::unless(self.xi == 0.0 || positive(self.xi), "xi", "must be a number that is not negative")?;
        let codes = self.xi > 0.0 || self.form == Form::Filter;
        Invalid::unless(codes, "xi", "must be positive for the form \"feature\"")?;
        Invalid::unless(positive(self.lambda), "lambda", "must be positive")?;
        Invalid::unless(positive(self.ridge), "ridge", "must be positive")?;
        let beta = self.forgetting.unwrap_or(1.0);
        Invalid::unless((0.0..=1.0).contains(&beta), "forgetting", "must be between 0 and 1")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }

    fn columns(&self) -> Columns {
        let label = |name: &String| Beside { name: name.clone(), role: Role::Label };
        let beside = std::iter::once(&self.label).chain(&self.covariates).map(label).collect();
        Columns { inputs: Vec::new(), beside }
    }
}

/// Supervised dictionary learning under way.
#[derive(Debug)]
struct SupervisedLearner {
    spec: Supervised,
    d_in: usize,
    seed: u64,
    online: Online<f32>,
    /// Features are what atoms make of a row over `norm`, the covariates, and 1.
    score: Score,
    /// Subtracted from every row, `[d_in]`.
    centre: Vec<f32>,
    /// Root mean square norm of the centred sample.
    norm: f32,
    path: Path,
    threads: Threads,
}

/// Rows of a batch that have a label and all covariates.
struct Known {
    rows: Vec<usize>,
    /// `[known]`.
    labels: Vec<f64>,
    /// `[known, features]`.
    features: Vec<f64>,
    lanes: Vec<usize>,
}

impl SupervisedLearner {
    fn new(spec: &Supervised, setup: &Setup) -> Self {
        let (path, d) = (Path::best(), setup.d_in);
        let centre = geometric_median(path, setup.sample, d);
        let sample = centred(setup.sample, &centre);
        let mut atoms = vec![0f32; spec.n_latents * d];
        for (j, atom) in atoms.chunks_exact_mut(d).enumerate() {
            unused::draw(&sample, atom, &[setup.seed, START, j as u64]);
        }
        SupervisedLearner {
            d_in: d,
            seed: setup.seed,
            online: Online::new(atoms, d),
            score: Score::zero(spec.n_latents + spec.covariates.len() + 1),
            spec: spec.clone(),
            norm: rms(&sample, d),
            centre,
            path,
            threads: setup.threads.clone(),
        }
    }

    /// For rows that were multiplied by `scale` since.
    fn coder(&self, scale: f32) -> AnyCoder<f32> {
        #[allow(clippy::cast_possible_truncation, reason = "rows are f32")]
        let lambda = self.spec.lambda as f32 * self.norm / scale;
        AnyCoder::Cd(LassoCd { lambda, positive: false, tolerance: TOLERANCE })
    }

    /// Weights of the reconstruction and of the label: ξ to `norm²`, of rows that are not over `norm`.
    fn weights(&self) -> (f64, f64) {
        let (xi, norm) = (self.spec.xi, f64::from(self.norm));
        (xi / (xi + 1.0), norm * norm / (xi + 1.0))
    }

    fn known(&self, batch: &ActivationBatch, x: &[f32], coded: &Coded<f32>) -> Known {
        let at = |column: &Vec<f32>, row: usize| column.get(row).copied().unwrap_or(f32::NAN);
        let known =
            |&row: &usize| !batch.beside.is_empty() && batch.beside.iter().all(|c| at(c, row).is_finite());
        let rows: Vec<usize> = (0..batch.rows()).filter(known).collect();
        let column = |row: usize| batch.beside.iter().map(move |c| f64::from(at(c, row)));
        let mut features = Vec::with_capacity(rows.len() * self.score.weights.len());
        let made = self.made(x, coded, &rows);
        for (&row, made) in rows.iter().zip(made.chunks_exact(self.spec.n_latents)) {
            features.extend(made.iter().map(|&v| f64::from(v) / f64::from(self.norm)));
            features.extend(column(row).skip(1).chain([1.0]));
        }
        let labels = rows.iter().filter_map(|&row| column(row).next()).collect();
        let lanes = batch.lanes.iter().map(|&end| rows.partition_point(|&row| row < end)).collect();
        Known { rows, labels, features, lanes }
    }

    /// What atoms make of some rows, `[rows, n_latents]`: products or codes.
    fn made(&self, x: &[f32], coded: &Coded<f32>, rows: &[usize]) -> Vec<f32> {
        let (n, d) = (self.spec.n_latents, self.d_in);
        let mut out = vec![0f32; rows.len() * n];
        match self.spec.form {
            Form::Filter => {
                Panels::of_rows(&self.online.atoms, d).times(self.path, &picked(x, d, rows), &mut out);
            }
            Form::Feature => {
                for (out, &row) in out.chunks_exact_mut(n).zip(rows) {
                    let (latents, values) = coded.codes.row(row);
                    latents.iter().zip(values).for_each(|(&latent, &v)| out[latent as usize] = v);
                }
            }
        }
        out
    }

    fn learn(&mut self, batch: &ActivationBatch, scatter: f64) -> StepReport {
        let x = centred(batch.x, &self.centre);
        let coder = self.coder(1.0);
        let coded = self.online.code(self.path, &coder, &x);
        let nothing = vec![0f32; self.d_in];
        let (codes, values, w_dec) = (&coded.codes, &coded.values[..], &self.online.atoms[..]);
        let decoded = residual::Coded { codes, values, w_dec, offset: &nothing };
        let squared_error = residual(self.path, &x, &decoded, batch.lanes, Vec::new()).moments.squared_norm;
        let l1: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
        let (nnz, known) = (codes.nnz() as u64, self.known(batch, &x, &coded));
        let cross_entropy = cross_entropy(&self.score.of(&known.features), &known.labels);
        self.improve(batch, &x, coded, &known);
        let (reconstruction, label) = self.weights();
        let error = (0.5 * squared_error + coder.lambda() * l1) / batch.rows() as f64;
        StepReport {
            rows: batch.rows() as u64,
            nnz,
            squared_error,
            scatter,
            loss: reconstruction * error + label * cross_entropy,
            aux_loss: cross_entropy,
            dead: self.online.unused() as u64,
            ..StepReport::default()
        }
    }

    /// The score, then the codes it asks for, then the atoms.
    fn improve(&mut self, batch: &ActivationBatch, x: &[f32], mut coded: Coded<f32>, known: &Known) {
        let (step, path, (reconstruction, label)) = (self.online.step, self.path, self.weights());
        let mut sums = None;
        if !known.rows.is_empty() {
            let Known { features, labels, lanes, .. } = known;
            let decay = decay(self.spec.forgetting, step, known.rows.len());
            self.score.learn(path, &Labelled { features, labels, lanes }, decay, self.spec.ridge);
            match self.spec.form {
                Form::Filter => sums = Some(self.pull(x, known)),
                Form::Feature => coded = self.drawn(x, coded, known),
            }
        }
        let decay = decay(self.spec.forgetting, step, batch.rows());
        let rows = Rows { codes: &coded.codes, values: &coded.values, x, lanes: batch.lanes };
        let Online { atoms, statistics, .. } = &mut self.online;
        statistics.absorb(path, decay, &rows);
        // Without reconstruction nothing is unused: every filter serves the score.
        if reconstruction > 0.0 {
            unused::resample(statistics, x, atoms, self.seed, step);
        }
        let constraint = Constraint { positive: false, unit: false };
        match sums {
            Some(pull) => {
                sweep(path, &pull.joined(statistics, atoms, (reconstruction, label)), constraint, atoms)
            }
            None if reconstruction > 0.0 => sweep(path, statistics, constraint, atoms),
            None => {}
        }
        self.online.step += 1;
    }

    fn pull(&self, x: &[f32], known: &Known) -> Pull {
        let (d, norm) = (self.d_in, f64::from(self.norm));
        let scores = self.score.of(&known.features);
        let slopes: Vec<f64> = scores.iter().zip(&known.labels).map(|(&s, y)| sigma(s) - y).collect();
        let weights = self.score.weights.iter().take(self.spec.n_latents).map(|w| w / norm).collect();
        Pull::of(&picked(x, d, &known.rows), &slopes, d, weights)
    }

    /// Codes in which labelled rows have moved to where their label wants them: the lasso over rows with
    /// one more coordinate, the aim, and atoms with one more, their weight in the score.
    #[allow(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn drawn(&self, x: &[f32], coded: Coded<f32>, known: &Known) -> Coded<f32> {
        let (n, d, (reconstruction, label)) = (self.spec.n_latents, self.d_in, self.weights());
        let size = 0.5 * (label / reconstruction).sqrt();
        let weight = |j: usize| self.score.weights[j] / f64::from(self.norm);
        let atoms = self.online.atoms.chunks_exact(d).enumerate();
        let atoms = atoms.flat_map(|(j, atom)| atom.iter().copied().chain([(size * weight(j)) as f32]));
        let scores = self.score.of(&known.features);
        let mut rows = Vec::with_capacity(known.rows.len() * (d + 1));
        for (at, &row) in known.rows.iter().enumerate() {
            let others = known.features[at * self.score.weights.len()..][n..].iter();
            let rest: f64 = others.zip(&self.score.weights[n..]).map(|(f, w)| f * w).sum();
            rows.extend_from_slice(&x[row * d..][..d]);
            rows.push((size * aim(scores[at], known.labels[at], rest)) as f32);
        }
        let drawn = Online::new(atoms.collect(), d + 1).code(self.path, &self.coder(1.0), &rows);
        merged(&coded, &drawn, &known.rows)
    }
}

/// `coded` with the rows `rows` replaced by those of `new`.
fn merged(coded: &Coded<f32>, new: &Coded<f32>, rows: &[usize]) -> Coded<f32> {
    let (mut codes, mut at) = (Codes::new(coded.codes.n_latents), 0);
    for row in 0..coded.codes.rows() {
        let (latents, values) = if rows.get(at) == Some(&row) {
            at += 1;
            new.codes.row(at - 1)
        } else {
            coded.codes.row(row)
        };
        codes.push_row(latents.iter().copied().zip(values.iter().copied()));
    }
    Coded { values: codes.values.clone(), codes }
}

/// Some rows of `x`, `[rows, d]`.
fn picked(x: &[f32], d: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| &x[row * d..][..d]).copied().collect()
}

impl DictLearner for SupervisedLearner {
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
        self.threads.clone().install(|| {
            let facts = || BatchFacts::here(self.path, batch.x, self.d_in, batch.lanes);
            let scatter = batch.facts.unwrap_or_else(facts).scatter;
            if scatter.is_finite() {
                return self.learn(batch, scatter);
            }
            StepReport { rows: batch.rows() as u64, scatter, loss: f64::NAN, ..StepReport::default() }
        })
    }

    /// The score goes into the export: its weights for products or codes in the units of the data.
    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let (scale, n, coder) = (scales.first(), self.spec.n_latents, self.coder(scales.first()));
        let units = f64::from(scale) / f64::from(self.norm);
        #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
        let weights =
            |weights: &[f64], units: f64| weights.iter().map(|w| (w * units) as f32).collect::<Vec<_>>();
        let (of_latents, others) = self.score.weights.split_at(n);
        let mut tensors = LearnerState::default();
        tensors.push_f32("score.weights", vec![n], &weights(of_latents, units));
        tensors.push_f32(
            "score.covariates",
            vec![others.len() - 1],
            &weights(&others[..others.len() - 1], 1.0),
        );
        tensors.push_f32("score.bias", vec![1], &weights(&others[others.len() - 1..], 1.0));
        let cfg = json!({
            "coder": "cd", "lambda": coder.lambda(), "positive": false, "form": self.spec.form,
            "label": self.spec.label, "covariates": self.spec.covariates,
        });
        let centre = self.centre.iter().map(|c| c / scale).collect();
        let atoms = CodedAtoms::new(self.online.atoms.clone(), centre, self.threads.clone());
        Box::new(Searched { kind: INFO.kind, coder, atoms, cfg, tensors })
    }

    fn save(&self) -> LearnerState {
        let (n, d) = (self.spec.n_latents, self.d_in);
        let mut state = LearnerState::default();
        state.push_f32("atoms", vec![n, d], &self.online.atoms);
        state.push_f32("a", vec![n, n], &self.online.statistics.a);
        state.push_f32("b", vec![n, d], &self.online.statistics.b);
        state.push_f64("score.weights", &self.score.weights);
        state.push_f64("score.square", &self.score.square);
        state.push_f64("score.linear", &self.score.linear);
        state.push_f32("centre", vec![d], &self.centre);
        state.push_f32("norm", vec![1], &[self.norm]);
        state.push_u64("step", &[self.online.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let (n, d, f) = (self.spec.n_latents, self.d_in, self.score.weights.len());
        let (atoms, centre) = (state.f32("atoms", &[n, d])?, state.f32("centre", &[d])?);
        let (a, b) = (state.f32("a", &[n, n])?, state.f32("b", &[n, d])?);
        let (weights, square) = (state.f64("score.weights", f)?, state.f64("score.square", f * f)?);
        let linear = state.f64("score.linear", f)?;
        let (norm, step) = (state.f32("norm", &[1])?, state.u64("step", 1)?);
        self.online = Online::new(atoms, d);
        (self.online.statistics.a, self.online.statistics.b) = (a, b);
        self.online.step = step.first().copied().unwrap_or_default();
        (self.score, self.centre) = (Score { weights, square, linear }, centre);
        self.norm = norm.first().copied().unwrap_or(1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
