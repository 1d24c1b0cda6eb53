//! What commits hold. Names are functions of the plan.

use atomflow_schemas::manifest::{Commit, FileEntry};
use atomflow_workers::learner::StepReport;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    Error, Result, calibrate::Calibration, device::WindowReport, operators::accumulate::ShardCounts,
};

/// Prefix of the commits of the training phase, one per checkpoint.
pub(super) const TRAIN: &str = "train-";
/// Name of the commit that ends the training phase.
pub(super) const FREEZE: &str = "freeze";
/// Prefix of the commits of the harvest phase, one per shard.
pub(super) const HARVEST: &str = "harvest-";

/// Body of `train-<windows done>`: everything up to there, and the metrics since the commit before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TrainCommit {
    /// Windows learned from.
    pub(super) windows: u64,
    /// Windows of the run.
    pub(super) windows_total: u64,
    /// Constants of the run.
    pub(super) calibration: Calibration,
    /// One entry per window since the commit before this one.
    pub(super) metrics: Vec<WindowMetrics>,
}

/// A row of `train_metrics`. No times: the table is a function of spec and data.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct WindowMetrics {
    pub(super) window: u64,
    pub(super) step: u64,
    pub(super) rows: u64,
    pub(super) nnz: u64,
    pub(super) squared_error: f64,
    pub(super) scatter: f64,
    pub(super) loss: f64,
    pub(super) aux_loss: f64,
    pub(super) lr: f64,
    pub(super) dead: u64,
}

impl WindowMetrics {
    pub(super) fn of(report: &WindowReport, sums: &StepReport) -> Self {
        WindowMetrics {
            window: report.window,
            step: report.step,
            rows: sums.rows,
            nnz: sums.nnz,
            squared_error: sums.squared_error,
            scatter: sums.scatter,
            loss: sums.loss,
            aux_loss: sums.aux_loss,
            lr: sums.lr,
            dead: sums.dead,
        }
    }

    /// FVU of the window, each batch measured before its step. 0 for a window without variance.
    pub(super) fn fvu(&self) -> f64 {
        if self.scatter > 0.0 { self.squared_error / self.scatter } else { 0.0 }
    }

    /// Mean latents per row.
    pub(super) fn l0(&self) -> f64 {
        self.nnz as f64 / self.rows.max(1) as f64
    }
}

/// Body of `harvest-<shard>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HarvestCommit {
    /// Index into the manifest.
    pub(super) shard: u32,
    /// Shards of the run.
    pub(super) shards_total: u64,
    /// What became of its rows.
    pub(super) counts: ShardCounts,
}

/// A value of ours as JSON.
pub(super) fn to_json(value: &impl Serialize) -> Result<Value> {
    serde_json::to_value(value).map_err(|e| Error::bug(format!("a value of ours is not JSON: {e}")))
}

/// The body of a commit.
pub(super) fn body<T: DeserializeOwned>(commit: &Commit) -> Result<T> {
    serde_json::from_value(commit.body.clone())
        .map_err(|e| Error::data(format!("commit `{}` cannot be read: {e}", commit.name)))
}

/// The one file of a commit that has one.
pub(super) fn only_file(commit: &Commit) -> Result<&FileEntry> {
    commit.files.first().ok_or_else(|| Error::data(format!("commit `{}` names no file", commit.name)))
}
