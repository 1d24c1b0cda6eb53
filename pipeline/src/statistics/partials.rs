//! Where partials are read from: memory or Parquet bytes, all or a range of latents.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::concat_batches,
    datatypes::{Field, Schema},
};
use atomflow_schemas::partial::Partial;
use atomflow_workers::stats::ShardPartial;
use bytes::Bytes;
use parquet::{
    arrow::{
        ProjectionMask,
        arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder},
    },
    file::{
        metadata::{ParquetMetaDataReader, RowGroupMetaData},
        statistics::Statistics,
    },
};

use super::{columns::int32s, kept::Kept};
use crate::{Error, Result};

/// Reads partials of shards.
pub trait PartialSource: Send + Sync {
    /// The rows of one partial that concern `latents`: those of `latents` and `samples`, pairs whose
    /// smaller latent is in the range, everything of the other kinds.
    fn read(&self, shard: u32, partial: Partial, latents: Range<u32>) -> Result<RecordBatch>;

    /// The same rows without the columns that are lists, which are most of the bytes.
    fn keys(&self, shard: u32, partial: Partial, latents: Range<u32>) -> Result<RecordBatch>;

    /// Rows of one partial.
    fn rows(&self, shard: u32, partial: Partial) -> Result<u64>;
}

/// Partials in memory.
#[derive(Debug, Default)]
pub struct MemoryPartials {
    shards: BTreeMap<u32, ShardPartial>,
}

impl MemoryPartials {
    /// From the partials of shards.
    pub fn new(shards: impl IntoIterator<Item = ShardPartial>) -> Self {
        MemoryPartials { shards: shards.into_iter().map(|shard| (shard.shard, shard)).collect() }
    }
}

impl MemoryPartials {
    fn batch(&self, shard: u32, partial: Partial) -> Result<&RecordBatch> {
        let batch = self.shards.get(&shard).and_then(|partials| partials.batch(partial));
        batch.ok_or_else(|| Error::bug(format!("no partial `{}` of shard {shard}", partial.name())))
    }
}

impl PartialSource for MemoryPartials {
    fn read(&self, shard: u32, partial: Partial, latents: Range<u32>) -> Result<RecordBatch> {
        restrict(self.batch(shard, partial)?, partial, &latents)
    }

    fn keys(&self, shard: u32, partial: Partial, latents: Range<u32>) -> Result<RecordBatch> {
        let batch = self.read(shard, partial, latents)?;
        batch.project(&flat_columns(&partial.schema())).map_err(|e| Error::bug(e.to_string()))
    }

    fn rows(&self, shard: u32, partial: Partial) -> Result<u64> {
        Ok(self.batch(shard, partial)?.num_rows() as u64)
    }
}

/// Partials as Parquet objects, fetched whole by the function it holds and read by row group: row
/// groups whose statistics say that they cannot concern the range are not decoded.
pub struct ParquetPartials<F> {
    fetch: F,
    kept: Kept,
}

impl<F: Fn(u32, Partial) -> Result<Bytes> + Send + Sync> ParquetPartials<F> {
    /// `fetch` gives the bytes of the object of (shard, partial).
    pub fn new(fetch: F) -> Self {
        ParquetPartials { fetch, kept: Kept::default() }
    }

    fn object(&self, shard: u32, partial: Partial) -> Result<Bytes> {
        self.kept.get(shard, partial, || (self.fetch)(shard, partial))
    }
}

impl<F: Fn(u32, Partial) -> Result<Bytes> + Send + Sync> ParquetPartials<F> {
    fn columns(
        &self,
        shard: u32,
        partial: Partial,
        latents: &Range<u32>,
        columns: &[usize],
    ) -> Result<RecordBatch> {
        let named = |e: String| Error::data(format!("partial `{}` of shard {shard}: {e}", partial.name()));
        let schema = partial.schema().project(columns).map_err(|e| Error::bug(e.to_string()))?;
        let schema = Arc::new(schema);
        let bytes = self.object(shard, partial)?;
        let reader = open(bytes, partial, latents, columns).map_err(|e| named(e.to_string()))?;
        let mut batches = Vec::new();
        for batch in reader {
            let batch = batch.map_err(|e| named(e.to_string()))?;
            let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
            batches.push(restrict(&batch.map_err(|e| named(e.to_string()))?, partial, latents)?);
        }
        concat_batches(&schema, &batches).map_err(|e| named(e.to_string()))
    }
}

impl<F: Fn(u32, Partial) -> Result<Bytes> + Send + Sync> PartialSource for ParquetPartials<F> {
    fn read(&self, shard: u32, partial: Partial, latents: Range<u32>) -> Result<RecordBatch> {
        let all: Vec<usize> = (0..partial.schema().fields().len()).collect();
        self.columns(shard, partial, &latents, &all)
    }

    fn keys(&self, shard: u32, partial: Partial, latents: Range<u32>) -> Result<RecordBatch> {
        self.columns(shard, partial, &latents, &flat_columns(&partial.schema()))
    }

    fn rows(&self, shard: u32, partial: Partial) -> Result<u64> {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&self.object(shard, partial)?);
        let metadata = metadata
            .map_err(|e| Error::data(format!("partial `{}` of shard {shard}: {e}", partial.name())))?;
        Ok(metadata.file_metadata().num_rows().unsigned_abs())
    }
}

fn open(
    bytes: Bytes,
    partial: Partial,
    latents: &Range<u32>,
    columns: &[usize],
) -> Result<ParquetRecordBatchReader, parquet::errors::ParquetError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), columns.iter().copied());
    let builder = builder.with_projection(mask);
    let groups = builder.metadata().row_groups().iter().enumerate();
    let wanted = groups.filter(|(_, group)| concerns(group, partial, latents)).map(|(at, _)| at).collect();
    builder.with_row_groups(wanted).with_batch_size(65_536).build()
}

/// Columns that are not lists.
fn flat_columns(schema: &Schema) -> Vec<usize> {
    let flat = |(_, field): &(usize, &Arc<Field>)| !field.data_type().is_nested();
    schema.fields().iter().enumerate().filter(flat).map(|(at, _)| at).collect()
}

/// Whether a row group may hold rows of the range. The range columns are the first ones of a table.
fn concerns(group: &RowGroupMetaData, partial: Partial, latents: &Range<u32>) -> bool {
    let bounds = |column: usize| match group.column(column).statistics() {
        Some(Statistics::Int32(s)) => {
            (s.min_opt().copied().unwrap_or(0), s.max_opt().copied().unwrap_or(i32::MAX))
        }
        _ => (0, i32::MAX),
    };
    let (start, end) = (latents.start as i32, latents.end as i32);
    match partial {
        Partial::Latents | Partial::Samples | Partial::Pairs => bounds(0).0 < end && bounds(0).1 >= start,
        Partial::Quality | Partial::Pool | Partial::Contexts => true,
    }
}

/// The rows of `batch` that concern the range.
fn restrict(batch: &RecordBatch, partial: Partial, latents: &Range<u32>) -> Result<RecordBatch> {
    let start = match partial {
        Partial::Latents | Partial::Samples | Partial::Pairs => int32s(batch, "latent")?,
        Partial::Quality | Partial::Pool | Partial::Contexts => return Ok(batch.clone()),
    };
    // They are sorted by latent.
    let from = start.partition_point(|&latent| (latent as u32) < latents.start);
    let to = start.partition_point(|&latent| (latent as u32) < latents.end);
    Ok(batch.slice(from, to - from))
}
