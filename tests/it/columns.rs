//! Columns beside the vectors: read as they were written, named by `check` and `inspect`, missed by name;
//! learned from, reconstructed, and the same after a kill. Files that learners start from decide the run.

use arrow::{
    array::AsArray,
    datatypes::{Float64Type, Int32Type, Int64Type},
};
use atomflow_pipeline::source::{Asked, OnBad, SourceSpec, Want, asked::ValueKind, scan_columns};
use atomflow_tests::{
    beside::{self, D_IN, D_OTHER, D_TARGET, GRADES},
    data::{vector, write_parquet},
    run::{Job, differences, result, start, table, wait},
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

const TRANSCODER: &str =
    "kind = \"transcoder\"\nname = \"transcoder\"\nn_latents = 48\nk = 4\ntarget = \"target\"\nskip = true\n";
const CROSSCODER: &str = "kind = \"crosscoder\"\nname = \"crosscoder\"\nn_latents = 48\nk = 4\ninputs = [\"activation\", \"other\"]\n";
const GRADIENT: &str =
    "kind = \"gradient\"\nname = \"gradient\"\nn_latents = 48\nk = 4\ngradient = \"gradient\"\n";
const GUIDED: &str = "kind = \"guided\"\nname = \"guided\"\nn_latents = 48\nk = 4\nlabels = [\"label\"]\n";
const FAST: &str = "schedule = { lr = 5e-3 }\n";
const EVERY_WINDOW: [&str; 2] = ["--set", "runtime.checkpoint_windows=1"];

fn squares(of: impl Fn(usize) -> Vec<f32>) -> f64 {
    (0..1200).flat_map(of).map(|v| f64::from(v) * f64::from(v)).sum()
}

/// What each learner reconstructs: its width, and Σ‖·‖² over all rows.
fn reconstructed(name: &str) -> (usize, f64) {
    let own = || squares(|row| vector(row, D_IN));
    let other = |row| beside::other(row).into_iter().map(|v| f16::from_f32(v).to_f32()).collect();
    match name {
        "transcoder" => (D_TARGET, squares(beside::target)),
        "crosscoder" => (D_IN + D_OTHER, own() + squares(other)),
        _ => (D_IN, own()),
    }
}

/// Quality is that of what is reconstructed, and atoms are as wide.
#[test]
fn learners_of_several_columns_learn_side_by_side() {
    let job = job();
    let tables = [TRANSCODER, CROSSCODER, GRADIENT, GUIDED].map(|table| format!("{table}{FAST}"));
    job.learners(&tables.each_ref().map(String::as_str));
    job.run("one", &[]).done();
    job.run("divided", &["--workers", "2", "--threads", "3"]).done();
    assert_eq!(differences(&result(&job.path("one")), &result(&job.path("divided"))), Vec::<String>::new());
    for name in ["transcoder", "crosscoder", "gradient", "guided"] {
        let (width, sum) = reconstructed(name);
        let out = job.path("one").join("learners").join(name);
        let features = table(&out, "features");
        let decoder = features.column_by_name("decoder").unwrap().as_list::<i32>();
        assert!(decoder.iter().all(|atom| atom.unwrap().len() == width), "{name}");
        let quality = table(&out, "quality");
        let splits = quality.column_by_name("split").unwrap().as_string::<i32>();
        let all = splits.iter().position(|split| split == Some("all")).unwrap();
        let column = |name: &str| quality.column_by_name(name).unwrap();
        let fvu = column("fvu").as_primitive::<Float64Type>().value(all);
        assert!(fvu > 0.0 && fvu < 0.9, "{name}: FVU {fvu}");
        assert_eq!(column("sum_x").as_list::<i32>().value(all).len(), width, "{name}");
        let exponent = column("square_log2").as_primitive::<Int32Type>().value(all);
        let found = column("sum_x_sq").as_primitive::<Int64Type>().value(all) as f64 * 2f64.powi(-exponent);
        assert!((found / sum - 1.0).abs() < 1e-3, "{name}: {found} is not {sum}");
    }
}

#[test]
fn a_transcoder_that_is_killed_goes_on_to_the_same_bytes() {
    let job = job();
    job.learners(&[&format!("{TRANSCODER}{FAST}")]);
    job.run("whole", &EVERY_WINDOW).done();
    let mut child = start(job.run_command("killed", &EVERY_WINDOW));
    while !job.path("killed/epoch/train-00000002.json").exists() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    child.kill().unwrap();
    drop(wait(child));
    job.resume("killed", &[]).done();
    let different = differences(&result(&job.path("whole")), &result(&job.path("killed")));
    assert_eq!(different, Vec::<String>::new());
}

/// What a learner starts from is part of the run: another content is another run, and said so.
#[test]
fn a_base_that_changed_is_not_gone_on_with() {
    let job = job();
    job.learners(&[TOPK]);
    job.run("base", &[]).done();
    let base = job.path("base/dictionary");
    let boost = format!("kind = \"boost\"\nn_latents = 24\nk = 2\nbase = \"{}\"\n", base.display());
    job.learners(&[&boost]);
    let before = job.check().done()["run"].clone();
    let mut child = start(job.run_command("out", &EVERY_WINDOW));
    while !job.path("out/epoch/train-00000001.json").exists() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    child.kill().unwrap();
    drop(wait(child));
    let cfg = base.join("cfg.json");
    let content = std::fs::read(&cfg).unwrap();
    std::fs::write(&cfg, [&content[..], b"\n"].concat()).unwrap();
    assert_ne!(job.check().done()["run"], before);
    let error = job.resume("out", &[]).error(65);
    assert!(error.contains("cfg.json` was changed") && error.contains("run.json"), "{error}");
    std::fs::write(&cfg, &content).unwrap();
    assert_eq!(job.check().done()["run"], before);
    job.resume("out", &[]).done();
    std::fs::remove_file(&cfg).unwrap();
    let error = job.run("other", &[]).error(65);
    assert!(error.contains("learner.base") && error.contains("cfg.json"), "{error}");
}
