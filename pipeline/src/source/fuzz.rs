//! Entry points for fuzzing: whatever the bytes are, the answer is rows or an error.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use object_store::{ObjectStoreExt, memory::InMemory, path::Path};

use super::{
    Columns, FilterSpec, OnBad, Shard, SourceSpec, Urls, Want, decode,
    object::Object,
    reader::{Kind, Reader},
};
use crate::error::{Error, Result};

/// Bytes taken for a Parquet file. Returns the rows decoded.
pub fn parquet(bytes: &[u8]) -> Result<u64> {
    block_on(read(bytes, Kind::Parquet))
}

/// Bytes taken for an Arrow IPC file.
pub fn arrow_file(bytes: &[u8]) -> Result<u64> {
    block_on(read(bytes, Kind::ArrowFile))
}

/// Bytes taken for an Arrow IPC stream.
pub fn arrow_stream(bytes: &[u8]) -> Result<u64> {
    block_on(read(bytes, Kind::ArrowStream))
}

async fn read(bytes: &[u8], kind: Kind) -> Result<u64> {
    let spec = spec(bytes);
    let mut object = object(bytes).await?;
    if object.size == 0 {
        return Err(Error::data("is empty"));
    }
    let tail = object.pin(64 << 10).await?;
    let (layout, format) = Reader::open_as(kind, &object, tail, &spec).await?;
    let reader = Reader { object, layout, format };
    // As in a scan: a shard without rows goes no further.
    let row_groups = reader.rows()?;
    let first = row_groups.iter().position(|n| *n > 0).ok_or_else(|| Error::data("holds no rows"))?;
    let d_in = match reader.d_in() {
        Some((d_in, _)) => d_in,
        None => reader.probe(first).await?,
    };
    rows(&Shard::new(reader, d_in)?).await
}

async fn rows(shard: &Shard) -> Result<u64> {
    let want = Want { token_text: true, on_bad: OnBad::Quarantine };
    let mut rows = 0;
    for row_group in 0..shard.row_groups.len() {
        let fetched = shard.reader.fetch(row_group).await?;
        rows += decode(shard, row_group, fetched, want)?.rows as u64;
    }
    Ok(rows)
}

async fn object(bytes: &[u8]) -> Result<Object> {
    let (store, path) = (InMemory::new(), Path::from("fuzz"));
    let put = store.put(&path, Bytes::copy_from_slice(bytes).into()).await;
    put.map_err(|e| Error::bug(e.to_string()))?;
    let size = bytes.len() as u64;
    Ok(Object { store: Arc::new(store), path, url: "fuzz".to_owned(), size, etag: None })
}

/// The SAELens layout has its own column name; everything else uses the defaults.
fn spec(bytes: &[u8]) -> SourceSpec {
    let saelens = b"blocks.0.hook_mlp_out";
    let mut columns = Columns::default();
    if bytes.windows(saelens.len()).any(|w| w == saelens) {
        columns.activation = String::from_utf8_lossy(saelens).into_owned();
    }
    SourceSpec {
        hookpoint: None,
        url: Urls::One("fuzz".to_owned()),
        columns,
        dtype: Some(super::Dtype::F16),
        filter: FilterSpec::default(),
        on_bad: OnBad::Quarantine,
        prefetch_bytes: 0,
    }
}
