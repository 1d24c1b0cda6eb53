//! Small shards of every layout, and the shortest way to read them back.

use std::{path::Path, sync::Arc};

use arrow::{
    array::*,
    buffer::{Buffer, OffsetBuffer},
    datatypes::{DataType, Field, Schema},
    ipc::{CompressionType, writer::*},
};
use half::{bf16, f16};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};

use crate::{
    error::Result,
    source::{
        Columns, Decoded, Dtype, FilterSpec, Manifest, OnBad, SourceSpec, Urls, Want, decode, fetch, scan,
    },
};

pub(super) const D: usize = 6;

/// Exact in f16 and bf16.
pub(super) fn values(rows: usize) -> Vec<f32> {
    (0..rows * D).map(|i| ((i * 37) % 101) as f32 - 50.0).collect()
}

/// How the vectors are stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Storage {
    Fixed,
    List,
    LargeList,
    Raw,
}

pub(super) fn floats(values: &[f32], dtype: Dtype) -> ArrayRef {
    match dtype {
        Dtype::F16 => Arc::new(Float16Array::from_iter_values(values.iter().map(|v| f16::from_f32(*v)))),
        _ => Arc::new(Float32Array::from(values.to_vec())),
    }
}

pub(super) fn activation(kind: Storage, dtype: Dtype, values: &[f32]) -> ArrayRef {
    let items = floats(values, dtype);
    let item = Arc::new(Field::new("item", items.data_type().clone(), true));
    let lengths = || std::iter::repeat_n(D, values.len() / D);
    match kind {
        Storage::Fixed => Arc::new(FixedSizeListArray::new(item, D as i32, items, None)),
        Storage::List => Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(lengths()), items, None)),
        Storage::LargeList => {
            Arc::new(LargeListArray::new(item, OffsetBuffer::from_lengths(lengths()), items, None))
        }
        Storage::Raw => raw(dtype, values),
    }
}

fn raw(dtype: Dtype, values: &[f32]) -> ArrayRef {
    let bytes: Vec<u8> = match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        Dtype::Bf16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
    };
    let width = bytes.len() / (values.len() / D);
    Arc::new(FixedSizeBinaryArray::new(width as i32, Buffer::from_vec(bytes), None))
}

/// Activation and the five companions, ids counted from `first`.
pub(super) fn batch(activation: ArrayRef, first: i64) -> RecordBatch {
    let n = activation.len() as i64;
    let ids = first..first + n;
    let tokens = StringArray::from_iter_values(ids.clone().map(|i| format!("t{i}")));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("noise", Arc::new(BinaryArray::from_iter_values(ids.clone().map(|i| vec![i as u8; 9])))),
        ("token_id", Arc::new(UInt32Array::from_iter_values(ids.clone().map(|i| i as u32)))),
        ("activation", activation),
        ("token", Arc::new(tokens)),
        ("doc_id", Arc::new(Int64Array::from_iter_values(ids.clone().map(|i| i / 3)))),
        ("seq_id", Arc::new(Int32Array::from_iter_values(ids.clone().map(|i| (i / 4) as i32)))),
        ("pos", Arc::new(Int64Array::from_iter_values(ids.map(|i| i % 4)))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

pub(super) fn simple(rows: usize) -> RecordBatch {
    batch(activation(Storage::Fixed, Dtype::F32, &values(rows)), 0)
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Format {
    Parquet,
    File,
    FileZstd,
    Stream,
}

/// Writes batches; a Parquet file gets one row group per batch.
pub(super) fn write(path: &Path, format: Format, batches: &[RecordBatch], metadata: &[(&str, &str)]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let out = std::fs::File::create(path).unwrap();
    let schema = Schema::new(batches[0].schema().fields().clone());
    let schema = schema.with_metadata(metadata.iter().copied().collect::<arrow::datatypes::Metadata>());
    let batches = batches.iter().map(|b| b.clone().with_schema(Arc::new(schema.clone())).unwrap());
    let zstd = |on: bool| {
        IpcWriteOptions::default().try_with_compression(on.then_some(CompressionType::ZSTD)).unwrap()
    };
    match format {
        Format::Parquet => {
            let properties = WriterProperties::builder().build();
            let mut w = ArrowWriter::try_new(out, Arc::new(schema.clone()), Some(properties)).unwrap();
            batches.for_each(|b| {
                w.write(&b).unwrap();
                w.flush().unwrap();
            });
            w.close().unwrap();
        }
        Format::File | Format::FileZstd => {
            let options = zstd(format == Format::FileZstd);
            let mut w = FileWriter::try_new_with_options(out, &schema, options).unwrap();
            batches.for_each(|b| w.write(&b).unwrap());
            w.finish().unwrap();
        }
        Format::Stream => {
            let mut w = StreamWriter::try_new(out, &schema).unwrap();
            batches.for_each(|b| w.write(&b).unwrap());
            w.finish().unwrap();
        }
    }
}

pub(super) fn spec(url: impl std::fmt::Display) -> SourceSpec {
    SourceSpec {
        hookpoint: None,
        url: Urls::One(url.to_string()),
        columns: Columns::default(),
        dtype: None,
        filter: FilterSpec::default(),
        on_bad: OnBad::Fail,
        prefetch_bytes: 1 << 20,
    }
}

pub(super) fn scanned(spec: &SourceSpec) -> Result<Manifest> {
    tokio::runtime::Runtime::new().unwrap().block_on(scan(spec))
}

pub(super) fn read(manifest: &Manifest, shard: usize, row_group: usize, on_bad: OnBad) -> Result<Decoded> {
    let shard = &manifest.shards[shard];
    let fetched = tokio::runtime::Runtime::new().unwrap().block_on(fetch(shard, row_group))?;
    decode(shard, row_group, fetched, Want { token_text: true, on_bad })
}

pub(super) fn column(schema_type: &DataType) -> Field {
    Field::new("activation", schema_type.clone(), true)
}
