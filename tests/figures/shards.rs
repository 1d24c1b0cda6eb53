//! Synthetic shards in the layouts people have, written once per program run.

use std::{fs::File, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array, Int64Array,
        ListArray, RecordBatch,
    },
    buffer::OffsetBuffer,
    datatypes::{DataType, Field, Schema},
};
use half::f16;
use parquet::{
    arrow::ArrowWriter,
    file::{metadata::KeyValue, properties::WriterProperties},
};

/// Width of the vectors, that of the shipped sample.
pub(crate) const D_IN: usize = 576;

/// How the activation column is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// FixedSizeList of float16: what most people have.
    List,
    /// FixedSizeBinary of little-endian f16: a dense row as one value.
    Binary,
    /// FixedSizeList of float32.
    ListF32,
    /// List of float32, as pyarrow and pandas make of lists of numbers.
    OpenListF32,
    /// FixedSizeBinary of little-endian f32.
    BinaryF32,
}

impl Layout {
    pub(crate) fn dtype(self) -> &'static str {
        match self {
            Layout::List | Layout::Binary => "f16",
            Layout::ListF32 | Layout::OpenListF32 | Layout::BinaryF32 => "f32",
        }
    }
}

/// Writes `shards` files of `rows` rows, row groups of 4096, uncompressed.
pub(crate) fn write(directory: &Path, layout: Layout, shards: usize, rows: usize) {
    for shard in 0..shards {
        let batch = batch(layout, shard, rows);
        let file = File::create(directory.join(format!("shard-{shard:03}.parquet")))
            .expect("the directory is writable");
        let properties = WriterProperties::builder()
            .set_dictionary_enabled(false)
            .set_max_row_group_row_count(Some(4096))
            .set_key_value_metadata(Some(vec![KeyValue::new("dtype".to_owned(), layout.dtype().to_owned())]))
            .build();
        let mut writer =
            ArrowWriter::try_new(file, batch.schema(), Some(properties)).expect("the schema is plain");
        writer.write(&batch).expect("the disk has room");
        writer.close().expect("the disk has room");
    }
}

fn batch(layout: Layout, shard: usize, rows: usize) -> RecordBatch {
    let mut state = 0x9E37_79B9_7F4A_7C15u64 ^ shard as u64;
    let values: Vec<f16> = (0..rows * D_IN)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            f16::from_f32((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0)
        })
        .collect();
    let doc: ArrayRef =
        Arc::new(Int64Array::from_iter_values((0..rows).map(|r| (shard * 1000 + r / 128) as i64)));
    let singles = || Float32Array::from_iter_values(values.iter().map(|v| v.to_f32()));
    let column: ArrayRef = match layout {
        Layout::List => fixed(Arc::new(Float16Array::from(values))),
        Layout::ListF32 => fixed(Arc::new(singles())),
        Layout::OpenListF32 => {
            let item = Arc::new(Field::new("element", DataType::Float32, false));
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(D_IN, rows));
            Arc::new(ListArray::new(item, offsets, Arc::new(singles()), None))
        }
        Layout::Binary => raw(values.iter().flat_map(|v| v.to_le_bytes()).collect(), 2),
        Layout::BinaryF32 => raw(values.iter().flat_map(|v| v.to_f32().to_le_bytes()).collect(), 4),
    };
    let field = Field::new("activation", column.data_type().clone(), false);
    let schema = Arc::new(Schema::new(vec![field, Field::new("doc_id", DataType::Int64, false)]));
    RecordBatch::try_new(schema, vec![column, doc]).expect("columns are equally long")
}

fn fixed(values: ArrayRef) -> ArrayRef {
    let item = Arc::new(Field::new("element", values.data_type().clone(), false));
    Arc::new(FixedSizeListArray::new(item, D_IN as i32, values, None))
}

fn raw(bytes: Vec<u8>, size: usize) -> ArrayRef {
    Arc::new(
        FixedSizeBinaryArray::try_new((D_IN * size) as i32, bytes.into(), None)
            .expect("rows are equally long"),
    )
}
