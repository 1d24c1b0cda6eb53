//! Taking pages whole against the ordinary reader: the same rows from every file, damaged or not.

use std::{panic, sync::Arc};

use arrow::{
    array::*,
    buffer::{NullBuffer, OffsetBuffer},
    datatypes::{DataType, Field, Schema},
};
use atomflow_workers::random::hash;
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, Encoding},
    file::properties::{EnabledStatistics, WriterProperties, WriterVersion},
    schema::types::ColumnPath,
};

use super::{corpus::mutate, make::*};
use crate::{
    error::Kind,
    source::{Dtype, fuzz, shield},
};

/// One way to write a file, drawn from a seed.
struct Writing {
    seed: u64,
    d: usize,
    rows: usize,
    nullable: [bool; 2],
    dtype: Dtype,
    kind: Storage,
}

impl Writing {
    fn new(seed: u64) -> Writing {
        let kinds = [Storage::Fixed, Storage::List, Storage::LargeList, Storage::Raw];
        let flag = |i| !hash(&[seed, i]).is_multiple_of(3);
        Writing {
            seed,
            d: 1 + Self::below(seed, 1, 70),
            rows: 1 + Self::below(seed, 2, 60),
            nullable: [flag(3), flag(4)],
            // Damaged and whole files are opened with f16 as the type of raw rows.
            dtype: if flag(5) && kinds[Self::below(seed, 6, 4)] != Storage::Raw {
                Dtype::F32
            } else {
                Dtype::F16
            },
            kind: kinds[Self::below(seed, 6, 4)],
        }
    }

    fn below(seed: u64, i: u64, n: u64) -> usize {
        (hash(&[seed, 70, i]) % n) as usize
    }

    fn draw(&self, i: u64, n: u64) -> usize {
        Self::below(self.seed, i, n)
    }

    /// Vectors, without a null unless `null` names a row.
    fn vectors(&self, null: Option<usize>) -> ArrayRef {
        let x: Vec<f32> =
            (0..self.rows * self.d).map(|i| (hash(&[self.seed, i as u64]) % 999) as f32).collect();
        let items = floats(&x, self.dtype);
        let item = Arc::new(Field::new("item", items.data_type().clone(), self.nullable[1]));
        let nulls = null.map(|row| (0..self.rows).map(|r| r != row).collect::<NullBuffer>());
        let offsets = std::iter::repeat_n(self.d, self.rows);
        match self.kind {
            Storage::Fixed => Arc::new(FixedSizeListArray::new(item, self.d as i32, items, nulls)),
            Storage::List => {
                Arc::new(ListArray::new(item, OffsetBuffer::from_lengths(offsets), items, nulls))
            }
            Storage::LargeList => {
                Arc::new(LargeListArray::new(item, OffsetBuffer::from_lengths(offsets), items, nulls))
            }
            Storage::Raw => {
                let bytes: Vec<u8> = x.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
                Arc::new(FixedSizeBinaryArray::new(2 * self.d as i32, bytes.into(), nulls))
            }
        }
    }

    fn properties(&self, plain: bool) -> WriterProperties {
        let codecs = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::LZ4_RAW];
        let versions = [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0];
        let column = ColumnPath::from(vec!["activation".to_owned(), "list".to_owned(), "item".to_owned()]);
        let builder = WriterProperties::builder()
            .set_compression(codecs[self.draw(10, 3)])
            .set_writer_version(versions[self.draw(11, 2)])
            .set_data_page_row_count_limit(1 + self.draw(12, 40))
            .set_data_page_size_limit(64 << self.draw(13, 8))
            .set_write_batch_size(1 + self.draw(14, 64))
            .set_max_row_group_row_count(Some(8 + self.draw(15, 60)))
            .set_statistics_enabled([EnabledStatistics::None, EnabledStatistics::Page][self.draw(16, 2)])
            .set_dictionary_enabled(!plain);
        // The default of the second version for fixed-length bytes is a delta encoding.
        match plain {
            true => builder.set_encoding(Encoding::PLAIN).build(),
            false => builder.set_column_encoding(column, Encoding::BYTE_STREAM_SPLIT).build(),
        }
    }

    fn file(&self, null: Option<usize>, plain: bool) -> Vec<u8> {
        let vectors = self.vectors(null);
        let nullable = self.nullable[0] || null.is_some();
        let fields = vec![
            Field::new("pos", DataType::Int32, false),
            Field::new("activation", vectors.data_type().clone(), nullable),
            Field::new("token", DataType::Utf8, true),
        ];
        let pos = Int32Array::from_iter_values(0..self.rows as i32);
        let token = StringArray::from_iter_values((0..self.rows).map(|row| format!("t{row}")));
        let schema = Arc::new(Schema::new(fields));
        let batch =
            RecordBatch::try_new(schema.clone(), vec![Arc::new(pos), vectors, Arc::new(token)]).unwrap();
        let mut bytes = vec![];
        let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(self.properties(plain))).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        bytes
    }
}

#[test]
fn plain_pages_of_any_writer_are_taken_whole_and_read_the_same() {
    for seed in 0..600 {
        let (groups, taken) = fuzz::parquet_both_ways(&Writing::new(seed).file(None, true)).unwrap();
        assert_eq!(taken, groups, "{seed}");
    }
}

#[test]
fn other_encodings_are_left_to_the_ordinary_reader() {
    for seed in 0..200 {
        let (groups, taken) = fuzz::parquet_both_ways(&Writing::new(seed).file(None, false)).unwrap();
        assert!(groups > 0 && taken == 0, "{seed}");
    }
}

#[test]
fn row_groups_with_a_null_are_left_to_the_ordinary_reader() {
    for seed in 0..200 {
        let writing = Writing::new(seed);
        // The footer of a file of lists would tell a wrong width, and a file of one null row none.
        if !matches!(writing.kind, Storage::Fixed | Storage::Raw) {
            continue;
        }
        let bytes = writing.file(Some(writing.draw(20, writing.rows as u64)), true);
        let (groups, taken) = fuzz::parquet_both_ways(&bytes).unwrap();
        assert_eq!(taken, groups - 1, "{seed}");
        fuzz::parquet(&bytes).unwrap();
    }
}

#[test]
fn lists_of_another_length_are_left_to_the_ordinary_reader() {
    for (lengths, good) in [([3, 3, 3, 3], true), ([3, 4, 2, 3], false), ([3, 3, 3, 0], false)] {
        let n = lengths.iter().sum::<usize>();
        let items = floats(&vec![1.0; n], Dtype::F32);
        let item = Arc::new(Field::new("item", DataType::Float32, true));
        let lists = ListArray::new(item, OffsetBuffer::from_lengths(lengths), items, None);
        let batch = RecordBatch::try_from_iter([("activation", Arc::new(lists) as ArrayRef)]).unwrap();
        let properties = WriterProperties::builder().set_dictionary_enabled(false).build();
        let mut bytes = vec![];
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        assert_eq!(fuzz::parquet_both_ways(&bytes).unwrap(), (1, usize::from(good)));
        assert_eq!(fuzz::parquet(&bytes).is_ok(), good);
    }
}

#[test]
fn damaged_files_read_the_same_both_ways() {
    let quiet = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !shield::active() {
            quiet(info)
        }
    }));
    let (mut taken, mut refused) = (0, 0);
    for case in 0..12_000 {
        let (one, other) = (Writing::new(case % 61), Writing::new(case % 67));
        let bytes = mutate(&one.file(None, true), &other.file(None, true), case);
        match fuzz::parquet_both_ways(&bytes) {
            Ok((_, n)) => taken += n,
            Err(error) => {
                assert_eq!(error.kind, Kind::Data, "{case}: {error}");
                refused += 1;
            }
        }
    }
    assert!(taken > 1000 && refused > 1000, "{taken} {refused}");
}
