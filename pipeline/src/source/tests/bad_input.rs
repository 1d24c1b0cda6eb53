//! Input that cannot be used: an error that names the place, or the quarantine list.

use std::{path::Path, sync::Arc};

use arrow::{array::*, buffer::NullBuffer, datatypes::Field};

use super::make::*;
use crate::{
    error::{Error, Kind},
    source::{Dtype, OnBad},
};

fn data_error(path: &Path) -> Error {
    let error = scanned(&spec(path.display())).unwrap_err();
    assert_eq!(error.kind, Kind::Data, "{error}");
    assert!(error.what_to_do().is_some(), "{error}");
    error
}

#[test]
fn truncated_and_foreign_objects() {
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Parquet, Format::File, Format::Stream] {
        let path = dir.path().join(format!("{format:?}.parquet"));
        write(&path, format, &[simple(200)], &[]);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = data_error(&path);
        assert!(error.message().contains("cut"), "{error}");
        assert_eq!(error.place().object.as_deref(), Some(path.to_str().unwrap()));
    }
    let path = dir.path().join("x.parquet");
    std::fs::write(&path, "").unwrap();
    assert!(data_error(&path).message().contains("empty"));
    std::fs::write(&path, "hello, this is no shard").unwrap();
    assert!(data_error(&path).message().contains("neither"));
}

#[test]
fn a_shard_without_rows_and_a_text_column() {
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Parquet, Format::File, Format::Stream] {
        let path = dir.path().join(format!("{format:?}"));
        write(&path, format, &[simple(0)], &[]);
        assert!(data_error(&path).message().contains("holds no rows"));
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        write(&path, format, &[RecordBatch::try_from_iter([("activation", text.clone())]).unwrap()], &[]);
        assert!(data_error(&path).message().contains("holds text"));
        write(&path, format, &[RecordBatch::try_from_iter([("activations", text)]).unwrap()], &[]);
        assert!(data_error(&path).message().contains("nearest name is `activations`"));
    }
}

#[test]
fn one_shard_of_another_width() {
    let dir = tempfile::tempdir().unwrap();
    for kind in [Storage::Fixed, Storage::List] {
        let dir = dir.path().join(format!("{kind:?}"));
        for i in 0..4 {
            let batch = batch(activation(kind, Dtype::F32, &values(9)), 0);
            write(&dir.join(format!("{i}.parquet")), Format::Parquet, &[batch], &[]);
        }
        let narrow = Float32Array::from(vec![0.5; 20]);
        let item = Arc::new(Field::new("item", narrow.data_type().clone(), true));
        let odd = FixedSizeListArray::new(item, 5, Arc::new(narrow), None);
        write(&dir.join("2.parquet"), Format::Parquet, &[batch(Arc::new(odd), 0)], &[]);
        let error = data_error(&dir);
        assert!(error.message().contains("5 values; 3 of 4 shards hold 6"), "{error}");
        assert!(error.place().object.as_ref().unwrap().ends_with("2.parquet"));
        let mut spec = spec(dir.display());
        spec.on_bad = OnBad::Quarantine;
        let manifest = scanned(&spec).unwrap();
        assert_eq!((manifest.shards.len(), manifest.quarantined.len(), manifest.rows()), (3, 1, 27));
        assert!(manifest.quarantined[0].reason.contains("5 values"));
    }
}

/// Row 1 null, row 3 NaN, row 4 infinite, row 5 with a null inside.
fn holes(kind: Storage, dtype: Dtype) -> RecordBatch {
    let mut x = values(7);
    x[3 * D + 2] = f32::NAN;
    x[4 * D] = f32::NEG_INFINITY;
    let valid = NullBuffer::from_iter((0..7).map(|i| i != 1));
    let array = activation(kind, dtype, &x).to_data().into_builder().nulls(Some(valid));
    let array = make_array(array.build().unwrap());
    batch(array, 0)
}

#[test]
fn nulls_nans_and_infinities() {
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Parquet, Format::File, Format::Stream] {
        for (kind, dtype) in [
            (Storage::Fixed, Dtype::F32),
            (Storage::List, Dtype::F16),
            (Storage::LargeList, Dtype::F32),
            (Storage::Raw, Dtype::Bf16),
        ] {
            let path = dir.path().join(format!("{format:?}-{kind:?}"));
            write(&path, format, &[holes(kind, dtype)], &[("dtype", "bf16")]);
            let manifest = scanned(&spec(path.display())).unwrap();
            let error = read(&manifest, 0, 0, OnBad::Fail).unwrap_err();
            let place = error.place();
            assert_eq!((error.kind, place.row_group, place.row), (Kind::Data, Some(0), Some(1)), "{error}");
            assert_eq!(place.field.as_deref(), Some("activation"));
            let block = read(&manifest, 0, 0, OnBad::Quarantine).unwrap();
            let expected =
                [(1, "null activation"), (3, "NaN in the activation"), (4, "infinity in the activation")];
            assert_eq!(block.bad, expected, "{format:?} {kind:?}");
            assert_eq!(block.x[5 * D..], values(7)[5 * D..]);
            assert!([1, 3, 4].iter().all(|r| block.x[r * D..(r + 1) * D].iter().all(|v| *v == 0.0)));
        }
    }
}

#[test]
fn a_null_inside_a_vector_and_a_row_of_another_length() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let rows = |second: Vec<Option<f32>>| {
        let lists = [Some(vec![Some(1.0), Some(2.0)]), Some(second), Some(vec![Some(5.0), Some(6.0)])];
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<arrow::datatypes::Float32Type, _, _>(lists));
        RecordBatch::try_from_iter([("activation", lists)]).unwrap()
    };
    for format in [Format::Parquet, Format::File] {
        write(&path, format, &[rows(vec![Some(3.0), None])], &[]);
        let manifest = scanned(&spec(path.display())).unwrap();
        let block = read(&manifest, 0, 0, OnBad::Quarantine).unwrap();
        assert_eq!(block.bad, [(1, "null inside the activation")]);
        write(&path, format, &[rows(vec![Some(3.0)])], &[]);
        let manifest = scanned(&spec(path.display())).unwrap();
        let error = read(&manifest, 0, 0, OnBad::Quarantine).unwrap_err();
        assert_eq!(error.place().row, Some(1), "{error}");
        assert!(error.message().contains("1 values where 2"), "{error}");
    }
}

#[test]
fn ids_out_of_range_or_null_are_bad_rows() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    let x = activation(Storage::Fixed, Dtype::F32, &values(3));
    let ids: ArrayRef = Arc::new(UInt64Array::from(vec![Some(1), Some(u64::MAX), None]));
    let batch = RecordBatch::try_from_iter([("activation", x), ("token_id", ids)]).unwrap();
    write(&path, Format::Parquet, &[batch], &[]);
    let manifest = scanned(&spec(path.display())).unwrap();
    let block = read(&manifest, 0, 0, OnBad::Quarantine).unwrap();
    assert_eq!(block.bad.iter().map(|b| b.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_shard_that_changes_or_vanishes_after_the_plan() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.parquet");
    write(&path, Format::Parquet, &[simple(9)], &[]);
    let manifest = scanned(&spec(path.display())).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(5));
    write(&path, Format::Parquet, &[simple(9)], &[]);
    let check = || {
        let error = read(&manifest, 0, 0, OnBad::Quarantine).unwrap_err();
        assert_eq!((error.kind, error.message()), (Kind::Data, "changed since the plan was made"));
        assert_eq!(error.place().object.as_deref(), Some(path.to_str().unwrap()));
    };
    check();
    std::fs::remove_file(&path).unwrap();
    check();
}

#[test]
fn quarantine_of_everything_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a.parquet"), "PAR1 and no end").unwrap();
    let mut spec = spec(dir.path().display());
    spec.on_bad = OnBad::Quarantine;
    let error = scanned(&spec).unwrap_err();
    assert!(error.message().contains("every shard was left out"), "{error}");
}
