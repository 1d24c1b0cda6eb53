//! One shard being written: rows in, the bytes of a Parquet object out.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use bytes::Bytes;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties},
    },
    schema::types::ColumnPath,
};

use super::{
    Checksum, LeftOut, ShardFile,
    narrow::narrow,
    read::Group,
    record::{Place, ShardCommit},
};
use crate::{
    Error, Result,
    source::{Dtype, Has, Tokens},
};

/// Bytes of values in a row group: enough for one request to be worth its while, few enough that
/// a reader holds several.
const GROUP_BYTES: usize = 8 << 20;
/// Bytes of values in a page. The writer holds a page before it copies it into the object.
const PAGE_BYTES: usize = 1 << 20;

/// A shard that is not finished.
pub(super) struct Draft {
    d_in: usize,
    dtype: Dtype,
    schema: SchemaRef,
    writer: ArrowWriter<Vec<u8>>,
    rows: u64,
    checksum: Checksum,
    source_checksum: Checksum,
    values_rounded: u64,
    left_out: Vec<LeftOut>,
}

impl Draft {
    pub(super) fn new(d_in: usize, dtype: Dtype, has: Has) -> Result<Draft> {
        let schema = schema(d_in, dtype, has)?;
        let writer =
            ArrowWriter::try_new(vec![], schema.clone(), Some(properties(d_in, dtype))).map_err(bug)?;
        Ok(Draft {
            d_in,
            dtype,
            schema,
            writer,
            rows: 0,
            checksum: Checksum::default(),
            source_checksum: Checksum::default(),
            values_rounded: 0,
            left_out: vec![],
        })
    }

    /// Rows so far.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Notes what is not in the shard.
    pub(super) fn leave_out(&mut self, left_out: &[LeftOut]) {
        self.left_out.extend_from_slice(left_out);
    }

    /// What was noted, of a shard that came to nothing.
    pub(super) fn into_left_out(self) -> Vec<LeftOut> {
        self.left_out
    }

    /// Adds usable rows of a row group.
    pub(super) fn push(&mut self, group: &Group, rows: Range<usize>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let activation = self.values(group, rows.clone())?;
        let mut columns: Vec<ArrayRef> = vec![activation];
        columns.extend(tokens(&group.decoded.tokens, &rows));
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|e| Error::bug(format!("rows of a source do not fit a shard of ours: {e}")))?;
        self.rows += rows.len() as u64;
        self.writer.write(&batch).map_err(bug)
    }

    fn values(&mut self, group: &Group, rows: Range<usize>) -> Result<ArrayRef> {
        let (d_in, width) = (self.d_in, self.d_in * self.dtype.bytes());
        let mut bytes = Vec::with_capacity(rows.len() * width);
        let mut values = vec![0.0; d_in];
        for row in rows {
            values.copy_from_slice(&group.decoded.x[row * d_in..(row + 1) * d_in]);
            let rounded = narrow(&mut values, self.dtype, &mut bytes)
                .map_err(|value| overflow(group, row, value, self.dtype))?;
            let source = group.checksums[row];
            self.source_checksum += source;
            self.checksum += if rounded == 0 { source } else { Checksum::of_row(&values) };
            self.values_rounded += rounded;
        }
        let width =
            i32::try_from(width).map_err(|_| Error::data(format!("a row of {width} bytes is too wide")))?;
        let array = FixedSizeBinaryArray::try_new(width, bytes.into(), None);
        Ok(Arc::new(array.map_err(|e| Error::bug(format!("rows of one width differ: {e}")))?))
    }

    /// The object, and what its commit says but for the object's name.
    pub(super) fn finish(self, next: Place) -> Result<(Bytes, ShardCommit)> {
        let file = ShardFile { rows: self.rows, checksum: self.checksum, ..ShardFile::default() };
        let shard = ShardCommit {
            file,
            source_checksum: self.source_checksum,
            values_rounded: self.values_rounded,
            left_out: self.left_out,
            next,
        };
        Ok((Bytes::from(self.writer.into_inner().map_err(bug)?), shard))
    }
}

fn schema(d_in: usize, dtype: Dtype, has: Has) -> Result<SchemaRef> {
    let width = i32::try_from(d_in * dtype.bytes())
        .map_err(|_| Error::data(format!("vectors of {d_in} values are too wide")))?;
    let columns = [
        (true, "activation", DataType::FixedSizeBinary(width)),
        (has.token_id, "token_id", DataType::Int32),
        (has.token, "token", DataType::Utf8),
        (has.doc_id, "doc_id", DataType::Int64),
        (has.seq_id, "seq_id", DataType::Int64),
        (has.pos, "pos", DataType::Int32),
    ];
    let there = columns.into_iter().filter(|(there, ..)| *there);
    Ok(Arc::new(Schema::new(there.map(|(_, name, kind)| Field::new(name, kind, false)).collect::<Vec<_>>())))
}

/// The token columns that are there, in the order of `schema`.
fn tokens(tokens: &Tokens, rows: &Range<usize>) -> Vec<ArrayRef> {
    let narrow = |column: &Option<Vec<i32>>| {
        column.as_ref().map(|c| Arc::new(Int32Array::from(c[rows.clone()].to_vec())) as ArrayRef)
    };
    let wide = |column: &Option<Vec<i64>>| {
        column.as_ref().map(|c| Arc::new(Int64Array::from(c[rows.clone()].to_vec())) as ArrayRef)
    };
    let text = tokens.token.as_ref().map(|c| Arc::new(c.slice(rows.start, rows.len())) as ArrayRef);
    let columns =
        [narrow(&tokens.token_id), text, wide(&tokens.doc_id), wide(&tokens.seq_id), narrow(&tokens.pos)];
    columns.into_iter().flatten().collect()
}

fn properties(d_in: usize, dtype: Dtype) -> WriterProperties {
    let (activation, width) = (|| ColumnPath::from("activation"), d_in * dtype.bytes());
    let said = |key: &str, value: String| KeyValue::new(key.to_owned(), value);
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_column_compression(activation(), Compression::UNCOMPRESSED)
        .set_column_dictionary_enabled(activation(), false)
        .set_column_encoding(activation(), Encoding::PLAIN)
        .set_column_statistics_enabled(activation(), EnabledStatistics::None)
        .set_column_data_page_size_limit(activation(), PAGE_BYTES)
        .set_max_row_group_row_count(Some((GROUP_BYTES / width).max(1)))
        .set_key_value_metadata(Some(vec![
            said("dtype", dtype.name().to_owned()),
            said("d_in", d_in.to_string()),
        ]))
        .set_created_by(concat!("atomflow ", env!("CARGO_PKG_VERSION")).to_owned())
        .build()
}

fn overflow(group: &Group, row: usize, value: f32, dtype: Dtype) -> Error {
    Error::data(format!("holds {value}, which {} cannot hold", dtype.name()))
        .object(&group.url)
        .row_group(group.place.row_group)
        .row(group.origin(row))
        .hint("leave out --dtype to keep the type of the source, or choose bf16 or f32")
}

fn bug(error: ParquetError) -> Error {
    Error::bug(format!("a shard of ours does not fit Parquet: {error}"))
}
