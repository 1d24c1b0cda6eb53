//! The two traits the pipeline knows: a learner while it learns, a dictionary once it is frozen.

use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::{Path, lanes},
    state::LearnerState,
    threads::Threads,
};

/// Rows of one step: the lanes of the plan, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct ActivationBatch<'a> {
    /// Scaled vectors, row-major `[rows, d_in]`.
    pub x: &'a [f32],
    /// First row of each lane, then the number of rows: `lanes + 1` ascending positions.
    pub lanes: &'a [usize],
    /// What somebody has worked out already; a learner works out the rest.
    pub facts: Option<BatchFacts>,
}

/// What depends on the rows alone: the same for every learner that takes the same batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchFacts {
    /// `Σ‖x − x̄‖²`, x̄ the mean of the batch.
    pub scatter: f64,
}

impl BatchFacts {
    /// The facts of `x`, `[rows, d_in]`, cut into `lanes`. The bits do not depend on who asks.
    pub fn of(x: &[f32], d_in: usize, lanes: &[usize], threads: &Threads) -> Self {
        threads.install(|| BatchFacts::here(Path::best(), x, d_in, lanes))
    }

    /// [`BatchFacts::of`] on the current rayon pool.
    pub(crate) fn here(path: Path, x: &[f32], d_in: usize, lanes: &[usize]) -> Self {
        BatchFacts { scatter: lanes::moments(path, x, d_in, lanes).scatter(x.len() / d_in.max(1)) }
    }
}

impl<'a> ActivationBatch<'a> {
    /// Rows and lanes; nothing is known about them yet.
    pub fn new(x: &'a [f32], lanes: &'a [usize]) -> Self {
        ActivationBatch { x, lanes, facts: None }
    }

    /// The same with facts that [`BatchFacts::of`] found for these rows.
    pub fn with_facts(self, facts: BatchFacts) -> Self {
        ActivationBatch { facts: Some(facts), ..self }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lanes.last().copied().unwrap_or(0)
    }
}

/// What a learner is told before its first step.
#[derive(Debug, Clone)]
pub struct Setup<'a> {
    /// Width of the vectors.
    pub d_in: usize,
    /// Optimizer steps of the whole run, for schedules.
    pub steps: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Calibration sample, scaled, `[rows, d_in]`.
    pub sample: &'a [f32],
    /// Kernel threads.
    pub threads: Threads,
}

/// What one step did. Sums, so that the reports of a window add up.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct StepReport {
    /// Rows learned from.
    pub rows: u64,
    /// Pairs in the codes; divided by `rows`, the L0.
    pub nnz: u64,
    /// `Σ‖x − x_hat‖²`, before the step.
    pub squared_error: f64,
    /// `Σ‖x − x̄‖²`, x̄ the mean of the batch.
    pub scatter: f64,
    /// The loss that was minimised.
    pub loss: f64,
    /// Auxiliary loss, before its coefficient.
    pub aux_loss: f64,
    /// Learning rate of the step.
    pub lr: f64,
    /// Latents dead after the step.
    pub dead: u64,
}

impl StepReport {
    /// The step met numbers that are not finite; nothing that is learned from here on means anything.
    /// The learner can be stepped on without harm to anybody else.
    pub fn diverged(&self) -> bool {
        !self.loss.is_finite()
    }
}

/// A saved state that does not belong to this learner.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(pub String);

/// What the pipeline trains. Every learner is this.
///
/// A step is a function of (state, batch): on the CPU the same inputs give the same bytes, whatever
/// the number of threads.
pub trait DictLearner: Send {
    /// Width of the vectors.
    fn d_in(&self) -> usize;
    /// Number of latents.
    fn n_latents(&self) -> usize;
    /// One update.
    fn step(&mut self, batch: &ActivationBatch) -> StepReport;
    /// The dictionary learned so far, for vectors that were multiplied by `scale` before learning.
    fn freeze(&self, scale: f32) -> Box<dyn Dictionary>;
    /// All that a later process needs to go on.
    fn save(&self) -> LearnerState;
    /// Goes on from a saved state.
    ///
    /// # Errors
    /// The state belongs to another learner; nothing is changed then.
    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch>;
}

/// A frozen dictionary in the units of the input data: what harvest encodes with and what is exported.
///
/// Encoding is a function of the rows alone: any grouping of rows into blocks gives the same codes.
pub trait Dictionary: Send + Sync {
    /// Width of the vectors.
    fn d_in(&self) -> usize;
    /// Number of latents.
    fn n_latents(&self) -> usize;
    /// Codes of `x`, row-major `[rows, d_in]`.
    fn encode(&self, x: &[f32]) -> Codes;
    /// Reconstruction of `codes` into `x_hat`, row-major `[rows, d_in]`, overwritten.
    fn decode(&self, codes: &Codes, x_hat: &mut [f32]);
    /// Atoms, row-major `[n_latents, d_in]`, unit norm.
    fn atoms(&self) -> &[f32];
    /// Encoder directions, row-major `[n_latents, d_in]`.
    fn encoder_rows(&self) -> &[f32];
    /// Encoder bias, `[n_latents]`.
    fn encoder_bias(&self) -> &[f32];
    /// The dictionary as files that other people's programs load.
    ///
    /// # Errors
    /// A tensor does not fit its shape (a bug).
    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch>;
}
