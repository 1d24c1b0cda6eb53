//! The plan: which row is in which window, lane and slot. A pure function, computed before the first read.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[plan]`: in which order rows are seen. Every field changes the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlanSpec {
    /// Rows of one optimizer step, before filtered and held-out rows are taken out.
    pub batch_rows: usize,
    /// Rows shuffled together; two windows are in memory at a time.
    pub window_rows: usize,
    /// Virtual lanes rows are dealt to. Fixed per job, not per machine: sums run in lane order, so
    /// any number of workers that divides the work differently gives the same bytes.
    pub lanes: usize,
    /// How many times the whole dataset is read for training.
    pub passes: usize,
    /// Share of documents that never train; the published quality comes from them.
    pub heldout: f64,
}

impl Default for PlanSpec {
    fn default() -> Self {
        PlanSpec { batch_rows: 4096, window_rows: 65_536, lanes: 8, passes: 1, heldout: 0.05 }
    }
}
