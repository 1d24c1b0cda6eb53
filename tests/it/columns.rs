//! Columns beside the vectors: read as they were written, named by `check` and `inspect`, missed by name.

use atomflow_pipeline::source::{Asked, OnBad, SourceSpec, Want, asked::ValueKind, scan_columns};
use atomflow_tests::{
    beside::{self, D_IN, D_OTHER, D_TARGET, GRADES},
    data::{vector, write_parquet},
    run::Job,
};
use half::f16;

const TOPK: &str = "kind = \"topk\"\nn_latents = 32\nk = 4\n";

fn job() -> Job {
    let job = Job::new(&["plan.passes=1"]);
    write_parquet(&job.data("shard-0.parquet"), &beside::batch(0..700), 128);
    write_parquet(&job.data("shard-1.parquet"), &beside::batch(700..1200), 90);
    job
}

fn asked(name: &str, kind: ValueKind) -> Asked {
    Asked { name: name.to_owned(), kind, field: format!("learner.{name}") }
}

/// What a learner is given of a row, in the order in which it was asked for.
fn expected(row: usize) -> Vec<f32> {
    let halved = beside::other(row).into_iter().map(|v| f16::from_f32(v).to_f32());
    let label = beside::label(row).map_or(f32::NAN, |label| f32::from(u8::from(label)));
    let columns = vector(row, D_IN).into_iter().chain(halved).chain(beside::target(row));
    columns.chain(beside::gradient(row)).chain([label]).chain(beside::grades(row)).collect()
}

#[tokio::test]
async fn rows_are_all_columns_as_they_were_written() {
    let job = job();
    let spec = serde_json::json!({ "url": job.path("data/*").display().to_string() });
    let spec: SourceSpec = serde_json::from_value(spec).unwrap();
    let vectors = ["activation", "other", "target", "gradient"].map(|name| asked(name, ValueKind::Vectors));
    let labels = ["label", "grades"].map(|name| asked(name, ValueKind::Labels));
    let all: Vec<Asked> = vectors.into_iter().chain(labels).collect();
    let manifest = scan_columns(&spec, &all).await.unwrap();
    let widths: Vec<usize> = manifest.columns.iter().map(|column| column.width).collect();
    assert_eq!(widths, [D_IN, D_OTHER, D_TARGET, D_IN, 1, GRADES]);
    let mut row = 0;
    for (shard, groups) in manifest.shards.iter().map(|shard| shard.row_groups.len()).enumerate() {
        for group in 0..groups {
            let fetched = manifest.fetch(shard, group).await.unwrap();
            let want = Want { token_text: false, on_bad: OnBad::Fail };
            let rows = manifest.decode(shard, group, fetched, want).unwrap();
            for found in rows.x.chunks(manifest.d_in) {
                let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(found), bits(&expected(row)), "row {row}");
                row += 1;
            }
        }
    }
    assert_eq!(row, 1200);
}

#[test]
fn check_and_inspect_name_what_is_read() {
    let job = job();
    job.learners(&[TOPK, &format!("{TOPK}activation = \"other\"\n")]);
    let checked = job.check().done();
    let reads = serde_json::json!(["activation (16 values)", "other (24 values)"]);
    assert_eq!((&checked["reads"], &checked["d_in"]), (&reads, &24.into()));
    job.run("out", &[]).done();
    assert_eq!(job.inspect("out").done()["columns"], serde_json::json!(["activation", "other"]));
}

#[test]
fn a_missing_column_is_said_with_the_learner_that_asks() {
    let job = job();
    job.learners(&[TOPK, &format!("{TOPK}activation = \"othr\"\n")]);
    let error = job.run("out", &[]).error(65);
    for said in ["shard-0.parquet", "learner[1].activation", "`othr`", "the nearest name is `other`"] {
        assert!(error.contains(said), "{said} in {error}");
    }
    job.learners(&[&format!("{TOPK}activation = \"label\"\n")]);
    let error = job.run("out", &[]).error(65);
    assert!(error.contains("holds Boolean, not activation vectors"), "{error}");
    assert!(error.contains("learner.activation"), "{error}");
}
