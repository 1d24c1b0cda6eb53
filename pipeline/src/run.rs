//! The order in which a job happens: scan, plan, calibrate, train, freeze, harvest, publish.

use std::collections::BTreeMap;

use atomflow_schemas::manifest::LearnerFailure;
use atomflow_workers::{
    card::{Arithmetic, MomentsIn, Precision, Split},
    interp::HarvestSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::engine::{Layout, Streamed, check, inspect, made_up, resume, rows, run, stream};
use crate::{
    Error, Result, calibrate::NormalizeSpec, error::Kind, failures, learners::Learners, plan::PlanSpec,
    source::SourceSpec,
};

/// Everything that decides the bytes of a run. `jobs` composes it from a spec file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Name of the job; part of the run id.
    pub name: String,
    /// Seed of everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// Where the activations are.
    pub source: SourceSpec,
    /// In which order rows are seen.
    #[serde(default)]
    pub plan: PlanSpec,
    /// How rows are scaled before learning.
    #[serde(default)]
    pub normalize: NormalizeSpec,
    /// What learns: one table, or a list of them that share one reading.
    pub learner: Learners,
    /// What is collected afterwards.
    #[serde(default)]
    pub harvest: HarvestSpec,
}

/// `[runtime]`: how the job is run. Nothing here changes a byte of the result, but for the card: sums run
/// in another order there, and a `precision` below f32 and moments in 8 bits round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeSpec {
    /// Timely workers in this process.
    pub workers: usize,
    /// Kernel threads; 0 means one per core.
    pub threads: usize,
    /// Where steps run: `cpu`, `cuda:0` for one card, `cuda:*` for all; learners take turns on them.
    pub device: String,
    /// How a card multiplies rows and encoder: `f32` exactly, `tf32` or `bf16` on tensor cores.
    pub precision: Precision,
    /// How a card keeps the optimizer's moments: `f32`, or `8bit` in a quarter of the memory.
    pub moments: MomentsIn,
    /// How several cards share a single learner: its `latents`, or the `rows` of each batch.
    pub split: Split,
    /// Windows between two checkpoints.
    pub checkpoint_windows: usize,
}

/// The device that is always there.
pub const CPU: &str = "cpu";

impl Default for RuntimeSpec {
    fn default() -> Self {
        RuntimeSpec {
            workers: 1,
            threads: 0,
            device: CPU.to_owned(),
            precision: Precision::F32,
            moments: MomentsIn::F32,
            split: Split::Latents,
            checkpoint_windows: 4,
        }
    }
}

impl RuntimeSpec {
    /// What cards are opened for.
    pub fn arithmetic(&self) -> Arithmetic {
        Arithmetic { precision: self.precision, moments: self.moments }
    }
}

/// What a run tells whoever watches it, as it happens.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run has an identity and a place.
    Started {
        /// Run id: the hash of spec and plan.
        run: String,
        /// Where the results go.
        out: String,
        /// Whether an earlier, interrupted process of the same run is continued.
        resumed: bool,
    },
    /// Something worth one line (calibration constants, quarantined shards, …).
    Note {
        /// The line.
        message: String,
    },
    /// Training moved on.
    Train(TrainProgress),
    /// Harvest moved on.
    Harvest(HarvestProgress),
    /// A conversion moved on.
    Convert(ConvertProgress),
    /// Tables are being written.
    Publish {
        /// Name of the learner, where there are several.
        #[serde(skip_serializing_if = "Option::is_none")]
        learner: Option<String>,
        /// Name of the table.
        table: String,
        /// Its rows.
        rows: u64,
    },
}

/// Where training stands. Rates are over the time since training began in this process.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TrainProgress {
    /// Steps done and planned.
    pub step: u64,
    /// Steps of the whole job.
    pub steps: u64,
    /// Windows done.
    pub window: u64,
    /// Windows of the whole job.
    pub windows: u64,
    /// Rows learned from since the run began.
    pub tokens: u64,
    /// Planned rows read per second.
    pub rows_per_s: f64,
    /// Bytes fetched per second, in GB.
    pub gb_per_s: f64,
    /// Share of the time there was nothing to compute: rows were not there yet, on the card where steps run on one.
    pub wait_share: f64,
    /// FVU of the last window, before each step (prequential). Of several learners, the lowest.
    pub fvu: f64,
    /// Mean latents per row in the last window, of that learner.
    pub l0: f64,
    /// Dead latents now, of that learner.
    pub dead: u64,
    /// Where there are several: each that goes on, in the order of the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<LearnerProgress>,
    /// Seconds to the end of training at this rate.
    pub left_s: f64,
}

/// Where one of several learners stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LearnerProgress {
    /// Its name.
    pub name: String,
    /// FVU of the last window.
    pub fvu: f64,
    /// Mean latents per row in the last window.
    pub l0: f64,
    /// Dead latents now.
    pub dead: u64,
}

/// Where harvest stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct HarvestProgress {
    /// Shards finished.
    pub shard: u64,
    /// Shards of the whole job.
    pub shards: u64,
    /// Rows encoded since harvest began in this process.
    pub rows: u64,
    /// Rows to encode in this process.
    pub rows_total: u64,
    /// Rows per second.
    pub rows_per_s: f64,
    /// Bytes fetched per second, in GB.
    pub gb_per_s: f64,
    /// Seconds to the end of harvest at this rate.
    pub left_s: f64,
}

/// Where a conversion stands.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConvertProgress {
    /// Shards written, by earlier processes too.
    pub shards: u64,
    /// Rows read by this process.
    pub rows: u64,
    /// Rows to read in this process.
    pub rows_total: u64,
    /// Rows per second.
    pub rows_per_s: f64,
    /// Bytes fetched per second, in GB.
    pub gb_per_s: f64,
    /// Seconds to the end at this rate.
    pub left_s: f64,
    /// Whether all shards are written.
    pub done: bool,
}

/// Receives events; must not block for long.
pub trait Watch: Send + Sync {
    /// One event, in order, possibly from several threads.
    fn event(&self, event: &Event);
}

/// What a finished run made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Run id.
    pub run: String,
    /// Name of each table and where it is (a directory with Parquet parts and `_delta_log`). Of
    /// several learners, a glob over all of them.
    pub tables: BTreeMap<String, String>,
    /// Directory of the exported dictionary (SAELens layout); of several learners, a glob.
    pub dictionary: String,
    /// How good it is. Of several learners, what they have in common: tokens and seconds.
    pub metrics: Metrics,
    /// Share of the time of training in this process that there was nothing to compute: rows were not there yet, on
    /// the card where steps run on one. `None` if this process did not train. Not written down: that tells of the run.
    #[serde(skip)]
    pub wait_share: Option<f64>,
    /// Where there are several: each, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<LearnerOutcome>,
}

impl Outcome {
    /// The error that a run of several learners ends with when some of them failed: that of the first,
    /// a bug before all others.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<()> {
        let failed: Vec<&LearnerOutcome> = self.learners.iter().filter(|l| l.failed.is_some()).collect();
        let errors: Vec<Error> =
            failed.iter().filter_map(|l| l.failed.as_ref()).map(failures::error).collect();
        let Some(first) = errors.iter().find(|e| e.kind == Kind::Bug).or(errors.first()) else {
            return Ok(());
        };
        let said: Vec<String> =
            failed.iter().zip(&errors).map(|(l, e)| format!("`{}` {}", l.name, e.message())).collect();
        let message =
            format!("{} of {} learners failed: {}", failed.len(), self.learners.len(), said.join("; "));
        let mut error = Error::new(first.kind, message);
        if let Some(field) = &first.place().field {
            error = error.field(field.clone());
        }
        let hint = first.what_to_do().unwrap_or_default();
        Err(error.hint(format!("{hint}; what the others learned is published")))
    }
}

/// What became of one of several learners.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LearnerOutcome {
    /// Its name.
    pub name: String,
    /// Latents of its dictionary.
    pub n_latents: u64,
    /// Latents per row, as the spec says it; `None` if the learner fixes none.
    pub k: Option<u64>,
    /// Name of each table and where it is; empty if it failed.
    pub tables: BTreeMap<String, String>,
    /// Directory of the exported dictionary.
    pub dictionary: String,
    /// How good it is; nothing is known of one that failed.
    pub metrics: Option<Metrics>,
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<LearnerFailure>,
}

/// The figures a run ends with.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Metrics {
    /// FVU of held-out kept rows.
    pub heldout_fvu: Option<f64>,
    /// FVU of training rows under the final dictionary.
    pub train_fvu: Option<f64>,
    /// FVU of all rows, filtered ones included.
    pub all_fvu: Option<f64>,
    /// Mean latents per held-out row.
    pub l0: Option<f64>,
    /// With `harvest.coder`, whose codes all other figures are about: what the encoder leaves to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amortisation: Option<Amortisation>,
    /// Description length of the codes of a kept row, in bits: each latent by itself, magnitudes to half
    /// an octave.
    #[serde(default)]
    pub bits_per_token: Option<f64>,
    /// Latents that never fired during harvest.
    pub dead: u64,
    /// Rows learned from, over all passes.
    pub tokens: u64,
    /// Wall seconds of this process.
    pub seconds: f64,
    /// How the encoder of training ran in the end: `f32` or `int8 pre-screen`, whichever was measured
    /// to be faster; on a card, its kind and precision. No other figure depends on it.
    #[serde(default)]
    pub encoder: String,
}

/// A coder against the learner's own encoder, on the same held-out rows and the same atoms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Amortisation {
    /// The coder, as the spec names it.
    pub coder: String,
    /// FVU of held-out kept rows under the encoder.
    pub encoder_fvu: Option<f64>,
    /// Mean latents per held-out row under the encoder.
    pub encoder_l0: Option<f64>,
    /// The amortisation gap: FVU of the encoder less FVU of the coder. It says what it is called only where
    /// both find about as many latents; the lasso shrinks its codes, too, and may be negative here.
    pub gap: Option<f64>,
}

/// What lies on a card while a job trains.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CardPlan {
    /// The card.
    pub name: String,
    /// Parameters, moments, a batch, its residuals and a chunk of scores.
    pub bytes: u64,
    /// What the card has.
    pub memory_bytes: Option<u64>,
    /// Where that is too little: what would fit, with the bytes it needs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fits: Vec<String>,
}

/// What `atomflow check` prints: the plan before anything is spent.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckReport {
    /// Run id the job would get.
    pub run: String,
    /// Hash of the plan.
    pub plan: String,
    /// Shards to read.
    pub shards: u64,
    /// Shards left out, with reasons.
    pub quarantined: Vec<(String, String)>,
    /// Rows in the shards.
    pub rows: u64,
    /// Bytes to fetch per pass.
    pub bytes: u64,
    /// Width of what a learner encodes; the largest, of several.
    pub d_in: u64,
    /// Latents, of all learners together.
    pub n_latents: u64,
    /// Name, latents and latents per row of each learner.
    pub learners: Vec<(String, u64, Option<u64>)>,
    /// Windows over all passes.
    pub windows: u64,
    /// Optimizer steps over all passes.
    pub steps: u64,
    /// Optional columns that all shards have.
    pub columns: Vec<String>,
    /// Columns that learners read, with their widths: `activation (576 values)`.
    pub reads: Vec<String>,
    /// Memory for parameters and optimizer, bytes.
    pub model_bytes: u64,
    /// Memory for windows, prefetch and harvest per process, bytes.
    pub data_bytes: u64,
    /// What lies on each card; none for the CPU.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cards: Vec<CardPlan>,
    /// Floating-point operations of training.
    pub train_flops: f64,
    /// Floating-point operations of harvest.
    pub harvest_flops: f64,
    /// Encoder GFLOP/s of this machine, from a one-second measurement.
    pub measured_gflops: f64,
    /// Estimated seconds of training and harvest on this machine.
    pub estimated_s: f64,
    /// Things worth knowing before starting (missing columns, small held-out share, …).
    pub notes: Vec<String>,
}

/// What `atomflow inspect` prints: how far a run is and what it has made.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inspection {
    /// Run id.
    pub run: String,
    /// Name of the job.
    pub name: String,
    /// `calibrating`, `training`, `harvesting`, `publishing` or `done`.
    pub state: String,
    /// Generation of the newest process.
    pub generation: u64,
    /// Windows trained and committed, of how many.
    pub windows: (u64, u64),
    /// Shards harvested and committed, of how many.
    pub shards: (u64, u64),
    /// Columns that learners read.
    pub columns: Vec<String>,
    /// Where there are several learners: each, in the order of the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<LearnerInspection>,
    /// The outcome, when done.
    pub outcome: Option<Outcome>,
}

/// How far one of several learners is.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LearnerInspection {
    /// Its name.
    pub name: String,
    /// As for the run, or `failed`.
    pub state: String,
    /// Windows trained and committed, of how many.
    pub windows: (u64, u64),
    /// Shards harvested and committed, of how many.
    pub shards: (u64, u64),
    /// Why it failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<LearnerFailure>,
}
