//! Every layout × dtype × format gives exactly the values that were written.

use std::{path::Path, sync::Arc};

use arrow::{
    array::*,
    datatypes::{DataType, Field, Int32Type, Metadata},
};

use super::make::*;
use crate::source::{Dtype, OnBad};

#[test]
fn every_layout_reads_back_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let kinds = [Storage::Fixed, Storage::List, Storage::LargeList, Storage::Raw];
    for format in [Format::Parquet, Format::File, Format::FileZstd, Format::Stream] {
        for kind in kinds {
            for (dtype, name) in [(Dtype::F32, "f32"), (Dtype::F16, "float16"), (Dtype::Bf16, "bf16")] {
                if dtype == Dtype::Bf16 && kind != Storage::Raw {
                    continue;
                }
                let path = dir.path().join(format!("{format:?}-{kind:?}-{name}"));
                let x = values(50);
                let (head, tail) = x.split_at(30 * D);
                let batches =
                    [batch(activation(kind, dtype, head), 0), batch(activation(kind, dtype, tail), 30)];
                write(&path, format, &batches, &[("dtype", name)]);
                check(&path, head, tail);
            }
        }
    }
}

fn check(path: &Path, head: &[f32], tail: &[f32]) {
    let manifest = scanned(&spec(path.display())).unwrap();
    assert_eq!((manifest.d_in, manifest.rows()), (D, 50), "{path:?}");
    assert_eq!(manifest.shards[0].row_groups.len(), 2, "{path:?}");
    assert!(manifest.bytes() <= manifest.shards[0].size_bytes);
    for (row_group, x, first) in [(0, head, 0), (1, tail, 30_i64)] {
        let block = read(&manifest, 0, row_group, OnBad::Fail).unwrap();
        let ids: Vec<i64> = (first..first + block.rows as i64).collect();
        assert_eq!(block.x, x, "{path:?}");
        let tokens = block.tokens;
        assert_eq!(tokens.token_id.unwrap(), ids.iter().map(|i| *i as i32).collect::<Vec<_>>());
        assert_eq!(tokens.doc_id.unwrap(), ids.iter().map(|i| i / 3).collect::<Vec<_>>());
        assert_eq!(tokens.seq_id.unwrap(), ids.iter().map(|i| i / 4).collect::<Vec<_>>());
        assert_eq!(tokens.pos.unwrap(), ids.iter().map(|i| (i % 4) as i32).collect::<Vec<_>>());
        let text: Vec<String> = tokens.token.unwrap().iter().map(|t| t.unwrap().to_owned()).collect();
        assert_eq!(text, ids.iter().map(|i| format!("t{i}")).collect::<Vec<_>>());
    }
}

#[test]
fn columns_that_are_not_read_are_not_fetched() {
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Parquet, Format::File] {
        let path = dir.path().join(format!("{format:?}"));
        let simple = simple(64);
        let noise: ArrayRef = Arc::new(BinaryArray::from_iter_values((0..64).map(|i| vec![i as u8; 40_000])));
        let mut columns = simple.columns().to_vec();
        columns[0] = noise;
        write(&path, format, &[RecordBatch::try_new(simple.schema(), columns).unwrap()], &[]);
        let manifest = scanned(&spec(path.display())).unwrap();
        assert!(manifest.bytes() < 20_000 && manifest.shards[0].size_bytes > 50_000, "{}", manifest.bytes());
        assert_eq!(read(&manifest, 0, 0, OnBad::Fail).unwrap().x, values(64));
    }
}

#[test]
fn token_text_may_be_a_dictionary_or_a_view() {
    let dir = tempfile::tempdir().unwrap();
    let words = ["a", "bb", "a", "ccc"];
    let dictionary: DictionaryArray<Int32Type> = words.into_iter().collect();
    let columns: [ArrayRef; 3] = [
        Arc::new(dictionary),
        Arc::new(StringViewArray::from_iter_values(words)),
        Arc::new(LargeStringArray::from_iter_values(words)),
    ];
    for (i, token) in columns.into_iter().enumerate() {
        for format in [Format::Parquet, Format::File, Format::Stream] {
            let path = dir.path().join(format!("{i}-{format:?}"));
            let x = activation(Storage::Fixed, Dtype::F32, &values(4));
            let batch = RecordBatch::try_from_iter([("activation", x), ("token", token.clone())]).unwrap();
            write(&path, format, &[batch.clone(), batch], &[]);
            let manifest = scanned(&spec(path.display())).unwrap();
            for row_group in 0..2 {
                let text = read(&manifest, 0, row_group, OnBad::Fail).unwrap().tokens.token.unwrap();
                assert_eq!(text, StringArray::from_iter_values(words), "{i} {format:?}");
            }
        }
    }
}

#[test]
fn saelens_cached_activations() {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/arrow_stream/saelens_cached_activations.arrow");
    let mut spec = spec(path.display());
    spec.columns.activation = "blocks.0.hook_mlp_out".to_owned();
    let manifest = scanned(&spec).unwrap();
    assert_eq!((manifest.d_in, manifest.rows()), (3, 8));
    let has = manifest.has;
    assert!(has.token_id && has.pos && has.seq_id && !has.doc_id && !has.token);
    let block = read(&manifest, 0, 0, OnBad::Fail).unwrap();
    assert_eq!(block.x, (0..24).map(|i| i as f32).collect::<Vec<_>>());
    assert_eq!(block.tokens.token_id.unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(block.tokens.pos.unwrap(), [0, 1, 2, 3, 0, 1, 2, 3]);
    let seq = block.tokens.seq_id.unwrap();
    assert!(
        seq[..4].iter().all(|s| *s == seq[0]) && seq[4..].iter().all(|s| *s == seq[0] + 1) && seq[0] >= 0
    );
}

#[test]
fn contexts_of_nested_lists_with_a_document_each() {
    let dir = tempfile::tempdir().unwrap();
    let vectors = activation(Storage::List, Dtype::F16, &values(6));
    let outer = Arc::new(Field::new("item", vectors.data_type().clone(), true));
    let contexts: ArrayRef = Arc::new(FixedSizeListArray::new(outer, 3, vectors, None));
    let said = Metadata::from([("ARROW:extension:metadata", format!("[[3, {D}], \"float16\"]"))]);
    let fields =
        vec![column(contexts.data_type()).with_metadata(said), Field::new("doc_id", DataType::Int64, true)];
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    let batch =
        RecordBatch::try_new(schema, vec![contexts, Arc::new(Int64Array::from(vec![70, 80]))]).unwrap();
    for format in [Format::Parquet, Format::File] {
        let path = dir.path().join(format!("{format:?}"));
        write(&path, format, &[batch.slice(0, 1), batch.slice(1, 1)], &[]);
        let manifest = scanned(&spec(path.display())).unwrap();
        let block = read(&manifest, 0, 1, OnBad::Fail).unwrap();
        assert_eq!(block.x, values(6)[3 * D..]);
        assert_eq!(block.tokens.doc_id.unwrap(), [80, 80, 80]);
        let first = read(&manifest, 0, 0, OnBad::Fail).unwrap().tokens.seq_id.unwrap()[0];
        assert_eq!(block.tokens.seq_id.unwrap(), [first + 1; 3]);
    }
}
