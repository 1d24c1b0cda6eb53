//! Shards with made-up activations, to measure with where no real ones are at hand.

use std::{fs::File, path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Int64Array, RecordBatch},
    datatypes::{DataType, Field, Schema},
    error::ArrowError,
};
use half::f16;
use parquet::{
    arrow::ArrowWriter,
    errors::ParquetError,
    file::{metadata::KeyValue, properties::WriterProperties},
};

use crate::{Error, Result};

/// How the activation column is stored, float16 both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// FixedSizeList: what most people have.
    List,
    /// FixedSizeBinary: what `atomflow convert` writes.
    Binary,
}

/// Rows of a row group.
const GROUP_ROWS: usize = 8192;
/// Rows of a document.
const DOCUMENT_ROWS: usize = 128;

/// Writes `x`, `[rows, d_in]`, as `shards` files into `directory`, uncompressed, a document of 128 rows
/// after the other.
///
/// # Errors
/// The directory cannot be written.
pub fn made_up(directory: &Path, layout: Layout, x: &[f32], d_in: usize, shards: usize) -> Result<()> {
    let rows = (x.len() / d_in).div_ceil(shards.max(1)).max(1);
    for (shard, x) in x.chunks(rows * d_in).enumerate() {
        let path = directory.join(format!("shard-{shard:03}.parquet"));
        let failed = |e: String| Error::retry(e).object(path.display().to_string());
        let file = File::create(&path).map_err(|e| failed(e.to_string()))?;
        let first = (shard * rows) as i64;
        let batch = batch(layout, x, d_in, first).map_err(|e| failed(e.to_string()))?;
        write(file, &batch).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

fn write(file: File, batch: &RecordBatch) -> std::result::Result<(), ParquetError> {
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_key_value_metadata(Some(vec![KeyValue::new("dtype".to_owned(), "f16".to_owned())]))
        .build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    writer.write(batch)?;
    writer.close().map(drop)
}

fn batch(
    layout: Layout,
    x: &[f32],
    d_in: usize,
    first: i64,
) -> std::result::Result<RecordBatch, ArrowError> {
    let values = x.iter().map(|&v| f16::from_f32(v));
    let width = i32::try_from(d_in).unwrap_or(i32::MAX);
    let column: ArrayRef = match layout {
        Layout::List => {
            let item = Arc::new(Field::new("element", DataType::Float16, false));
            let values = Float16Array::from_iter_values(values);
            Arc::new(FixedSizeListArray::try_new(item, width, Arc::new(values), None)?)
        }
        Layout::Binary => {
            let bytes: Vec<u8> = values.flat_map(f16::to_le_bytes).collect();
            Arc::new(FixedSizeBinaryArray::try_new(2 * width, bytes.into(), None)?)
        }
    };
    let rows = (x.len() / d_in) as i64;
    let documents = (first..first + rows).map(|row| row / DOCUMENT_ROWS as i64);
    let field = Field::new("activation", column.data_type().clone(), false);
    let schema = Arc::new(Schema::new(vec![field, Field::new("doc_id", DataType::Int64, false)]));
    RecordBatch::try_new(schema, vec![column, Arc::new(Int64Array::from_iter_values(documents))])
}
