//! What a conversion writes about itself: a commit per shard, and `convert.json` at the end.

use atomflow_schemas::manifest::{FORMAT, FileEntry};
use serde::{Deserialize, Serialize};

use super::Checksum;
use crate::source::{Dtype, Quarantined};

/// Prefix of the commits, one per shard written.
pub(super) const PREFIX: &str = "convert-";

/// A row of the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) shard: usize,
    pub(super) row_group: usize,
    /// Among the usable rows of the row group.
    pub(super) row: usize,
}

/// Body of `convert-<shard>`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct ShardCommit {
    pub(super) file: ShardFile,
    /// Checksum of the same rows as they were read.
    pub(super) source_checksum: Checksum,
    pub(super) values_rounded: u64,
    pub(super) left_out: Vec<LeftOut>,
    /// The first row of the source that is not in this shard or one before it.
    pub(super) next: Place,
}

/// One shard that was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFile {
    /// Path below the output directory.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the object, lower-case hex.
    pub sha256: String,
    /// Activations in it.
    pub rows: u64,
    /// Of the values written.
    pub checksum: Checksum,
}

impl ShardFile {
    pub(super) fn name(&mut self, file: &FileEntry) {
        let FileEntry { path, size_bytes, sha256 } = file.clone();
        *self = ShardFile { path, size_bytes, sha256, ..self.clone() };
    }
}

/// Rows of the source that hold no usable vector; only under quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// The object.
    pub url: String,
    /// The row group; none if the whole object was left out.
    pub row_group: Option<usize>,
    /// How many rows; none if that cannot be known.
    pub rows: Option<u64>,
    /// Why.
    pub reason: String,
}

impl LeftOut {
    pub(super) fn shard(quarantined: &Quarantined) -> LeftOut {
        let Quarantined { url, reason } = quarantined.clone();
        LeftOut { url, row_group: None, rows: None, reason }
    }
}

/// `convert.json`: the conversion is complete. A function of source and settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Converted {
    /// Version of this object, 1.
    pub format: u32,
    /// Identity: the hash of source and settings.
    pub run: String,
    /// Values per vector.
    pub d_in: usize,
    /// Element type written.
    pub dtype: Dtype,
    /// Activations in all shards.
    pub rows: u64,
    /// Sum of the shards' checksums: of the values written.
    pub checksum: Checksum,
    /// Checksum of the same rows as they were read: differs only if values were rounded.
    pub source_checksum: Checksum,
    /// Values that the element type could not hold exactly.
    pub values_rounded: u64,
    /// What is not in the shards.
    pub left_out: Vec<LeftOut>,
    /// The shards in order.
    pub files: Vec<ShardFile>,
}

impl Converted {
    pub(super) fn new(
        run: &str,
        d_in: usize,
        dtype: Dtype,
        done: &[ShardCommit],
        left_out: Vec<LeftOut>,
    ) -> Converted {
        let files: Vec<ShardFile> = done.iter().map(|shard| shard.file.clone()).collect();
        Converted {
            format: FORMAT,
            run: run.to_owned(),
            d_in,
            dtype,
            rows: files.iter().map(|file| file.rows).sum(),
            checksum: files.iter().map(|file| file.checksum).sum(),
            source_checksum: done.iter().map(|shard| shard.source_checksum).sum(),
            values_rounded: done.iter().map(|shard| shard.values_rounded).sum(),
            left_out,
            files,
        }
    }
}
