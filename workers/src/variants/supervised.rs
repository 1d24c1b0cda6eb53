//! Supervised dictionary learning: atoms that reconstruct the vectors and predict a label.
//!
//! Lee, Lyu & Yao 2022 (*Supervised Dictionary Learning with Auxiliary Covariates*), `ljw9510/SDL`:
//! `min ξ·(½‖x − hW‖² + λ‖h‖₁)/norm² + NLL(y; score)`, logistic or, of more classes, multinomial, the score
//! (one per class then) linear in what atoms make of a row
//! (`filter`: `Wx`) or in the codes (`feature`: `h`), and in covariates. Blocks are moved in turn, each by
//! a quadratic above the loss: the score's weights; in the feature form the codes of labelled rows, the
//! lasso with one more coordinate; the atoms by a sweep over additive sums as in `mairal`. Rows whose
//! label or covariates are unknown count in the reconstruction only. No label is needed to encode.

mod blocks;
mod learner;
mod pull;
mod score;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::score::Score;
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    coders::{
        AnyCoder,
        lasso_cd::LassoCd,
        rows::{centred, rms},
    },
    kernels::Path,
    learner::{Beside, Columns, DictLearner, Role, Setup},
    skeleton::median::geometric_median,
    surrogate::{Online, unused},
    threads::Threads,
};

/// `[learner] kind = "supervised"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Supervised {
    /// Number of latents.
    pub n_latents: usize,
    /// Column of the label, true or false (or 1 and 0), or with `classes` a class; null and other numbers
    /// are unknown.
    pub label: String,
    /// Number of classes. More than 2: labels are 0, 1, … (another number is unknown), each with a score.
    #[serde(default = "classes")]
    pub classes: usize,
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

fn classes() -> usize {
    2
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
    columns: "label: truth values or classes; covariates: numbers",
    modes: &[
        "form: filter, feature",
        "classes: more than two (multinomial)",
        "xi = 0: logistic regression",
        "forgetting",
    ],
    example: "jobs/specs/learners/supervised.toml",
    small: r#"{"kind": "supervised", "n_latents": 40, "label": "y", "covariates": ["p"], "lambda": 0.05, "form": "feature"}"#,
};

impl LearnerConfig for Supervised {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let one_each = setup.beside_widths.iter().all(|&width| width == 1);
        Invalid::unless(one_each, "label", "and covariates must be columns of one number per row")?;
        let learner = setup.threads.install(|| SupervisedLearner::new(self, setup));
        let labels = setup.beside.first().map_or(&[][..], |labels| &labels[..]);
        let known = labels.is_empty() || labels.iter().any(|&label| learner.score.knows(f64::from(label)));
        Invalid::unless(
            known,
            "label",
            "has no row of the calibration sample with one of the `classes` (0, 1, …; false and true are two)",
        )?;
        Ok(Box::new(learner))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 16_384, "n_latents", "must be between 1 and 16384: sums are n by n")?;
        Invalid::unless(!self.label.is_empty(), "label", "must name a column")?;
        let most = (2..=1024).contains(&self.classes);
        Invalid::unless(most, "classes", "must be between 2 and 1024")?;
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
            score: Score::zero(spec.n_latents + spec.covariates.len() + 1, spec.classes),
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
}

#[cfg(test)]
mod tests;
