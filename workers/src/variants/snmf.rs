//! Semi-NMF: `x ≈ g·F` with codes `g ≥ 0` and features `F` of any sign; optionally a hierarchy, codes
//! of codes.
//!
//! Ding, Li, Jordan 2010; Shafran et al. 2025 (*Decomposing MLP Activations into Interpretable Features
//! via Semi-Nonnegative Matrix Factorization*). `GᵀG` and `GᵀX` are sums over rows: a step finds the
//! codes of its batch by multiplicative updates, adds its sums to what is left of the old ones, and
//! solves for F. Codes have no exact zeros, so a frozen dictionary keeps the k largest and refits them.
//!
//! With `levels`, the codes of a level are the rows of the next one. The latents are those of the last
//! level; their atoms are `F_L·…·F_1`, the features of the levels go into the export.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    codes::Codes,
    frozen::{Atoms, Coder, Frozen},
    kernels::Path,
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    linear::{
        multiplicative::Features,
        product::{self, Panels},
        solve::ridge_solve,
    },
    skeleton::init,
    state::LearnerState,
    threads::Threads,
};

/// `[learner] kind = "snmf"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snmf {
    /// Number of latents: of the last level.
    pub n_latents: usize,
    /// Features of each level, the last one `n_latents`. Left out: one level.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub levels: Vec<usize>,
    /// Latents a frozen dictionary keeps per row.
    #[serde(default = "k")]
    pub k: usize,
    /// Multiplicative updates per batch and level.
    #[serde(default = "rounds")]
    pub rounds: usize,
    /// Share of the old sums that each step keeps; 0 learns from the batch alone.
    #[serde(default = "keep")]
    pub keep: f64,
    /// Share of the entries of a feature that are kept, the largest (winner takes all; 0.01 to 0.05 for
    /// neurons of an MLP). 1 keeps all.
    #[serde(default = "winners")]
    pub winners: f64,
}

fn k() -> usize {
    32
}

fn rounds() -> usize {
    20
}

fn keep() -> f64 {
    0.95
}

fn winners() -> f64 {
    1.0
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "snmf",
    family: "classical",
    summary: "semi-NMF: non-negative codes, features of any sign; levels make a hierarchy",
    paper: "Shafran et al. 2025, arXiv:2506.10920; Ding et al. 2010, https://doi.org/10.1109/TPAMI.2008.277",
    columns: "",
    modes: &["levels"],
    example: "jobs/specs/learners/snmf.toml",
    small: r#"{"kind": "snmf", "n_latents": 40, "k": 6, "levels": [44, 40], "keep": 0.5}"#,
};

impl LearnerConfig for Snmf {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let sizes = if self.levels.is_empty() { vec![self.n_latents] } else { self.levels.clone() };
        let mut width = setup.d_in;
        let start = |(at, &n): (usize, &usize)| {
            let level = Level::random(n, width, setup.seed.wrapping_add(at as u64));
            width = n;
            level
        };
        let levels = setup.threads.install(|| sizes.iter().enumerate().map(start).collect());
        Ok(Box::new(Learner::new(Method { spec: self.clone(), levels }, 10_000_000, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n <= 16_384, "n_latents", "must be between 1 and 16384: sums are n by n")?;
        let last = self.levels.last().is_none_or(|&last| last == n);
        Invalid::unless(last, "levels", "must end with n_latents")?;
        let fine = self.levels.iter().all(|&n| n > 0 && n <= 16_384);
        Invalid::unless(fine, "levels", "must be between 1 and 16384 each")?;
        Invalid::unless(self.k > 0, "k", "must be at least 1")?;
        Invalid::unless(self.rounds > 0, "rounds", "must be at least 1")?;
        Invalid::unless((0.0..1.0).contains(&self.keep), "keep", "must be at least 0 and below 1")?;
        Invalid::unless(self.winners > 0.0 && self.winners <= 1.0, "winners", "must be above 0 and at most 1")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }
}

/// One factorisation and its sums.
#[derive(Debug, Clone)]
struct Level {
    n: usize,
    width: usize,
    /// `[n, width]`, unit rows.
    features: Vec<f64>,
    /// `GᵀG`, `[n, n]`.
    gg: Vec<f64>,
    /// `GᵀX`, `[n, width]`.
    gx: Vec<f64>,
}

impl Level {
    fn random(n: usize, width: usize, seed: u64) -> Self {
        let rows = init::parameters(n, width, &[], seed).w_dec.value;
        let features = rows.into_iter().map(f64::from).collect();
        Level { n, width, features, gg: vec![0.0; n * n], gx: vec![0.0; n * width] }
    }

    /// Codes of `x`, `[rows, n]`.
    fn codes(&self, path: Path, x: &[f64], rounds: usize) -> Vec<f64> {
        let features = Features::of(path, &self.features, self.width);
        let products = features.products(path, x);
        let mut codes = features.start(&products);
        features.refine(path, &products, &mut codes, rounds);
        codes
    }

    /// New features from the old sums, of which `keep` is kept, and those of `codes` and `x`.
    fn update(&mut self, task: &Task, codes: &[f64], x: &[f64], spec: &Snmf) {
        let gg = product::cross(task.path, task.lanes, (codes, self.n), (codes, self.n));
        let gx = product::cross(task.path, task.lanes, (codes, self.n), (x, self.width));
        self.gg.iter_mut().zip(gg).for_each(|(sum, v)| *sum = spec.keep * *sum + v);
        self.gx.iter_mut().zip(gx).for_each(|(sum, v)| *sum = spec.keep * *sum + v);
        self.features = ridge_solve(task.path, &self.gg, &self.gx, &self.features, self.n);
        if spec.winners < 1.0 {
            let kept = (spec.winners * self.width as f64).ceil() as usize;
            self.features.par_chunks_mut(self.width).for_each(|row| keep_largest(row, kept));
        }
        self.normalise();
    }

    /// Unit features; the sums become those of codes that make up for it.
    fn normalise(&mut self) {
        let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let norms: Vec<f64> = self.features.chunks(self.width).map(norm).collect();
        let norms: Vec<f64> = norms.into_iter().map(|v| if v > 0.0 { v } else { 1.0 }).collect();
        for (i, &norm) in norms.iter().enumerate() {
            self.features[i * self.width..][..self.width].iter_mut().for_each(|v| *v /= norm);
            self.gx[i * self.width..][..self.width].iter_mut().for_each(|v| *v *= norm);
            self.gg[i * self.n..][..self.n].iter_mut().zip(&norms).for_each(|(v, other)| *v *= norm * other);
        }
    }
}

/// Sets all but the `kept` entries of largest magnitude to zero; of equals, the first stay.
fn keep_largest(row: &mut [f64], kept: usize) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()).then(a.cmp(&b)));
    order.into_iter().skip(kept).for_each(|i| row[i] = 0.0);
}

/// What is learned.
#[derive(Debug, Clone)]
struct Method {
    spec: Snmf,
    levels: Vec<Level>,
}

impl Method {
    /// `F_L·…·F_1`, `[n_latents, d_in]`.
    fn atoms(&self, path: Path) -> Vec<f64> {
        let down = |atoms: Option<Vec<f64>>, level: &Level| match atoms {
            Some(atoms) => Some(product::product(path, &atoms, &Panels::of(&level.features, level.width))),
            None => Some(level.features.clone()),
        };
        self.levels.iter().rev().fold(None, down).unwrap_or_default()
    }
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.levels.first().map_or(0, |level| level.width)
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let (x, d, n) = (task.wide(), self.d_in(), self.n_latents());
        let atoms = self.atoms(task.path);
        let mut rows = x.clone();
        for level in &mut self.levels {
            let codes = level.codes(task.path, &rows, self.spec.rounds);
            level.update(task, &codes, &rows, &self.spec);
            rows = codes;
        }
        let x_hat = product::product(task.path, &rows, &Panels::of(&atoms, d));
        let squared_error = x.iter().zip(&x_hat).map(|(x, h)| (x - h) * (x - h)).sum::<f64>();
        let mut fired = vec![false; n];
        rows.chunks(n).for_each(|row| fired.iter_mut().zip(row).for_each(|(f, g)| *f |= *g > 0.0));
        let kept = |row: &[f64]| row.iter().filter(|g| **g > 0.0).count().min(self.spec.k) as u64;
        Learned { nnz: rows.chunks(n).map(kept).sum(), squared_error, loss: squared_error, lr: 0.0, fired }
    }

    fn freeze(&self, _scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        // Codes are proportional to rows, so a scale of the data is one of the codes.
        let (d, path) = (self.d_in(), Path::best());
        let (atoms, norms) = Atoms::normalised(&self.atoms(path), d, vec![0.0; d]);
        let mut tensors = LearnerState::default();
        for (at, level) in self.levels.iter().enumerate() {
            #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
            let features: Vec<f32> = level.features.iter().map(|&v| v as f32).collect();
            tensors.push_f32(&format!("features.{at}"), vec![level.n, level.width], &features);
        }
        let levels = self.levels.iter().map(|l| Features::of(path, &l.features, l.width)).collect();
        let (k, rounds) = (self.spec.k, self.spec.rounds);
        let sizes: Vec<usize> = self.levels.iter().map(|level| level.n).collect();
        Box::new(Frozen {
            kind: INFO.kind,
            atoms,
            coder: LevelCoder { levels, norms, k, rounds },
            threads: threads.clone(),
            cfg: json!({ "k": k, "rounds": rounds, "levels": sizes }),
            tensors,
        })
    }

    fn save(&self, state: &mut LearnerState) {
        for (at, level) in self.levels.iter().enumerate() {
            state.push_f64(&format!("features.{at}"), &level.features);
            state.push_f64(&format!("gg.{at}"), &level.gg);
            state.push_f64(&format!("gx.{at}"), &level.gx);
        }
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        for (at, level) in self.levels.iter_mut().enumerate() {
            level.features = state.f64(&format!("features.{at}"), level.features.len())?;
            level.gg = state.f64(&format!("gg.{at}"), level.gg.len())?;
            level.gx = state.f64(&format!("gx.{at}"), level.gx.len())?;
        }
        Ok(())
    }
}

/// Level after level; of the last, the k largest, refitted.
#[derive(Debug)]
struct LevelCoder {
    levels: Vec<Features>,
    /// Lengths of the atoms before they were made unit.
    norms: Vec<f64>,
    k: usize,
    rounds: usize,
}

impl Coder for LevelCoder {
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes {
        let mut rows: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let mut products = Vec::new();
        for level in &self.levels {
            products = level.products(path, &rows);
            rows = level.start(&products);
            level.refine(path, &products, &mut rows, self.rounds);
        }
        let mut codes = Codes::new(atoms.n_latents());
        let Some(last) = self.levels.last() else { return codes };
        let n = atoms.n_latents();
        let pairs = rows.par_chunks(n).zip(products.par_chunks(n));
        let kept: Vec<_> = pairs.map(|(g, p)| last.keep_largest(p, g, self.k, self.rounds)).collect();
        for row in kept {
            #[allow(clippy::cast_possible_truncation, reason = "codes are f32, latents are counted in u32")]
            let pairs = row.into_iter().map(|(i, g)| (i as u32, (g * self.norms[i]) as f32));
            codes.push_row(pairs.filter(|pair| pair.1 != 0.0));
        }
        codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toys::normal;

    /// methods.md §3.3: on data of rank 8 the fit goes towards exact, monotonically. The features need
    /// not be the planted ones: semi-NMF is not identifiable.
    #[test]
    fn alternating_updates_fit_data_of_low_rank() {
        let (rows, d, n) = (200, 30, 8);
        let draw = |seed: u64, len: usize| (0..len).map(|i| normal(&[seed, i as u64])).collect::<Vec<f64>>();
        let planted: Vec<f64> = draw(1, rows * n).iter().map(|v| v.abs()).collect();
        let x = product::product(Path::best(), &planted, &Panels::of(&draw(2, n * d), d));
        let mut level = Level::random(n, d, 5);
        let mut codes = level.codes(Path::best(), &x, 1);
        let size = x.iter().map(|v| v * v).sum::<f64>();
        let error = |level: &Level, codes: &[f64]| {
            let x_hat = product::product(Path::best(), codes, &Panels::of(&level.features, d));
            (x.iter().zip(x_hat).map(|(x, h)| (x - h) * (x - h)).sum::<f64>() / size).sqrt()
        };
        let first = error(&level, &codes);
        let mut last = f64::INFINITY;
        for _ in 0..2000 {
            let (gg, gx) = (
                product::cross(Path::best(), &[0, rows], (&codes, n), (&codes, n)),
                product::cross(Path::best(), &[0, rows], (&codes, n), (&x, d)),
            );
            level.features = ridge_solve(Path::best(), &gg, &gx, &level.features, n);
            let features = Features::of(Path::best(), &level.features, d);
            features.refine(Path::best(), &features.products(Path::best(), &x), &mut codes, 1);
            let now = error(&level, &codes);
            assert!(now <= last + 1e-9, "{last} became {now}");
            last = now;
        }
        println!("SNMF: relative error {first} became {last}");
        assert!(first > 0.3 && last < 0.02, "{first} became {last}");
        assert!(codes.iter().all(|&g| g >= 0.0));
    }

    #[test]
    fn winners_take_all() {
        let mut row = [3.0, -5.0, 1.0, 5.0];
        keep_largest(&mut row, 2);
        assert_eq!(row, [0.0, -5.0, 0.0, 5.0]);
    }

    /// One level of codes of codes: the atoms are the product of the levels.
    #[test]
    fn a_hierarchy_reconstructs_through_all_levels() {
        let level = |n, width, seed| Level::random(n, width, seed);
        let spec: Snmf = serde_json::from_str(r#"{"n_latents": 3, "levels": [5, 3]}"#).unwrap();
        let method = Method { spec, levels: vec![level(5, 7, 1), level(3, 5, 2)] };
        let atoms = method.atoms(Path::best());
        let (low, high) = (&method.levels[0].features, &method.levels[1].features);
        let slow = (0..5).map(|j| high[2 * 5 + j] * low[j * 7 + 4]).sum::<f64>();
        assert!((atoms[2 * 7 + 4] - slow).abs() < 1e-14);
    }
}
