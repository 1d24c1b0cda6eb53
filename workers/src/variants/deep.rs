//! Deep dictionary learning: `x ≈ D₁·φ(D₂·φ(…z))`, all levels learned together; codes of codes.
//!
//! Singhal & Majumdar 2018 (*Majorization Minimization Technique for Optimally Solving Deep Dictionary
//! Learning*). The error is majorised by a quadratic about the present codes (the Landweber step), so
//! codes and dictionaries of upper levels are moved as if theirs were the only level. Dictionaries are
//! swept over additive sums as in `mairal`, with norms at most 1: least squares alone would let them grow
//! and the codes vanish. The latents are those of the top level; the levels go into the export.

mod frozen;
mod search;
mod stack;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::{
    frozen::FrozenStack,
    search::Search,
    stack::{Level, Pass, Stack},
};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    coders::rows::{centred, rms},
    kernels::{Path, Real},
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    linear::product,
    skeleton::median::geometric_median,
    state::LearnerState,
    surrogate::{
        Decay, Statistics,
        online::decay,
        sweep::{Constraint, sweep},
        unused,
    },
    threads::Threads,
};

/// `[learner] kind = "deep"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Deep {
    /// Number of latents: atoms of the top level.
    pub n_latents: usize,
    /// Atoms of each level, the one next to the data first, the last `n_latents`.
    pub levels: Vec<usize>,
    /// What is between levels.
    #[serde(default)]
    pub link: Link,
    /// Weight of `‖codes‖₁`, as a share of the root mean square norm of the centred rows.
    #[serde(default = "lambda")]
    pub lambda: f64,
    /// Landweber steps per row, in learning and at inference.
    #[serde(default = "rounds")]
    pub rounds: usize,
    /// Share of the old sums that each step keeps; 0 learns from the batch alone.
    #[serde(default = "keep")]
    pub keep: f64,
}

/// φ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// `max(0, ·)`: codes of all levels are not negative.
    #[default]
    Relu,
    /// Nothing: the levels are factors of one dictionary.
    Linear,
}

fn lambda() -> f64 {
    0.1
}

fn rounds() -> usize {
    50
}

fn keep() -> f64 {
    0.9
}

/// Stream of the atoms drawn at the start.
const START: u64 = 0x4445_4550;

/// Rows of the sample whose codes the upper levels start from.
const START_ROWS: usize = 1024;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "deep",
    family: "classical",
    summary: "deep dictionary learning: codes of codes, all levels together by majorisation-minimisation",
    paper: "Singhal & Majumdar 2018, arXiv:1912.10801",
    columns: "",
    modes: &["link: relu, linear"],
    example: "jobs/specs/learners/deep.toml",
    small: r#"{"kind": "deep", "n_latents": 40, "levels": [30, 40], "lambda": 0.02}"#,
};

impl LearnerConfig for Deep {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let method = setup.threads.install(|| Method::new(self, setup));
        Ok(Box::new(Learner::new(method, 10_000_000, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 16_384, "n_latents", "must be between 1 and 16384: sums are n by n")?;
        Invalid::unless(self.levels.last() == Some(&n), "levels", "must end with n_latents")?;
        let fine = self.levels.len() <= 4 && self.levels.iter().all(|&n| n > 0 && n <= 16_384);
        Invalid::unless(fine, "levels", "must be at most four of 1 to 16384 each")?;
        let lambda = self.lambda;
        Invalid::unless(lambda.is_finite() && lambda > 0.0, "lambda", "must be positive")?;
        Invalid::unless(self.rounds > 0, "rounds", "must be at least 1")?;
        Invalid::unless((0.0..1.0).contains(&self.keep), "keep", "must be at least 0 and below 1")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }

    fn uncodable(&self) -> Option<&'static str> {
        let bent = self.link == Link::Relu && self.levels.len() > 1;
        bent.then_some(
            "through the ReLU between its levels atoms do not add up; `link = \"linear\"` has none",
        )
    }
}

/// What is learned.
#[derive(Debug, Clone)]
struct Method {
    spec: Deep,
    seed: u64,
    stack: Stack<f32>,
    /// Of each level: its codes and what it is to make of them.
    sums: Vec<Statistics<f32>>,
    /// Subtracted from every row, `[d_in]`.
    centre: Vec<f32>,
    /// Root mean square norm of the centred sample.
    norm: f32,
}

impl Method {
    /// Level by level: atoms are rows of the sample, then codes that the levels so far find for them.
    fn new(spec: &Deep, setup: &Setup) -> Self {
        let (path, mut width) = (Path::best(), setup.d_in);
        let centre = geometric_median(path, setup.sample, width);
        let sample = centred(setup.sample, &centre);
        let mut method = Method {
            norm: rms(&sample, width),
            sums: Vec::new(),
            stack: Stack { levels: Vec::new(), relu: spec.link == Link::Relu },
            spec: spec.clone(),
            seed: setup.seed,
            centre,
        };
        let sample = &sample[..sample.len().min(START_ROWS * width)];
        let mut rows = sample.to_vec();
        for (at, &n) in spec.levels.iter().enumerate() {
            let mut atoms = vec![0f32; n * width];
            for (j, atom) in atoms.chunks_exact_mut(width).enumerate() {
                unused::draw(&rows, atom, &[setup.seed, START, at as u64, j as u64]);
            }
            method.stack.levels.push(Level { n, width, atoms });
            method.sums.push(Statistics::zero(n, width));
            width = n;
            if at + 1 < spec.levels.len() {
                let packed = method.stack.packed(path, at + 1);
                rows = method.search(1.0).codes(&packed, packed.curvature(), sample);
            }
        }
        method
    }

    /// For rows that were multiplied by `scale` since.
    fn search(&self, scale: f32) -> Search {
        let lambda = self.spec.lambda * f64::from(self.norm / scale);
        Search { lambda, rounds: self.spec.rounds }
    }
}

/// One update of the dictionary `at` for rows `x` whose top codes are `codes`: the sums, then a sweep.
/// With `Decay { old: 0, .. }` and linear links, the error of these rows does not rise.
fn improve<R: Real>(
    task: &Task,
    (stack, sums): (&mut Stack<R>, &mut Statistics<R>),
    at: usize,
    (x, codes): (&[R], &[R]),
    (decay, seed): (Decay, u64),
) {
    let packed = stack.packed(task.path, stack.levels.len());
    let pass = packed.forward(codes.to_vec());
    let target = match at.checked_sub(1) {
        None => x.to_vec(),
        Some(below) => {
            let curvature = stack.packed(task.path, at).curvature();
            let pull = packed.pull(&pass, &error(x, &pass), below);
            pass.entering[below].iter().zip(pull).map(|(&u, pull)| u + pull / curvature).collect()
        }
    };
    let (h, level) = (packed.linked(&pass.entering[at]), &mut stack.levels[at]);
    let a = product::cross(task.path, task.lanes, (&h, level.n), (&h, level.n));
    let b = product::cross(task.path, task.lanes, (&h, level.n), (&target, level.width));
    let (old, new) = (R::of(decay.old), R::of(decay.new));
    sums.a.iter_mut().zip(a).for_each(|(sum, v)| *sum = old * *sum + new * v);
    sums.b.iter_mut().zip(b).for_each(|(sum, v)| *sum = old * *sum + new * v);
    unused::resample(sums, &target, &mut level.atoms, seed, task.step);
    sweep(task.path, sums, Constraint { positive: false, unit: false }, &mut level.atoms);
}

fn error<R: Real>(x: &[R], pass: &Pass<R>) -> Vec<R> {
    x.iter().zip(&pass.x_hat).map(|(&x, &hat)| x - hat).collect()
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.centre.len()
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let (x, n, search) = (centred(task.x, &self.centre), self.n_latents(), self.search(1.0));
        let packed = self.stack.packed(task.path, self.stack.levels.len());
        let codes = search.codes(&packed, packed.curvature(), &x);
        let e = error(&x, &packed.forward(codes.clone()));
        let squared_error = e.iter().map(|&e| f64::from(e).powi(2)).sum::<f64>();
        let decay = decay(Some(self.spec.keep), task.step, task.rows);
        for (at, sums) in self.sums.iter_mut().enumerate() {
            let seed = self.seed.wrapping_add(at as u64);
            improve(task, (&mut self.stack, sums), at, (&x, &codes), (decay, seed));
        }
        let mut fired = vec![false; n];
        codes.chunks_exact(n).for_each(|row| fired.iter_mut().zip(row).for_each(|(f, z)| *f |= *z != 0.0));
        let nnz = codes.iter().filter(|z| **z != 0.0).count() as u64;
        Learned { nnz, squared_error, loss: search.cost(&e, &codes) / task.rows as f64, lr: 0.0, fired }
    }

    fn freeze(&self, scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        let (search, spec) = (self.search(scale), &self.spec);
        let centre = self.centre.iter().map(|c| c / scale).collect();
        let cfg = json!({
            "levels": spec.levels, "link": spec.link, "lambda": search.lambda, "rounds": search.rounds,
        });
        Box::new(FrozenStack::new(&self.stack, search, centre, cfg, threads.clone()))
    }

    fn save(&self, state: &mut LearnerState) {
        for (at, (level, sums)) in self.stack.levels.iter().zip(&self.sums).enumerate() {
            state.push_f32(&format!("atoms.{at}"), vec![level.n, level.width], &level.atoms);
            state.push_f32(&format!("a.{at}"), vec![level.n, level.n], &sums.a);
            state.push_f32(&format!("b.{at}"), vec![level.n, level.width], &sums.b);
        }
        state.push_f32("centre", vec![self.centre.len()], &self.centre);
        state.push_f32("norm", vec![1], &[self.norm]);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        for (at, (level, sums)) in self.stack.levels.iter_mut().zip(&mut self.sums).enumerate() {
            level.atoms = state.f32(&format!("atoms.{at}"), &[level.n, level.width])?;
            sums.a = state.f32(&format!("a.{at}"), &[level.n, level.n])?;
            sums.b = state.f32(&format!("b.{at}"), &[level.n, level.width])?;
        }
        self.centre = state.f32("centre", &[self.centre.len()])?;
        self.norm = state.f32("norm", &[1])?.first().copied().unwrap_or(1.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
