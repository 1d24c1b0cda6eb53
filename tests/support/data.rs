//! Small activation datasets with planted structure, in every layout a shard may have.

use std::{collections::BTreeMap, fs::File, ops::Range, path::Path, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, FixedSizeBinaryArray, FixedSizeListArray, Float16Array, Float32Array,
        GenericListArray, Int32Array, Int64Array, OffsetSizeTrait, RecordBatch, StringArray,
    },
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Schema},
    ipc::writer::{FileWriter, StreamWriter},
};
use atomflow_workers::random::{hash, unit};
use bytes::Bytes;
use half::{bf16, f16};
use parquet::{
    arrow::ArrowWriter,
    file::{
        properties::{EnabledStatistics, WriterProperties},
        reader::{FileReader, SerializedFileReader},
    },
};

/// Directions that rows are made of.
const ATOMS: u64 = 48;
/// Tokens of one sequence.
pub const SEQUENCE: usize = 16;
/// Tokens of one document.
pub const DOCUMENT: usize = 64;

/// How vectors are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the types")]
pub enum Layout {
    FixedListF32,
    FixedListF16,
    List,
    LargeList,
    RawF32,
    RawF16,
    RawBf16,
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after what they are")]
pub enum Spoil {
    Null,
    Nan,
    Infinity,
}

/// A shard that can be written: rows `rows` of an endless dataset that is the same everywhere.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Rows of the dataset.
    pub rows: Range<usize>,
    /// Values per vector.
    pub d_in: usize,
    /// How vectors are stored.
    pub layout: Layout,
    /// Whether there are columns beside the vectors.
    pub tokens: bool,
    /// Name of the vectors' column.
    pub column: &'static str,
    /// Every vector is multiplied by this: other content of the same size.
    pub factor: f32,
    /// Rows of the shard that are no good.
    pub spoiled: BTreeMap<usize, Spoil>,
}

impl Shard {
    /// Rows of 16 float32 values with token columns.
    pub fn new(rows: Range<usize>) -> Shard {
        let (layout, spoiled) = (Layout::FixedListF32, BTreeMap::new());
        Shard { rows, d_in: 16, layout, tokens: true, column: "activation", factor: 1.0, spoiled }
    }

    /// With another layout.
    #[must_use]
    pub fn layout(self, layout: Layout) -> Shard {
        Shard { layout, ..self }
    }

    /// With vectors of another width.
    #[must_use]
    pub fn wide(self, d_in: usize) -> Shard {
        Shard { d_in, ..self }
    }

    /// With the vectors alone.
    #[must_use]
    pub fn without_tokens(self) -> Shard {
        Shard { tokens: false, ..self }
    }

    /// With other values in files of the same size.
    #[must_use]
    pub fn times(self, factor: f32) -> Shard {
        Shard { factor, ..self }
    }

    /// With this row of the shard made useless.
    #[must_use]
    pub fn spoil(mut self, row: usize, how: Spoil) -> Shard {
        self.spoiled.insert(row, how);
        self
    }

    /// Writes Parquet in row groups of so many rows.
    pub fn parquet(&self, path: &Path, rows_per_group: usize) {
        write_parquet(path, &self.batch(), rows_per_group);
    }

    /// Writes an Arrow IPC file in batches of so many rows.
    pub fn arrow_file(&self, path: &Path, rows_per_batch: usize) {
        let batch = self.batch();
        let mut writer = FileWriter::try_new(File::create(path).unwrap(), &batch.schema()).unwrap();
        pieces(&batch, rows_per_batch).for_each(|piece| writer.write(&piece).unwrap());
        writer.finish().unwrap();
    }

    /// Writes an Arrow IPC stream in batches of so many rows.
    pub fn arrow_stream(&self, path: &Path, rows_per_batch: usize) {
        let batch = self.batch();
        let mut writer = StreamWriter::try_new(File::create(path).unwrap(), &batch.schema()).unwrap();
        pieces(&batch, rows_per_batch).for_each(|piece| writer.write(&piece).unwrap());
        writer.finish().unwrap();
    }

    /// All rows.
    pub fn batch(&self) -> RecordBatch {
        let mut columns = vec![(self.column, self.vectors())];
        if self.tokens {
            columns.extend(self.token_columns());
        }
        let field = |(name, array): &(&str, ArrayRef)| Field::new(*name, array.data_type().clone(), true);
        let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        RecordBatch::try_new(Arc::new(schema), arrays).unwrap()
    }

    fn token_columns(&self) -> Vec<(&'static str, ArrayRef)> {
        let rows = || self.rows.clone();
        let token_ids = Int32Array::from_iter_values(rows().map(token_id));
        let tokens = StringArray::from_iter_values(rows().map(|row| format!("t{}", token_id(row))));
        let by = |size: usize| Arc::new(Int64Array::from_iter_values(rows().map(|row| (row / size) as i64)));
        vec![
            ("token_id", Arc::new(token_ids)),
            ("token", Arc::new(tokens)),
            ("doc_id", by(DOCUMENT)),
            ("seq_id", by(SEQUENCE)),
            ("pos", Arc::new(Int32Array::from_iter_values(rows().map(|row| (row % SEQUENCE) as i32)))),
        ]
    }

    fn values(&self) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.rows.len() * self.d_in);
        for (at, row) in self.rows.clone().enumerate() {
            let from = values.len();
            values.extend(vector(row, self.d_in).into_iter().map(|v| v * self.factor));
            match self.spoiled.get(&at) {
                Some(Spoil::Nan) => values[from + 1] = f32::NAN,
                Some(Spoil::Infinity) => values[from + 2] = f32::INFINITY,
                Some(Spoil::Null) | None => {}
            }
        }
        values
    }

    fn nulls(&self) -> Option<NullBuffer> {
        let valid = |row| self.spoiled.get(&row) != Some(&Spoil::Null);
        let all: NullBuffer = (0..self.rows.len()).map(valid).collect();
        (all.null_count() > 0).then_some(all)
    }

    fn vectors(&self) -> ArrayRef {
        let (values, d) = (self.values(), self.d_in);
        match self.layout {
            Layout::FixedListF32 => self.fixed(Arc::new(Float32Array::from(values))),
            Layout::FixedListF16 => {
                self.fixed(Arc::new(Float16Array::from_iter_values(values.iter().map(|&v| f16::from_f32(v)))))
            }
            Layout::List => self.list::<i32>(values),
            Layout::LargeList => self.list::<i64>(values),
            Layout::RawF32 => raw(values.iter().flat_map(|v| v.to_le_bytes()), 4 * d),
            Layout::RawF16 => raw(values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()), 2 * d),
            Layout::RawBf16 => raw(values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()), 2 * d),
        }
    }

    fn fixed(&self, items: ArrayRef) -> ArrayRef {
        let item = Arc::new(Field::new("item", items.data_type().clone(), true));
        Arc::new(FixedSizeListArray::new(item, self.d_in as i32, items, self.nulls()))
    }

    fn list<O: OffsetSizeTrait>(&self, values: Vec<f32>) -> ArrayRef {
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(self.d_in, self.rows.len()));
        let items = Arc::new(Float32Array::from(values));
        Arc::new(GenericListArray::<O>::new(item, offsets, items, self.nulls()))
    }
}

/// Writes any rows as Parquet in row groups of so many rows, uncompressed and without statistics:
/// shards of equal shape have equal size, and damage hits data.
pub fn write_parquet(path: &Path, batch: &RecordBatch, rows_per_group: usize) {
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_dictionary_enabled(false)
        .build();
    let file = File::create(path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

/// Overwrites the beginning of the vectors' page in one row group.
pub fn damage(path: &Path, row_group: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    let reader = SerializedFileReader::new(Bytes::from(bytes.clone())).unwrap();
    let page = reader.metadata().row_group(row_group).column(0).data_page_offset() as usize;
    bytes[page..page + 16].fill(0xff);
    std::fs::write(path, bytes).unwrap();
}

fn pieces(batch: &RecordBatch, rows: usize) -> impl Iterator<Item = RecordBatch> {
    let all = batch.num_rows();
    (0..all).step_by(rows).map(move |from| batch.slice(from, rows.min(all - from)))
}

fn raw(bytes: impl Iterator<Item = u8>, width: usize) -> ArrayRef {
    let bytes: Vec<u8> = bytes.collect();
    Arc::new(FixedSizeBinaryArray::try_from_iter(bytes.chunks_exact(width)).unwrap())
}

fn token_id(row: usize) -> i32 {
    (hash(&[11, row as u64]) % 50) as i32
}

/// Row `row` of the dataset: three of the planted directions and a little noise.
pub fn vector(row: usize, d_in: usize) -> Vec<f32> {
    let row = row as u64;
    let mut x: Vec<f64> = (0..d_in as u64).map(|j| 0.02 * spread(&[5, row, j])).collect();
    for part in 0..3 {
        let atom = hash(&[6, row, part]) % ATOMS;
        let strength = 1.0 + unit(hash(&[7, row, part]));
        x.iter_mut().zip(0..).for_each(|(x, j)| *x += strength * spread(&[8, atom, j]));
    }
    x.into_iter().map(|v| v as f32).collect()
}

/// In [-1, 1).
fn spread(key: &[u64]) -> f64 {
    2.0 * unit(hash(key)) - 1.0
}
