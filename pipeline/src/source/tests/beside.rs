//! Several columns of one file as one row: vectors of any layout, labels of any type.

use std::sync::Arc;

use arrow::{
    array::*,
    buffer::NullBuffer,
    datatypes::{DataType, Field, Float32Type, Int8Type, Metadata},
};

use super::make::*;
use crate::{
    error::{Kind, Result},
    source::{Asked, Decoded, Dtype, Manifest, OnBad, SourceSpec, Want, asked::ValueKind, scan_columns},
};

fn asked(name: &str, kind: ValueKind) -> Asked {
    Asked { name: name.to_owned(), kind, field: format!("learner.{name}_column") }
}

fn vectors(name: &str) -> Asked {
    asked(name, ValueKind::Vectors)
}

fn labels(name: &str) -> Asked {
    asked(name, ValueKind::Labels)
}

fn scanned(spec: &SourceSpec, columns: &[Asked]) -> Result<Manifest> {
    tokio::runtime::Runtime::new().unwrap().block_on(scan_columns(spec, columns))
}

fn decoded(manifest: &Manifest, row_group: usize, on_bad: OnBad) -> Result<Decoded> {
    let fetched = tokio::runtime::Runtime::new().unwrap().block_on(manifest.fetch(0, row_group))?;
    manifest.decode(0, row_group, fetched, Want { token_text: true, on_bad })
}

fn fixed(width: usize, items: ArrayRef, nulls: Option<NullBuffer>) -> ArrayRef {
    let item = Arc::new(Field::new("item", items.data_type().clone(), true));
    Arc::new(FixedSizeListArray::new(item, width as i32, items, nulls))
}

/// Six rows: activations, a target of two values as float16, labels of every kind.
fn six_rows() -> RecordBatch {
    let target =
        fixed(2, floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0], Dtype::F16), None);
    let columns: Vec<(&str, ArrayRef)> = vec![
        (
            "flag",
            Arc::new(BooleanArray::from(vec![Some(true), None, Some(false), Some(true), None, Some(false)])),
        ),
        ("activation", activation(Storage::Fixed, Dtype::F32, &values(6))),
        ("target", target),
        ("count", Arc::new(Int64Array::from(vec![Some(-3), Some(7), None, Some(1 << 30), Some(0), Some(2)]))),
        ("real", Arc::new(Float64Array::from(vec![0.5, f64::NAN, 1e300, -0.25, 2.0, 3.0]))),
        (
            "pair",
            fixed(
                2,
                Arc::new(UInt8Array::from_iter((0..12).map(|i| (i != 3).then_some(i)))),
                Some(NullBuffer::from(vec![true, true, false, true, true, true])),
            ),
        ),
        (
            "ragged",
            Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(
                (0..6).map(|i| (i != 0).then(|| vec![Some(i as f32), None, Some(1.0)])),
            )),
        ),
        ("doc_id", Arc::new(Int64Array::from_iter_values(0..6))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

const N: f32 = f32::NAN;

/// What the label columns of [`six_rows`] are.
fn expected(name: &str) -> (usize, Vec<f32>) {
    match name {
        "flag" => (1, vec![1.0, N, 0.0, 1.0, N, 0.0]),
        "count" => (1, vec![-3.0, 7.0, N, 1_073_741_824.0, 0.0, 2.0]),
        "real" => (1, vec![0.5, N, f32::INFINITY, -0.25, 2.0, 3.0]),
        "pair" => (2, vec![0.0, 1.0, 2.0, N, N, N, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0]),
        _ => (3, vec![N, N, N, 1.0, N, 1.0, 2.0, N, 1.0, 3.0, N, 1.0, 4.0, N, 1.0, 5.0, N, 1.0]),
    }
}

fn same(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()))
}

/// The values of one column of the rows.
fn of(manifest: &Manifest, rows: &Decoded, column: &Asked) -> Vec<f32> {
    let range = manifest.column(&column.name, column.kind).unwrap();
    rows.x.chunks(manifest.d_in).flat_map(|row| row[range.clone()].to_vec()).collect()
}

#[test]
fn vectors_and_labels_lie_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let batch = six_rows();
    for format in [Format::Parquet, Format::File, Format::FileZstd, Format::Stream] {
        let path = dir.path().join(format!("{format:?}"));
        write(&path, format, &[batch.slice(0, 4), batch.slice(4, 2)], &[]);
        let names = ["flag", "count", "real", "pair", "ragged"];
        let all = [vectors("activation"), vectors("target")].into_iter().chain(names.map(labels));
        let all: Vec<Asked> = all.collect();
        let manifest = scanned(&spec(path.display()), &all).unwrap();
        assert_eq!((manifest.d_in, manifest.rows(), manifest.main_column()), (D + 10, 6, 0..D), "{format:?}");
        for (row_group, rows) in [(0, 0..4), (1, 4..6)] {
            let block = decoded(&manifest, row_group, OnBad::Fail).unwrap();
            assert_eq!((block.rows, block.bad.len()), (rows.len(), 0), "{format:?}");
            assert_eq!(block.tokens.doc_id.as_deref().unwrap()[0], rows.start as i64);
            assert_eq!(of(&manifest, &block, &all[0]), values(6)[rows.start * D..rows.end * D]);
            assert_eq!(of(&manifest, &block, &all[1])[0], (2 * rows.start + 1) as f32);
            for name in names {
                let (width, expected) = expected(name);
                let found = of(&manifest, &block, &labels(name));
                assert!(
                    same(&found, &expected[rows.start * width..rows.end * width]),
                    "{name} {format:?} {found:?}"
                );
            }
        }
    }
}

/// The same column may be a vector to one learner and labels to another.
#[test]
fn one_name_may_be_both() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("both.parquet");
    write(&path, Format::Parquet, &[six_rows()], &[]);
    let manifest =
        scanned(&spec(path.display()), &[vectors("activation"), vectors("target"), labels("target")]);
    let manifest = manifest.unwrap();
    let block = decoded(&manifest, 0, OnBad::Fail).unwrap();
    assert_eq!(of(&manifest, &block, &vectors("target")), of(&manifest, &block, &labels("target")));
    assert_eq!(manifest.d_in, D + 4);
}

#[test]
fn a_vector_that_is_no_good_spoils_its_row_and_a_label_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.parquet");
    let target = floats(&[1.0, 2.0, 3.0, f32::NAN], Dtype::F32);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("activation", activation(Storage::Fixed, Dtype::F32, &values(2))),
        ("target", fixed(2, target, None)),
        ("label", Arc::new(Float32Array::from(vec![f32::NAN, 1.0]))),
    ];
    write(&path, Format::Parquet, &[RecordBatch::try_from_iter(columns).unwrap()], &[]);
    let good = scanned(&spec(path.display()), &[vectors("activation"), labels("label")]).unwrap();
    assert!(decoded(&good, 0, OnBad::Fail).is_ok());
    let manifest =
        scanned(&spec(path.display()), &[vectors("activation"), vectors("target"), labels("label")]);
    let manifest = manifest.unwrap();
    let error = decoded(&manifest, 0, OnBad::Fail).unwrap_err();
    assert_eq!(
        (error.kind, error.place().row, error.place().field.as_deref()),
        (Kind::Data, Some(1), Some("target"))
    );
    let block = decoded(&manifest, 0, OnBad::Quarantine).unwrap();
    assert_eq!(block.bad.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
}

#[test]
fn what_cannot_be_read_is_said_with_the_field_that_asks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("shard.parquet");
    write(&path, Format::Parquet, &[simple(4)], &[]);
    let refused =
        |column: Asked| scanned(&spec(path.display()), &[vectors("activation"), column]).unwrap_err();
    for missing in [vectors("activations"), labels("activations")] {
        let error = refused(missing);
        assert_eq!(error.place().field.as_deref(), Some("learner.activations_column"));
        assert!(error.place().object.as_deref().unwrap().ends_with("shard.parquet"));
        assert!(error.message().contains("the nearest name is `activation`"), "{error}");
        assert!(error.what_to_do().unwrap().contains("learner.activations_column"), "{error}");
    }
    let error = refused(labels("token"));
    assert!(error.message().contains("not labels"), "{error}");
    assert_eq!(error.place().field.as_deref(), Some("token"));
    let error = refused(vectors("pos"));
    assert!(error.what_to_do().unwrap().contains("learner.pos_column"), "{error}");
    let uneven =
        ListArray::from_iter_primitive::<Int8Type, _, _>([Some(vec![Some(1)]), Some(vec![Some(1), Some(2)])]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("activation", activation(Storage::Fixed, Dtype::F32, &values(2))),
        ("uneven", Arc::new(uneven)),
    ];
    write(&path, Format::Parquet, &[RecordBatch::try_from_iter(columns).unwrap()], &[]);
    let manifest = scanned(&spec(path.display()), &[vectors("activation"), labels("uneven")]).unwrap();
    let error = decoded(&manifest, 0, OnBad::Fail).unwrap_err();
    assert_eq!((error.place().field.as_deref(), error.place().row), (Some("uneven"), Some(1)), "{error}");
}

/// A row of the file is a context: a label belongs to all its tokens, or each has its own.
#[test]
fn labels_of_contexts() {
    let dir = tempfile::tempdir().unwrap();
    let vectors_of = |n: usize| fixed(3, activation(Storage::List, Dtype::F32, &values(n)), None);
    let said = Metadata::from([("ARROW:extension:metadata", format!("[[3, {D}], \"float32\"]"))]);
    let each = fixed(
        3,
        Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5, 6])),
        Some(NullBuffer::from(vec![true, false])),
    );
    let pairs = fixed(2, Arc::new(Int32Array::from_iter_values(0..12)), None);
    let columns: Vec<(Field, ArrayRef)> = vec![
        (column(vectors_of(6).data_type()).with_metadata(said), vectors_of(6)),
        (Field::new("all", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![Some(true), None]))),
        (Field::new("each", each.data_type().clone(), true), each),
        (Field::new("pairs", fixed(3, pairs.clone(), None).data_type().clone(), true), fixed(3, pairs, None)),
    ];
    let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), arrays).unwrap();
    for format in [Format::Parquet, Format::File] {
        let path = dir.path().join(format!("{format:?}"));
        write(&path, format, std::slice::from_ref(&batch), &[]);
        let all = [vectors("activation"), labels("all"), labels("each"), labels("pairs")];
        let manifest = scanned(&spec(path.display()), &all).unwrap();
        let block = decoded(&manifest, 0, OnBad::Fail).unwrap();
        assert_eq!((block.rows, manifest.d_in), (6, D + 4));
        assert!(same(&of(&manifest, &block, &all[1]), &[1.0, 1.0, 1.0, N, N, N]));
        assert!(same(&of(&manifest, &block, &all[2]), &[1.0, 2.0, 3.0, N, N, N]));
        assert_eq!(of(&manifest, &block, &all[3]), (0..12).map(|i| i as f32).collect::<Vec<_>>());
    }
}
