//! Which shards there are: listing, footers, row counts. Read once, before the plan.

use std::sync::Arc;

/// One object of the activation dataset that will be read.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Full URL, for people and for provenance columns.
    pub url: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// ETag as listed; every read asks for exactly this version where the store has ETags.
    pub etag: Option<String>,
    /// Row groups (Parquet) or record batches (Arrow) in storage order.
    pub row_groups: Vec<RowGroup>,
    /// How to read it.
    pub(crate) reader: Arc<dyn std::any::Any + Send + Sync>,
}

/// The unit of progress and retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// Activations in it.
    pub rows: u64,
    /// Bytes to fetch for the columns that are read.
    pub bytes: u64,
}

/// A shard or part of one that was left out, and why. Becomes a row of the `shards` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Full URL of the object.
    pub url: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// Everything that is known before the first activation is read.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Shards in the order of their URLs.
    pub shards: Vec<Shard>,
    /// Width of the activation vectors.
    pub d_in: usize,
    /// Shards that could not be used (only with `on_bad = "quarantine"`).
    pub quarantined: Vec<Quarantined>,
    /// Which optional columns every shard has: `token_id`, `token`, `doc_id`, `seq_id`, `pos`.
    pub has: Has,
}

/// Which optional columns are present in every shard (and of a usable type).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the columns")]
pub struct Has {
    pub token_id: bool,
    pub token: bool,
    pub doc_id: bool,
    pub seq_id: bool,
    pub pos: bool,
}
