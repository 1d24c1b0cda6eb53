//! Tables whose rows come from the run itself: what was read, how learning went, what operators did.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use atomflow_schemas::table;

use super::publish::batch;
use crate::Result;

/// A row of `shards`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShardRecord {
    /// URL of the object.
    pub url: String,
    /// Its size.
    pub size_bytes: u64,
    /// Rows in its footer.
    pub rows: u64,
    /// Row groups or record batches.
    pub row_groups: u64,
    /// Kept rows that train.
    pub kept_train: u64,
    /// Kept rows that never train.
    pub heldout: u64,
    /// Left out by position.
    pub dropped_pos: u64,
    /// Left out by token id.
    pub dropped_token_id: u64,
    /// Left out by norm.
    pub dropped_norm: u64,
    /// Rows without a usable vector.
    pub bad_rows: u64,
    /// Why it was quarantined; `None` if it was read.
    pub quarantined: Option<String>,
}

/// A row of `train_metrics`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TrainRecord {
    /// Optimizer step, from 1.
    pub step: u64,
    /// Window of the plan.
    pub window: u64,
    /// Rows learned from so far.
    pub tokens: u64,
    /// FVU before the update.
    pub fvu: f64,
    /// Mean latents per row.
    pub l0: f64,
    /// Dead latents.
    pub dead: u64,
    /// Total loss.
    pub loss: f64,
    /// Auxiliary part.
    pub aux_loss: f64,
    /// Learning rate.
    pub lr: f64,
}

/// A row of `operator_stats`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorRecord {
    /// Name of the operator.
    pub operator: String,
    /// `train` or `harvest`.
    pub phase: String,
    /// Rows it handled.
    pub rows: u64,
    /// Bytes it handled.
    pub bytes: u64,
    /// Blocks it handled.
    pub blocks: u64,
}

/// The table `shards`.
pub fn shards(run_id: &str, records: &[ShardRecord]) -> Result<RecordBatch> {
    let counts = |get: fn(&ShardRecord) -> u64| int64s(records, get);
    let status = |r: &ShardRecord| if r.quarantined.is_some() { "quarantined" } else { "read" };
    let columns = vec![
        run_ids(run_id, records.len()),
        texts(records, |r| &r.url),
        counts(|r| r.size_bytes),
        counts(|r| r.rows),
        counts(|r| r.row_groups),
        counts(|r| r.kept_train),
        counts(|r| r.heldout),
        counts(|r| r.dropped_pos),
        counts(|r| r.dropped_token_id),
        counts(|r| r.dropped_norm),
        counts(|r| r.bad_rows),
        Arc::new(StringArray::from_iter_values(records.iter().map(status))),
        Arc::new(records.iter().map(|r| r.quarantined.as_deref()).collect::<StringArray>()),
    ];
    batch(&table::SHARDS, columns)
}

/// The table `train_metrics`.
pub fn train_metrics(run_id: &str, records: &[TrainRecord]) -> Result<RecordBatch> {
    let reals = |get: fn(&TrainRecord) -> f64| {
        Arc::new(Float64Array::from_iter_values(records.iter().map(get))) as ArrayRef
    };
    let columns = vec![
        run_ids(run_id, records.len()),
        int64s(records, |r| r.step),
        int64s(records, |r| r.window),
        int64s(records, |r| r.tokens),
        reals(|r| r.fvu),
        reals(|r| r.l0),
        int64s(records, |r| r.dead),
        reals(|r| r.loss),
        reals(|r| r.aux_loss),
        reals(|r| r.lr),
    ];
    batch(&table::TRAIN_METRICS, columns)
}

/// The table `operator_stats`.
pub fn operator_stats(run_id: &str, records: &[OperatorRecord]) -> Result<RecordBatch> {
    let columns = vec![
        run_ids(run_id, records.len()),
        texts(records, |r| &r.operator),
        texts(records, |r| &r.phase),
        int64s(records, |r| r.rows),
        int64s(records, |r| r.bytes),
        int64s(records, |r| r.blocks),
    ];
    batch(&table::OPERATOR_STATS, columns)
}

fn run_ids(run_id: &str, rows: usize) -> ArrayRef {
    Arc::new(StringArray::from(vec![run_id; rows]))
}

fn texts<T>(records: &[T], get: fn(&T) -> &String) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(records.iter().map(get)))
}

fn int64s<T>(records: &[T], get: fn(&T) -> u64) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(records.iter().map(|record| get(record) as i64)))
}
