//! MP-SAE: the encoder is k rounds of matching pursuit on the dictionary itself, and learning goes
//! back through all of them.
//!
//! Costa et al. 2025 (*From Flat to Hierarchical*); Overcomplete, `sae/mp_sae.py`. A latent that is
//! picked again adds up. There is no linear encoder: a dictionary needs the k rounds to encode.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    batchwise::{Batchwise, Learned, Learner, Task},
    export,
    frozen::{Atoms, Frozen},
    kernels::{Path, adam::AdamStep, simd::Kernel, vector},
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    pursuit::{Pursuit, Rounds, backward::Backward, gram::Gram},
    skeleton::{
        init::{self, Start},
        parameters::{Parameter, Piece},
        schedule::{Schedule, ScheduleSpec},
    },
    state::LearnerState,
    threads::Threads,
};

/// Atoms one task updates.
const BLOCK_ATOMS: usize = 32;

/// `[learner] kind = "mp"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mp {
    /// Number of latents. Up to 16,384 a Gram matrix saves most of the work.
    pub n_latents: usize,
    /// Rounds per row; a row has at most so many latents.
    pub k: usize,
    /// Pick by magnitude, so that values may be negative (classical matching pursuit).
    #[serde(default)]
    pub absolute: bool,
    /// Learning rate.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// A latent that has not fired for this many tokens is reported as dead.
    #[serde(default = "dead_after_tokens")]
    pub dead_after_tokens: u64,
}

fn dead_after_tokens() -> u64 {
    10_000_000
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "mp",
    family: "sparse autoencoder",
    summary: "encodes by k rounds of matching pursuit on the atoms themselves and learns through them",
    paper: "Costa et al. 2025, From Flat to Hierarchical, arXiv:2506.03093; Mallat & Zhang 1993",
    columns: "",
    modes: &["absolute"],
    example: "jobs/specs/learners/mp.toml",
    small: r#"{"kind": "mp", "n_latents": 40, "k": 3, "dead_after_tokens": 200, "schedule": {"lr": 0.01}}"#,
};

impl LearnerConfig for Mp {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let start = || init::parameters(&Start::plain(self.n_latents, setup.d_in, setup.sample, setup.seed));
        let start = setup.threads.install(start);
        let method = Method {
            k: self.k,
            absolute: self.absolute,
            schedule: Schedule::new(&self.schedule, self.n_latents, setup.steps),
            w_dec: start.w_dec,
            b_dec: start.b_dec,
        };
        Ok(Box::new(Learner::new(method, self.dead_after_tokens, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n < u32::MAX as usize, "n_latents", "must be between 1 and 2^32 − 2")?;
        Invalid::unless(self.k > 0 && self.k <= n, "k", "must be between 1 and n_latents")?;
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
        Some("its codes are searched for, atom by atom, and learning goes back through the search")
    }
}

/// What is learned.
#[derive(Debug, Clone)]
struct Method {
    k: usize,
    absolute: bool,
    schedule: Schedule,
    w_dec: Parameter<f32>,
    b_dec: Parameter<f32>,
}

impl Batchwise for Method {
    fn d_in(&self) -> usize {
        self.b_dec.value.len()
    }

    fn n_latents(&self) -> usize {
        self.w_dec.value.len() / self.d_in()
    }

    /// `Σ‖r_k‖² / Σ‖x − x̄‖²` goes one Adam step down; atoms stay unit norm.
    fn learn(&mut self, task: &Task) -> Learned {
        let (d, path, lr) = (self.d_in(), task.path, self.schedule.lr(task.step));
        let b_dec = &self.b_dec.value;
        let mut rows: Vec<f32> = task.x.iter().zip(b_dec.iter().cycle()).map(|(x, b)| x - b).collect();
        let w_dec = self.w_dec.value.clone();
        let gram = Gram::where_it_serves(path, &w_dec, d);
        let (atoms, k, absolute) = (&w_dec, self.k, self.absolute);
        let pursuit = Pursuit { atoms, d_in: d, k, absolute, gram: gram.as_ref() };
        let picks = pursuit.run(path, &mut rows);
        #[allow(clippy::cast_possible_truncation, reason = "gradients are f32")]
        let scale = 1.0 / task.scatter.max(f64::from(f32::MIN_POSITIVE)) as f32;
        let backward = Backward::of(path, pursuit, &picks, &rows, task.lanes, scale);
        self.descend(path, &backward, &AdamStep::new(lr, task.step));
        let squared_error = backward.moments.squared_norm;
        Learned {
            nnz: picks.codes(self.n_latents()).nnz() as u64,
            squared_error,
            loss: squared_error * f64::from(scale),
            lr,
            fired: (0..self.n_latents()).map(|latent| backward.fired(latent)).collect(),
        }
    }

    fn freeze(&self, scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        let b_dec = self.b_dec.value.iter().map(|b| b / scale).collect();
        let atoms = Atoms { d_in: self.d_in(), w_dec: self.w_dec.value.clone(), b_dec };
        let (k, absolute) = (self.k, self.absolute);
        Box::new(Frozen {
            kind: INFO.kind,
            atoms,
            coder: Rounds::new(k, absolute),
            threads: threads.clone(),
            // SAELens pursues by value alone.
            cfg: if absolute { json!({ "k": k, "absolute": true }) } else { export::matching_pursuit(k) },
            tensors: LearnerState::default(),
        })
    }

    fn save(&self, state: &mut LearnerState) {
        let d = self.d_in();
        for (name, shape, p) in
            [("w_dec", vec![self.n_latents(), d], &self.w_dec), ("b_dec", vec![d], &self.b_dec)]
        {
            state.push_f32(name, shape.clone(), &p.value);
            state.push_f32(&format!("{name}.m"), shape.clone(), &p.m);
            state.push_f32(&format!("{name}.v"), shape, &p.v);
        }
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let read = |name: &str, shape: &[usize]| {
            let of = |suffix: &str| state.f32(&format!("{name}{suffix}"), shape);
            Ok(Parameter { value: of("")?, m: of(".m")?, v: of(".v")? })
        };
        let d = self.d_in();
        (self.w_dec, self.b_dec) = (read("w_dec", &[self.n_latents(), d])?, read("b_dec", &[d])?);
        Ok(())
    }
}

impl Method {
    #[allow(clippy::cast_possible_truncation, reason = "gradients are f32")]
    fn descend(&mut self, path: Path, backward: &Backward<f32>, adam: &AdamStep<f32>) {
        let d = self.d_in();
        self.w_dec.pieces(BLOCK_ATOMS * d).enumerate().for_each(|(block, atoms)| {
            path.run(Update { first: block * BLOCK_ATOMS, d, atoms, backward, adam });
        });
        let bias: Vec<f32> = backward.bias.iter().map(|&g| g as f32).collect();
        self.b_dec.whole().descend(adam, &bias);
    }
}

/// Projects, descends and renormalises some atoms.
struct Update<'a> {
    first: usize,
    d: usize,
    atoms: Piece<'a, f32>,
    backward: &'a Backward<'a, f32>,
    adam: &'a AdamStep<f32>,
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let (mut lane, mut gradient) = (vec![0f32; self.d], vec![0f32; self.d]);
        for row in 0..self.atoms.value.len() / self.d {
            self.backward.atom(self.first + row, &mut lane, &mut gradient);
            let mut atom = self.atoms.row(row, self.d);
            let parallel = vector::dot(&gradient, atom.value);
            vector::axpy(-parallel, atom.value, &mut gradient);
            atom.descend(self.adam, &gradient);
            vector::normalize(atom.value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        learner::{ActivationBatch, Scales},
        toys,
    };

    /// methods.md T2 with pursuit as the coder: no linear encoder, no amortisation gap.
    #[test]
    fn recovers_a_planted_dictionary() {
        let (d, n, steps) = (64, 128, 700);
        let planted = toys::atoms(n, d, 1);
        let batches: Vec<Vec<f32>> =
            (0..24).map(|s| toys::mixed(&planted, d, (512, 4), false, 0.01, s)).collect();
        let spec = Mp {
            n_latents: n,
            k: 4,
            absolute: false,
            schedule: ScheduleSpec { lr: Some(4e-3), ..ScheduleSpec::default() },
            dead_after_tokens: 20_000,
        };
        let setup = Setup::plain(&d, steps, 1, &batches[0], Threads::new(0).unwrap());
        let mut learner = spec.build(&setup).unwrap();
        let mut fvu = 1.0;
        for step in 0..steps as usize {
            let report = learner.step(&ActivationBatch::new(&batches[step % 24], &[0, 512]));
            fvu = report.squared_error / report.scatter;
        }
        let mmcs = toys::mmcs(&planted, learner.freeze(&Scales::of(1.0)).atoms(), d, false);
        println!("MP-SAE: MMCS {mmcs}, FVU {fvu}");
        assert!(mmcs >= 0.95 && fvu <= 0.1, "MMCS {mmcs}, FVU {fvu}");
    }
}
