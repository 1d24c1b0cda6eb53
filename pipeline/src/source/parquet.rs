//! Parquet shards: the footer, the byte ranges of a row group, and its record batches.

use std::{ops::Range, sync::Arc};

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::{
    DecodeResult,
    arrow::{
        ProjectionMask,
        arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions},
        push_decoder::{ParquetPushDecoder, ParquetPushDecoderBuilder},
    },
    errors::ParquetError,
    file::metadata::{
        PageIndexPolicy, ParquetMetaData, ParquetMetaDataOptions, ParquetMetaDataPushDecoder,
        ParquetStatisticsPolicy,
    },
};

use super::{
    object::{GAP_BYTES, Object},
    shield,
};
use crate::error::{Error, Result};

pub(crate) const MAGIC: &[u8] = b"PAR1";
pub(crate) const MAGIC_ENCRYPTED: &[u8] = b"PARE";

/// Reads the footer. `tail` is the end of the object, read already.
pub(crate) async fn open(object: &Object, tail: Bytes) -> Result<ArrowReaderMetadata> {
    let mut decoder = footer_decoder(object.size)?;
    let end = object.size - tail.len() as u64..object.size;
    let (mut ranges, mut data) = (Vec::from([end]), vec![tail]);
    // Two rounds are enough: the tail may hold the footer's length but not all of the footer.
    for _ in 0..3 {
        match shield::run(|| push_footer(&mut decoder, ranges, data))? {
            DecodeResult::Data(metadata) => return with_schema(metadata),
            DecodeResult::NeedsData(more) => {
                (ranges, data) = (more.clone(), object.read(&more, GAP_BYTES).await?)
            }
            DecodeResult::Finished => break,
        }
    }
    Err(shield::nonsense("the Parquet footer does not end"))
}

/// Statistics are dropped at once: those of raw activation rows are as long as the rows, and
/// millions of row groups must fit in memory.
fn footer_decoder(size: u64) -> Result<ParquetMetaDataPushDecoder> {
    let options = ParquetMetaDataOptions::new()
        .with_column_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_size_stats_policy(ParquetStatisticsPolicy::SkipAll)
        .with_encoding_stats_policy(ParquetStatisticsPolicy::SkipAll);
    let decoder = ParquetMetaDataPushDecoder::try_new(size).map_err(damaged)?;
    Ok(decoder.with_page_index_policy(PageIndexPolicy::Skip).with_metadata_options(Some(Arc::new(options))))
}

fn push_footer(
    decoder: &mut ParquetMetaDataPushDecoder,
    ranges: Vec<Range<u64>>,
    data: Vec<Bytes>,
) -> Result<DecodeResult<ParquetMetaData>> {
    decoder.push_ranges(ranges, data).map_err(damaged)?;
    decoder.try_decode().map_err(damaged)
}

fn with_schema(metadata: ParquetMetaData) -> Result<ArrowReaderMetadata> {
    shield::run(|| {
        ArrowReaderMetadata::try_new(Arc::new(metadata), ArrowReaderOptions::new()).map_err(damaged)
    })
}

fn damaged(e: ParquetError) -> Error {
    shield::nonsense(&e.to_string())
}

/// Rows of each row group.
pub(crate) fn rows(meta: &ArrowReaderMetadata) -> Result<Vec<u64>> {
    let rows = meta.metadata().row_groups().iter().map(|g| u64::try_from(g.num_rows()));
    rows.collect::<Result<_, _>>()
        .map_err(|_| shield::nonsense("a row group claims a negative number of rows"))
}

/// Where the chunks of the wanted top-level columns of a row group lie.
pub(crate) fn ranges(
    meta: &ArrowReaderMetadata,
    row_group: usize,
    wanted: &[usize],
) -> Result<Vec<Range<u64>>> {
    let schema = meta.parquet_schema();
    // `byte_range` panics on negative claims.
    shield::run(|| {
        let chunks = meta.metadata().row_group(row_group).columns().iter().enumerate();
        let chunks = chunks.filter(|(leaf, _)| wanted.contains(&schema.get_column_root_idx(*leaf)));
        Ok(chunks.map(|(_, chunk)| chunk.byte_range()).map(|(start, n)| start..start + n).collect())
    })
}

/// Values per row of a plain list column, if the footer's counts divide evenly in every row group.
/// Null rows count as one value, so this is a hint and not a fact.
pub(crate) fn list_length(meta: &ArrowReaderMetadata, root: usize) -> Option<usize> {
    let leaf = leaves(meta, root).next()?;
    let groups = meta.metadata().row_groups().iter().filter(|g| g.num_rows() > 0);
    let mut lengths = groups.map(|g| {
        let (values, rows) = (g.column(leaf).num_values(), g.num_rows());
        (values % rows == 0).then(|| usize::try_from(values / rows).ok()).flatten()
    });
    let first = lengths.next()??;
    lengths.all(|other| other == Some(first)).then_some(first)
}

/// The leaf column of a top-level column that has only one.
pub(crate) fn only_leaf(meta: &ArrowReaderMetadata, root: usize) -> Option<usize> {
    let mut leaves = leaves(meta, root);
    leaves.next().filter(|_| leaves.next().is_none())
}

fn leaves(meta: &ArrowReaderMetadata, root: usize) -> impl Iterator<Item = usize> {
    let schema = meta.parquet_schema();
    (0..schema.num_columns()).filter(move |leaf| schema.get_column_root_idx(*leaf) == root)
}

/// The bytes of a row group's wanted column chunks.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    pub(crate) ranges: Vec<Range<u64>>,
    pub(crate) data: Vec<Bytes>,
}

/// Decodes a row group, `batch_rows` rows at a time so that a batch stays in cache.
pub(crate) fn batches(
    meta: &ArrowReaderMetadata,
    row_group: usize,
    wanted: &[usize],
    batch_rows: usize,
    chunks: Chunks,
) -> Result<impl Iterator<Item = Result<RecordBatch>> + use<>> {
    let mask = ProjectionMask::roots(meta.parquet_schema(), wanted.iter().copied());
    let builder = ParquetPushDecoderBuilder::new_with_metadata(meta.clone())
        .with_row_groups(vec![row_group])
        .with_projection(mask)
        .with_batch_size(batch_rows);
    let mut decoder = builder.build().map_err(damaged)?;
    decoder.push_ranges(chunks.ranges, chunks.data).map_err(damaged)?;
    Ok(std::iter::from_fn(move || next(&mut decoder).transpose()))
}

fn next(decoder: &mut ParquetPushDecoder) -> Result<Option<RecordBatch>> {
    match decoder.try_decode().map_err(damaged)? {
        DecodeResult::Data(batch) => Ok(Some(batch)),
        DecodeResult::Finished => Ok(None),
        DecodeResult::NeedsData(_) => Err(shield::nonsense("a column chunk ends before its rows do")),
    }
}
