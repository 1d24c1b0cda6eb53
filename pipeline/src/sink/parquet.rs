//! Record batches → the bytes of one Parquet object. Same rows, same bytes.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::{
    arrow::{
        ArrowSchemaConverter,
        arrow_writer::{ArrowWriter, ArrowWriterOptions},
    },
    basic::{Compression, Type, ZstdLevel},
    file::properties::{WriterProperties, WriterPropertiesBuilder},
    schema::types::{ColumnDescPtr, SchemaDescriptor},
};

use crate::{Error, Result};

/// The bytes of a Parquet object holding `batch`: zstd, `row_group_rows` rows per row group.
pub fn parquet_bytes(batch: &RecordBatch, row_group_rows: usize) -> Result<Bytes> {
    write(batch, row_group_rows, ArrowWriterOptions::new())
}

/// The same for a part of a published table: without the Arrow schema that other Arrow programs
/// would restore. The log is what says the types there, and it has one kind of list: Polars refuses
/// a part that insists on a fixed-size one (measured, 2.1).
pub(crate) fn part_bytes(batch: &RecordBatch, row_group_rows: usize) -> Result<Bytes> {
    write(batch, row_group_rows, ArrowWriterOptions::new().with_skip_arrow_metadata(true))
}

fn write(batch: &RecordBatch, row_group_rows: usize, options: ArrowWriterOptions) -> Result<Bytes> {
    let columns = ArrowSchemaConverter::new().convert(&batch.schema()).map_err(bug)?;
    let properties = undictionaried(&columns)
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
/// a tenth of the time of publishing.
fn undictionaried(columns: &SchemaDescriptor) -> WriterPropertiesBuilder {
    let repeats = |column: &ColumnDescPtr| matches!(column.physical_type(), Type::INT32 | Type::BYTE_ARRAY);
    let unique = columns.columns().iter().filter(|column| !repeats(column));
    unique.fold(WriterProperties::builder(), |builder, column| {
        builder.set_column_dictionary_enabled(column.path().clone(), false)
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
