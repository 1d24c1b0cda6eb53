//! The two traits the pipeline knows: a learner while it learns, a dictionary once it is frozen.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    card::{
        Card,
        digest::Digests,
        wire::{Incoming, Sent},
    },
    codes::Codes,
    export::ExportedFile,
    kernels::{Path, lanes},
    skeleton::outside::Outside,
    state::LearnerState,
    stats::FixedPoint,
    threads::Threads,
};

/// Rows of one step: the lanes of the plan, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct ActivationBatch<'a> {
    /// Scaled vectors, row-major `[rows, d_in]`; empty where no learner of the batch reads them here.
    pub x: &'a [f32],
    /// The same on the card of the learner, if they went there before.
    pub sent: Option<&'a Sent>,
    /// First row of each lane, then the number of rows: `lanes + 1` ascending positions.
    pub lanes: &'a [usize],
    /// What somebody has worked out already; a learner works out the rest.
    pub facts: Option<BatchFacts>,
    /// The columns beside the vectors that the learner asked for, in its order: each row-major
    /// `[rows, width]`. See [`Columns`].
    pub beside: &'a [Vec<f32>],
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
        ActivationBatch { x, sent: None, lanes, facts: None, beside: &[] }
    }

    /// The same with the columns that the learner asked for.
    pub fn with_beside(self, beside: &'a [Vec<f32>]) -> Self {
        ActivationBatch { beside, ..self }
    }

    /// The same with facts that [`BatchFacts::of`] found for these rows.
    pub fn with_facts(self, facts: BatchFacts) -> Self {
        ActivationBatch { facts: Some(facts), ..self }
    }

    /// The same with its rows on the card of the learner.
    pub fn with_sent(self, sent: &'a Sent) -> Self {
        ActivationBatch { sent: Some(sent), ..self }
    }

    /// Its rows, for a card.
    pub fn incoming(&self) -> Incoming<'a> {
        self.sent.map_or(Incoming::Here(self.x), Incoming::Sent)
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
    /// The columns beside the sample, like those of a batch.
    pub beside: &'a [Vec<f32>],
    /// Widths of the input columns that make up `d_in`, in order.
    pub input_widths: &'a [usize],
    /// Widths of the columns beside, in order.
    pub beside_widths: &'a [usize],
    /// What the vectors are multiplied by.
    pub scales: Scales,
    /// Files that the learner asked for, by the name it gave them.
    pub files: &'a BTreeMap<String, Vec<u8>>,
    /// Who computes its loss, if it asked for somebody.
    pub outside: Option<Outside>,
    /// The card it learns on, if that is not the CPU.
    pub card: Option<Arc<dyn Card>>,
    /// Kernel threads.
    pub threads: Threads,
}

impl<'a> Setup<'a> {
    /// For a learner of one column that asks for nothing beside it, scaled by 1.
    pub fn plain(d_in: &'a usize, steps: u64, seed: u64, sample: &'a [f32], threads: Threads) -> Self {
        static NOTHING: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        Setup {
            d_in: *d_in,
            steps,
            seed,
            sample,
            beside: &[],
            input_widths: std::slice::from_ref(d_in),
            beside_widths: &[],
            scales: Scales::of(1.0),
            files: &NOTHING,
            outside: None,
            card: None,
            threads,
        }
    }
}

/// What vectors were multiplied by before learning: one number per column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// Of the input columns, in order.
    pub inputs: Vec<f32>,
    /// Of the columns beside, in order; 1 for labels.
    pub beside: Vec<f32>,
}

impl Scales {
    /// Of a single input column.
    pub fn of(scale: f32) -> Self {
        Scales { inputs: vec![scale], beside: Vec::new() }
    }

    /// Of the first input column: what learners of one column fold into their weights.
    pub fn first(&self) -> f32 {
        self.inputs.first().copied().unwrap_or(1.0)
    }
}

/// The columns a learner reads of each row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// Vectors it encodes, one after the other. Empty: the activation column of its table.
    pub inputs: Vec<String>,
    /// Columns beside them.
    pub beside: Vec<Beside>,
}

/// A column beside the vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beside {
    /// Its name in the shards.
    pub name: String,
    /// What it is for.
    pub role: Role,
}

/// What a column beside the vectors is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A vector to reconstruct instead of the input, with a scale of its own. At most one; harvest reads
    /// it, too: reconstructions are compared with it.
    Target,
    /// A vector that is divided by the scale of the input, such as the gradient of a loss.
    Gradient,
    /// Numbers or truth values as they are, one or a list per row; NaN where the value is null.
    Label,
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
    /// Whether steps read [`ActivationBatch::x`] also where the rows are on the learner's card.
    fn reads_rows(&self) -> bool {
        true
    }
    /// One update.
    fn step(&mut self, batch: &ActivationBatch) -> StepReport;
    /// The dictionary learned so far, for vectors that were multiplied by `scales` before learning.
    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary>;
    /// All that a later process needs to go on.
    fn save(&self) -> LearnerState;
    /// Goes on from a saved state.
    ///
    /// # Errors
    /// The state belongs to another learner; nothing is changed then.
    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch>;
}

/// `pre_acts = (x − b_dec)·rowsᵀ + bias`.
#[derive(Debug, Clone, Copy)]
pub struct LinearEncoder<'a> {
    /// Directions, row-major `[n_latents, d_in]`.
    pub rows: &'a [f32],
    /// Biases, `[n_latents]`.
    pub bias: &'a [f32],
}

/// A frozen dictionary in the units of the input data: what harvest encodes with and what is exported.
///
/// Encoding is a function of the rows alone: any grouping of rows into blocks gives the same codes.
pub trait Dictionary: Send + Sync {
    /// Width of the vectors.
    fn d_in(&self) -> usize;
    /// Width of what it reconstructs.
    fn d_out(&self) -> usize {
        self.d_in()
    }
    /// Number of latents.
    fn n_latents(&self) -> usize;
    /// Codes of `x`, row-major `[rows, d_in]`.
    fn encode(&self, x: &[f32]) -> Codes;
    /// Reconstruction of `codes` into `x_hat`, row-major `[rows, d_out]`, overwritten.
    fn decode(&self, codes: &Codes, x_hat: &mut [f32]);
    /// Reconstruction of the rows `x`, `[rows, d_in]`, of which `codes` are the codes. The same as
    /// [`Dictionary::decode`], unless the reconstruction takes a way around the codes, too.
    fn reconstruct(&self, _x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
        self.decode(codes, x_hat);
    }
    /// What encodes the rows of one shard and counts their codes in one go; `None` where codes have to be looked at
    /// here. It reconstructs what it encodes, as [`Dictionary::decode`] does, up to rounding.
    fn digests(&self, _fixed: FixedPoint) -> Option<Box<dyn Digests>> {
        None
    }
    /// Atoms, row-major `[n_latents, d_out]`, unit norm unless the method leaves it free.
    fn atoms(&self) -> &[f32];
    /// Encoder directions and biases, if a latent is a function of one product with the vector.
    fn linear_encoder(&self) -> Option<LinearEncoder<'_>>;
    /// The dictionary as files that other people's programs load.
    ///
    /// # Errors
    /// A tensor does not fit its shape (a bug).
    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch>;
}
