//! One row group's bytes out of the store, by ranged reads that insist on the planned version.

use super::{ipc, manifest::Shard, parquet};
use crate::error::Result;

/// Bytes of one row group, not yet decoded; `Send`, so that decoding can happen on another thread.
#[derive(Debug, Clone)]
pub struct Fetched {
    pub(crate) parts: Parts,
}

#[derive(Debug, Clone)]
pub(crate) enum Parts {
    Parquet(parquet::Chunks),
    Ipc(ipc::Parts),
}

impl Fetched {
    pub(crate) fn new(parts: Parts) -> Fetched {
        Fetched { parts }
    }

    /// How many bytes are held.
    pub fn bytes(&self) -> u64 {
        match &self.parts {
            Parts::Parquet(chunks) => chunks.data.iter().map(|b| b.len() as u64).sum(),
            Parts::Ipc(parts) => parts.bytes(),
        }
    }
}

/// Reads the needed columns of one row group. An object that is no longer the planned one is a data
/// error; a fault of the store or the network is one to retry.
pub async fn fetch(shard: &Shard, row_group: usize) -> Result<Fetched> {
    let fetched = shard.reader.fetch(row_group).await;
    fetched.map_err(|e| e.object(&shard.url).row_group(row_group))
}
