//! Entry points for fuzzing and for figures: whatever the bytes are, the answer is rows or an error.

use std::sync::Arc;

use bytes::Bytes;
use futures::executor::block_on;
use object_store::{ObjectStoreExt, memory::InMemory, path::Path};

use super::{
    Columns, Decoded, Fetched, FilterSpec, OnBad, Shard, SourceSpec, Urls, Want,
    asked::{Asked, Search},
    decode,
    decode::taken_whole,
    object::Object,
    reader::{Kind, Reader},
    shield,
};
use crate::error::{Error, Result};

pub use super::decode::ordinarily;

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

/// Bytes taken for a Parquet file and decoded both ways. Returns the row groups and how many of them
/// the short way took; that the ways differ is a bug.
pub fn parquet_both_ways(bytes: &[u8]) -> Result<(usize, usize)> {
    block_on(async {
        let shard = open(bytes, Kind::Parquet).await?;
        let mut taken = 0;
        for row_group in 0..shard.row_groups.len() {
            taken += usize::from(both_ways(&shard, row_group, shard.reader.fetch(row_group).await?)?);
        }
        Ok((shard.row_groups.len(), taken))
    })
}

fn both_ways(shard: &Shard, row_group: usize, fetched: Fetched) -> Result<bool> {
    let policies = [OnBad::Fail, OnBad::Quarantine];
    let taken = policies.map(|on_bad| {
        let want = Want { token_text: true, on_bad };
        let short = shield::run(|| taken_whole(shard, row_group, &fetched, want));
        let Ok(Some(short)) = short else { return Ok(false) };
        match ordinarily(shard, row_group, fetched.clone(), want) {
            Ok(long) if same(&short, &long) => Ok(true),
            Ok(_) => Err(Error::bug("the short way gives other rows")),
            Err(e) => Err(Error::bug(format!("the short way gives rows, the ordinary reader says {e}"))),
        }
    });
    taken.into_iter().try_fold(false, |any, taken| Ok(any | taken?))
}

fn same(one: &Decoded, other: &Decoded) -> bool {
    let bits = |d: &Decoded| d.x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    one.rows == other.rows && one.tokens == other.tokens && one.bad == other.bad && bits(one) == bits(other)
}

async fn read(bytes: &[u8], kind: Kind) -> Result<u64> {
    rows(&open(bytes, kind).await?).await
}

async fn open(bytes: &[u8], kind: Kind) -> Result<Shard> {
    let spec = spec(bytes);
    let mut object = object(bytes).await?;
    if object.size == 0 {
        return Err(Error::data("is empty"));
    }
    let tail = object.pin(64 << 10).await?;
    let asked = Asked::activation(&spec.columns);
    let main = spec.columns.activation.as_str();
    let search = Search { asked: &asked, main, companions: Some(&spec.columns), dtype: spec.dtype };
    let (layout, format) = Reader::open_as(kind, &object, tail, &search).await?;
    let reader = Reader { object, layout, format };
    // As in a scan: a shard without rows goes no further.
    let row_groups = reader.rows()?;
    let first = row_groups.iter().position(|n| *n > 0).ok_or_else(|| Error::data("holds no rows"))?;
    let d_in = match reader.d_in() {
        Some((d_in, _)) => d_in,
        None => reader.probe(first).await?,
    };
    Shard::new(reader, d_in)
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
