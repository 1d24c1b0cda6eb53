//! Truncated EM on a stream of batches, whatever the prior.

use rayon::prelude::*;
use serde_json::json;

use super::{
    coder::CauseCoder,
    posterior::{Inference, Posterior},
    prior::Prior,
    spec::EmSpec,
    states::{Set, sets},
    sums::Sums,
};
use crate::{
    batchwise::{Batchwise, Learned, Task},
    frozen::{Atoms, Frozen},
    kernels::Path,
    learner::{Dictionary, Mismatch, Setup},
    linear::{
        product::{self, Panels},
        solve::ridge_solve,
    },
    random::hash,
    skeleton::init::{self, Start},
    state::LearnerState,
    threads::Threads,
};

/// Stream of the random numbers of jitter.
const JITTER: u64 = 0x4a_4954;

/// A model and its sums.
#[derive(Debug, Clone)]
pub struct Em<P> {
    pub(super) kind: &'static str,
    pub(super) spec: EmSpec,
    pub(super) n: usize,
    /// What is subtracted from rows, `[d]`.
    pub(super) offset: Vec<f64>,
    /// Causes, `[n, d]`.
    pub(super) w: Vec<f64>,
    /// σ².
    pub(super) noise: f64,
    /// Standard deviation of the rows, per column.
    pub(super) spread: f64,
    pub(super) seed: u64,
    pub(super) prior: P,
    pub(super) sums: Sums,
}

impl<P: Prior> Em<P> {
    /// Causes start at the mean of the sample, each with a random direction of its own as long as rows
    /// spread; σ² starts at their variance.
    pub fn new(kind: &'static str, n: usize, prior: P, spec: &EmSpec, setup: &Setup) -> Self {
        let d = setup.d_in;
        let (mean, variance) = moments(setup.sample, d);
        let directions =
            setup.threads.install(|| init::parameters(&Start::plain(n, d, &[], setup.seed)).w_dec.value);
        let spread = variance.sqrt();
        let length = 0.5 * spread * (d as f64).sqrt();
        let (offset, centre) = if spec.centre { (mean, vec![0.0; d]) } else { (vec![0.0; d], mean) };
        let w = directions.iter().zip(centre.iter().cycle()).map(|(&v, m)| m + length * f64::from(v));
        let (w, noise) = (w.collect(), variance.max(1e-12));
        Em {
            kind,
            spec: spec.clone(),
            n,
            offset,
            w,
            noise,
            spread,
            seed: setup.seed,
            sums: Sums::start(n, d, prior.coupled()),
            prior,
        }
    }

    pub(super) fn sets(&self) -> Vec<Set> {
        sets(self.spec.candidates.min(self.n), self.spec.active, self.prior.signs())
    }

    /// The E-step of rows `y`, `[rows, d]`, and their products with the causes, `[rows, n]`.
    pub(super) fn infer(
        &self,
        path: Path,
        y: &[f64],
        gram: &[f64],
        sets: &[Set],
        sharpness: f64,
    ) -> (Vec<Posterior>, Vec<f64>) {
        let q = product::product(path, y, &Panels::of_rows(&self.w, self.offset.len()));
        let (n, noise, prior, candidates) = (self.n, self.noise, &self.prior, self.spec.candidates);
        let inference = Inference { prior, gram, n, noise, sharpness, candidates, sets };
        let posteriors = q.par_chunks(n).map(|q| inference.posterior(q)).collect();
        (posteriors, q)
    }

    /// New causes, noise and prior from the sums.
    pub(super) fn maximise(&mut self, path: Path, left: f64, step: u64) {
        self.w = ridge_solve(path, &self.sums.second, &self.sums.cross, &self.w, self.n);
        self.jitter(left, step);
        let (d, sums) = (self.offset.len(), &self.sums);
        let applied = product::product(path, &sums.second, &Panels::of_columns(&self.w, d));
        let terms = self.w.iter().zip(sums.cross.iter().zip(&applied));
        let explained: f64 = terms.map(|(w, (cross, applied))| w * (2.0 * cross - applied)).sum();
        // Exact for any causes: no second walk over the rows, and the posterior covariance is in it.
        let floor = 1e-9 * sums.squared_norm;
        self.noise = (sums.squared_norm - explained).max(floor).max(1e-30) / (sums.rows * d as f64);
        self.prior.update(&self.sums);
    }

    /// Moves causes by random directions, a function of seed and step.
    fn jitter(&mut self, left: f64, step: u64) {
        let d = self.offset.len();
        let length = self.spec.jitter * left * self.spread * (d as f64).sqrt();
        if length > 0.0 {
            let seed = hash(&[self.seed, JITTER, step]);
            let directions = init::parameters(&Start::plain(self.n, d, &[], seed)).w_dec.value;
            self.w.iter_mut().zip(&directions).for_each(|(w, &v)| *w += length * f64::from(v));
        }
    }

    /// Sum over rows of `log p(y)`, over the states that were weighed.
    pub(super) fn log_likelihood(&self, posteriors: &[Posterior], y: &[f64]) -> f64 {
        let evidence: f64 = posteriors.iter().map(|p| p.log_evidence).sum();
        let silence = self.prior.log_silence()
            - 0.5 * self.offset.len() as f64 * (std::f64::consts::TAU * self.noise).ln();
        let squares = y.iter().map(|v| v * v).sum::<f64>();
        evidence + posteriors.len() as f64 * silence - squares / (2.0 * self.noise)
    }

    /// `Σ‖y − y_hat‖²` where `y_hat` is that of the most probable states.
    fn squared_error(&self, y: &[f64], q: &[f64], gram: &[f64], posteriors: &[Posterior]) -> f64 {
        let saved = |(posterior, q): (&Posterior, &[f64])| {
            let of = |&(a, v): &(usize, f64)| {
                let fit: f64 = posterior.best.iter().map(|&(b, other)| gram[a * self.n + b] * other).sum();
                v * (2.0 * q[a] - fit)
            };
            posterior.best.iter().map(of).sum::<f64>()
        };
        let squares: f64 = y.iter().map(|v| v * v).sum();
        squares - posteriors.iter().zip(q.chunks(self.n)).map(saved).sum::<f64>()
    }
}

/// Mean of the rows, `[d]`, and the mean over columns of their variances.
fn moments(x: &[f32], d: usize) -> (Vec<f64>, f64) {
    let rows = (x.len() / d).max(1) as f64;
    let (mut mean, mut squares) = (vec![0f64; d], 0.0);
    for row in x.chunks_exact(d) {
        mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v) / rows);
        squares += row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>() / rows;
    }
    let about_mean = squares - mean.iter().map(|m| m * m).sum::<f64>();
    (mean, about_mean.max(0.0) / d as f64)
}

impl<P: Prior> Batchwise for Em<P> {
    fn d_in(&self) -> usize {
        self.offset.len()
    }

    fn n_latents(&self) -> usize {
        self.n
    }

    fn learn(&mut self, task: &Task) -> Learned {
        let (path, n) = (task.path, self.n);
        let y: Vec<f64> =
            task.x.iter().zip(self.offset.iter().cycle()).map(|(&x, m)| f64::from(x) - m).collect();
        let gram = product::gram(path, &self.w, self.d_in());
        let left = self.spec.left(task.step, task.steps);
        let sharpness = self.spec.sharpness(left);
        let (posteriors, q) = self.infer(path, &y, &gram, &self.sets(), sharpness);
        let squared_error = self.squared_error(&y, &q, &gram, &posteriors);
        let loss = -self.log_likelihood(&posteriors, &y) / task.rows as f64;
        let sums = Sums::of(path, task.lanes, &posteriors, &y, (n, self.prior.coupled()));
        self.sums.add(self.spec.keep, &sums);
        self.maximise(path, left, task.step);
        let mut fired = vec![false; n];
        posteriors.iter().flat_map(|p| &p.best).for_each(|&(h, _)| fired[h] = true);
        let nnz = posteriors.iter().map(|p| p.best.len() as u64).sum();
        Learned { nnz, squared_error, loss, lr: 0.0, fired }
    }

    fn freeze(&self, scale: f32, threads: &Threads) -> Box<dyn Dictionary> {
        let scale = f64::from(scale);
        #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
        let b_dec = self.offset.iter().map(|m| (m / scale) as f32).collect();
        let (atoms, norms) = Atoms::normalised(&self.w, self.d_in(), b_dec);
        let lengths: Vec<f64> = norms.iter().map(|norm| norm / scale).collect();
        let mut tensors = LearnerState::default();
        tensors.push_f64("lengths", &lengths);
        self.prior.save(&mut tensors);
        let EmSpec { candidates, active, .. } = self.spec;
        let noise = self.noise.sqrt() / scale;
        Box::new(Frozen {
            kind: self.kind,
            atoms,
            coder: CauseCoder::new(self.clone(), lengths, scale),
            threads: threads.clone(),
            cfg: json!({ "candidates": candidates, "active": active, "sigma": noise }),
            tensors,
        })
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f64("offset", &self.offset);
        state.push_f64("w", &self.w);
        state.push_f64("noise", &[self.noise, self.spread]);
        self.prior.save(state);
        self.sums.save(state);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        self.offset = state.f64("offset", self.offset.len())?;
        self.w = state.f64("w", self.w.len())?;
        let noise = state.f64("noise", 2)?;
        (self.noise, self.spread) = (noise[0], noise[1]);
        self.prior.load(state)?;
        self.sums.load(state)
    }
}
