//! What surrounds a learner that learns from whole batches: batches without rows, rows that are not
//! finite, the count of steps, dead latents, saving. A method fills in [`Batchwise`].

use crate::{
    kernels::{Path, lanes::LaneStarts},
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    skeleton::dead_latents::DeadLatents,
    state::LearnerState,
    threads::Threads,
};

/// One batch, and where in the run it stands.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// Scaled rows, `[rows, d_in]`, all finite, at least one.
    pub x: &'a [f32],
    /// Their lanes.
    pub lanes: LaneStarts<'a>,
    /// How many there are.
    pub rows: usize,
    /// `Σ‖x − x̄‖²` over them.
    pub scatter: f64,
    /// Number of the step, from 1.
    pub step: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// Vector instructions.
    pub path: Path,
}

impl Task<'_> {
    /// The rows in f64.
    pub fn wide(&self) -> Vec<f64> {
        self.x.iter().map(|&v| f64::from(v)).collect()
    }
}

/// What a method did with a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Learned {
    /// Pairs in the codes.
    pub nnz: u64,
    /// `Σ‖x − x_hat‖²`, before the step.
    pub squared_error: f64,
    /// What the method minimises.
    pub loss: f64,
    /// Learning rate, if it has one.
    pub lr: f64,
    /// Which latents were in a code, `[n_latents]`.
    pub fired: Vec<bool>,
}

/// A method that learns from whole batches. All of it runs on the kernel threads.
pub trait Batchwise: Clone + Send + Sync {
    /// Width of the vectors.
    fn d_in(&self) -> usize;
    /// Number of latents.
    fn n_latents(&self) -> usize;
    /// One update: a function of what it knows and the batch.
    fn learn(&mut self, task: &Task) -> Learned;
    /// The dictionary, for vectors that were multiplied by `scale`.
    fn freeze(&self, scale: f32, threads: &Threads) -> Box<dyn Dictionary>;
    /// Adds all it knows to `state`.
    fn save(&self, state: &mut LearnerState);
    /// Takes all it knows from `state`.
    ///
    /// # Errors
    /// A tensor is missing or has another shape; what was taken so far is thrown away by the caller.
    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch>;
}

/// A [`Batchwise`] method as a learner.
#[derive(Debug)]
pub struct Learner<M> {
    method: M,
    dead: DeadLatents,
    step: u64,
    steps: u64,
    path: Path,
    threads: Threads,
}

impl<M: Batchwise> Learner<M> {
    /// At its start. A latent that has not fired for `dead_after_tokens` is reported as dead.
    pub fn new(method: M, dead_after_tokens: u64, setup: &Setup) -> Self {
        Learner {
            dead: DeadLatents::new(method.n_latents(), dead_after_tokens),
            method,
            step: 0,
            steps: setup.steps,
            path: Path::best(),
            threads: setup.threads.clone(),
        }
    }

    fn learn(&mut self, batch: &ActivationBatch) -> StepReport {
        let (rows, lanes) = (batch.rows(), batch.lanes);
        let facts = || BatchFacts::here(self.path, batch.x, self.method.d_in(), lanes);
        let scatter = batch.facts.unwrap_or_else(facts).scatter;
        let report = StepReport { rows: rows as u64, scatter, loss: f64::NAN, ..StepReport::default() };
        if !scatter.is_finite() {
            return report;
        }
        self.step += 1;
        let (step, steps, path) = (self.step, self.steps, self.path);
        let Learned { nnz, squared_error, loss, lr, fired } =
            self.method.learn(&Task { x: batch.x, lanes, rows, scatter, step, steps, path });
        self.dead.observe(rows, |latent| fired.get(latent).copied().unwrap_or_default());
        StepReport { nnz, squared_error, loss, lr, dead: self.dead.list().len() as u64, ..report }
    }
}

impl<M: Batchwise> DictLearner for Learner<M> {
    fn d_in(&self) -> usize {
        self.method.d_in()
    }

    fn n_latents(&self) -> usize {
        self.method.n_latents()
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport::default();
        }
        self.threads.clone().install(|| self.learn(batch))
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        self.threads.install(|| self.method.freeze(scales.first(), &self.threads))
    }

    fn save(&self) -> LearnerState {
        let mut state = LearnerState::default();
        self.method.save(&mut state);
        state.push_u64("since_tokens", self.dead.since_tokens());
        state.push_u64("step", &[self.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let mut method = self.method.clone();
        method.load(state)?;
        let since_tokens = state.u64("since_tokens", self.dead.since_tokens().len())?;
        self.step = state.u64("step", 1)?.first().copied().unwrap_or_default();
        self.dead.restore(since_tokens);
        self.method = method;
        Ok(())
    }
}
