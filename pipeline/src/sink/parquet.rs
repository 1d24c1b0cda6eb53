//! Record batches → the bytes of one Parquet object. Same rows, same bytes.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

use crate::{Error, Result};

/// The bytes of a Parquet object holding `batch`: zstd, `row_group_rows` rows per row group.
pub fn parquet_bytes(batch: &RecordBatch, row_group_rows: usize) -> Result<Bytes> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(row_group_rows.max(1)))
        .set_created_by(concat!("atomflow ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).map_err(bug)?;
    writer.write(batch).map_err(bug)?;
    writer.close().map_err(bug)?;
    Ok(Bytes::from(bytes))
}

fn bug(error: parquet::errors::ParquetError) -> Error {
    Error::bug(format!("a table of ours does not fit Parquet: {error}"))
}
