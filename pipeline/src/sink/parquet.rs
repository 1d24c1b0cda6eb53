//! Record batches → the bytes of one Parquet object. Same rows, same bytes.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowWriter, ArrowWriterOptions},
    },
    basic::{Compression, Encoding, Type, ZstdLevel},
    file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    schema::types::{ColumnDescPtr, SchemaDescriptor},
};

use crate::{Error, Result};

/// The bytes of a Parquet object holding `batch`: zstd, `row_group_rows` rows per row group.
///
/// For partials, which we alone read: integers as differences, because most columns ascend, and the
/// range of the first column alone, by which row groups are found.
pub fn parquet_bytes(batch: &RecordBatch, row_group_rows: usize) -> Result<Bytes> {
    write(batch, row_group_rows, ArrowWriterOptions::new(), differences)
}

/// The same for a part of a published table: without the Arrow schema that other Arrow programs
/// would restore. The log is what says the types there, and it has one kind of list: Polars refuses
/// a part that insists on a fixed-size one (measured, 2.1).
pub(crate) fn part_bytes(batch: &RecordBatch, row_group_rows: usize) -> Result<Bytes> {
    write(batch, row_group_rows, ArrowWriterOptions::new().with_skip_arrow_metadata(true), words)
}

fn write(
    batch: &RecordBatch,
    row_group_rows: usize,
    options: ArrowWriterOptions,
    encodings: fn(&SchemaDescriptor) -> WriterPropertiesBuilder,
) -> Result<Bytes> {
    let columns = ArrowSchemaConverter::new().convert(&batch.schema()).map_err(bug)?;
    let properties = encodings(&columns)
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(row_group_rows.max(1)))
        .set_created_by(concat!("atomflow ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let (mut bytes, options) = (Vec::new(), options.with_properties(properties));
    let mut writer = ArrowWriter::try_new_with_options(&mut bytes, batch.schema(), options).map_err(bug)?;
    writer.write(batch).map_err(bug)?;
    writer.close().map_err(bug)?;
    Ok(Bytes::from(bytes))
}

/// Dictionaries pay where values repeat: words, positions, latents. Looking every float up in one was
/// a tenth of the time of publishing. The range of a list's items tells no reader which rows to skip,
/// and comparing ten million tokens was another.
fn words(columns: &SchemaDescriptor) -> WriterPropertiesBuilder {
    let repeats = |column: &ColumnDescPtr| matches!(column.physical_type(), Type::INT32 | Type::BYTE_ARRAY);
    columns.columns().iter().fold(WriterProperties::builder(), |builder, column| {
        let builder = builder.set_column_dictionary_enabled(column.path().clone(), repeats(column));
        match column.max_rep_level() {
            0 => builder,
            _ => builder.set_column_statistics_enabled(column.path().clone(), EnabledStatistics::None),
        }
    })
}

fn differences(columns: &SchemaDescriptor) -> WriterPropertiesBuilder {
    let first = columns.columns().first().map(|column| column.path().clone());
    let properties = WriterProperties::builder().set_statistics_enabled(EnabledStatistics::None);
    let properties = first.into_iter().fold(properties, |builder, first| {
        builder.set_column_statistics_enabled(first, EnabledStatistics::Chunk)
    });
    columns.columns().iter().fold(properties, |builder, column| {
        let path = column.path().clone();
        let builder =
            builder.set_column_dictionary_enabled(path.clone(), column.physical_type() == Type::BYTE_ARRAY);
        match column.physical_type() {
            Type::INT32 | Type::INT64 => builder.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            _ => builder,
        }
    })
}

fn bug(error: parquet::errors::ParquetError) -> Error {
    Error::bug(format!("a table of ours does not fit Parquet: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{Array, FixedSizeListArray, Float32Array},
        datatypes::{DataType, Field, Schema},
    };
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    use super::*;

    #[test]
    fn published_parts_have_one_kind_of_list() {
        let item = Arc::new(Field::new("item", DataType::Float32, false));
        let list = FixedSizeListArray::new(item, 2, Arc::new(Float32Array::from(vec![1.0; 4])), None);
        let schema = Arc::new(Schema::new(vec![Field::new("decoder", list.data_type().clone(), false)]));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(list)]).unwrap();
        let read = |bytes| ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().schema().clone();
        assert_eq!(read(parquet_bytes(&batch, 10).unwrap()), schema);
        let published = read(part_bytes(&batch, 10).unwrap());
        assert!(matches!(published.field(0).data_type(), DataType::List(_)), "{published}");
    }
}
