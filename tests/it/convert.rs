//! `atomflow convert`: the same values in the fast layout, whatever they came from and however often
//! the process was killed on the way.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use atomflow_pipeline::convert::Checksum;
use atomflow_tests::{
    Fault,
    data::{DOCUMENT, Layout, Shard, Spoil, vector},
    run::{Finished, Job, command, differences, files, result, rows, start, wait},
    s3::Server,
};
use half::{bf16, f16};
use serde_json::{Value, json};

fn convert_command(from: &str, out: &str, args: &[&str]) -> Command {
    command([&["convert", from, "--out", out], args].concat())
}

fn convert(from: &str, out: &str, args: &[&str]) -> Finished {
    convert_command(from, out, args).output().unwrap().into()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

type Round = fn(f32) -> f32;

/// Of rows of the planted dataset, by a rounding.
fn checksum(rows: impl Iterator<Item = usize>, round: Round) -> String {
    let row = |row| Checksum::of_row(&vector(row, 16).into_iter().map(round).collect::<Vec<_>>());
    rows.map(row).sum::<Checksum>().to_string()
}

fn half(v: f32) -> f32 {
    f16::from_f32(v).to_f32()
}

fn brain(v: f32) -> f32 {
    bf16::from_f32(v).to_f32()
}

/// The shards in `out`, by name.
fn shards(out: &Path) -> BTreeMap<String, Vec<u8>> {
    files(out).into_iter().filter(|(name, _)| name.ends_with(".parquet")).collect()
}

fn rows_of(done: &Value) -> Vec<u64> {
    done["files"].as_array().unwrap().iter().map(|file| file["rows"].as_u64().unwrap()).collect()
}

#[test]
fn every_readable_layout_gives_the_same_rows() {
    let job = Job::new(&[]);
    let whole = |v| v;
    let layouts: [(Layout, &str, Round); 7] = [
        (Layout::FixedListF32, "f32", whole),
        (Layout::FixedListF16, "f16", half),
        (Layout::List, "f32", whole),
        (Layout::LargeList, "f32", whole),
        (Layout::RawF32, "f32", whole),
        (Layout::RawF16, "f16", half),
        (Layout::RawBf16, "bf16", brain),
    ];
    type Write = fn(&Shard, &Path);
    let formats: [(&str, Write); 3] = [
        ("parquet", |shard, path| shard.parquet(path, 100)),
        ("arrow", |shard, path| shard.arrow_file(path, 100)),
        ("stream", |shard, path| shard.arrow_stream(path, 100)),
    ];
    let mut written: BTreeMap<&str, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    for (layout, dtype, round) in layouts {
        for (format, write) in formats {
            let name = format!("{layout:?}-{format}");
            write(&Shard::new(0..700).layout(layout), &job.path(&name));
            let out = job.path(&format!("{name}-out"));
            let raw = name.starts_with("Raw");
            let set = format!("source.dtype=\"{dtype}\"");
            let args: &[&str] = if raw { &["--verify", "--set", &set] } else { &["--verify"] };
            let done = convert(&text(&job.path(&name)), &text(&out), args).done();
            assert_eq!((&done["dtype"], &done["rows"]), (&json!(dtype), &json!(700)), "{name}");
            assert_eq!(done["checksum"], checksum(0..700, round), "{name}");
            assert_eq!(done["source_checksum"], done["checksum"], "{name}");
            let same = written.entry(dtype).or_insert_with(|| shards(&out));
            assert!(*same == shards(&out), "{name}: the same row groups give the same bytes");
        }
    }
}

#[test]
fn token_columns_stay_beside_their_rows() {
    let job = Job::planted(&[]);
    let out = job.path("fast");
    convert(&text(&job.path("job.toml")), &text(&out), &["--shard-rows", "700"]).done();
    let mut at = 0;
    for (name, bytes) in shards(&out) {
        let batch = rows(bytes);
        let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
        assert_eq!(names, ["activation", "token_id", "token", "doc_id", "seq_id", "pos"], "{name}");
        let n = batch.num_rows();
        let same = Shard::new(at..at + n).layout(Layout::RawF32).batch();
        for column in names {
            let (ours, theirs) =
                (batch.column_by_name(&column).unwrap(), same.column_by_name(&column).unwrap());
            assert!(ours.to_data() == theirs.to_data(), "{column} of {name}");
        }
        at += n;
    }
    assert_eq!(at, 2400);
}

#[test]
fn documents_are_kept_whole_across_shards_of_the_source() {
    let job = Job::planted(&[]);
    let out = job.path("fast");
    let done = convert(&text(&job.path("data")), &text(&out), &["--shard-rows", "100"]).done();
    let cut = rows_of(&done);
    assert!(cut.len() > 10 && cut.iter().rev().skip(1).all(|n| *n == 2 * DOCUMENT as u64), "{cut:?}");
    let mut last = -1;
    for bytes in shards(&out).into_values() {
        let batch = rows(bytes);
        let documents = batch.column_by_name("doc_id").unwrap().as_primitive::<Int64Type>().values().to_vec();
        assert!(documents[0] > last);
        last = documents[documents.len() - 1];
    }
    // Without documents there is nothing to keep whole.
    Shard::new(0..250).without_tokens().parquet(&job.path("bare.parquet"), 64);
    let done = convert(&text(&job.path("bare.parquet")), &text(&job.path("bare")), &["--shard-rows", "100"]);
    assert_eq!(rows_of(&done.done()), [100, 100, 50]);
}

#[test]
fn a_killed_conversion_goes_on_and_ends_with_the_same_bytes() {
    let job = Job::new(&[]);
    for shard in 0..6 {
        let rows = shard * 4000..(shard + 1) * 4000;
        let spoiled = Shard::new(rows).spoil(1000, Spoil::Nan).spoil(3999, Spoil::Null);
        spoiled.parquet(&job.data(&format!("{shard}.parquet")), 1500);
    }
    let (from, quarantine) = (text(&job.path("data")), "source.on_bad=\"quarantine\"");
    let args = ["--shard-rows", "1000", "--set", quarantine];
    let done = convert(&from, &text(&job.path("whole")), &args).done();
    assert_eq!(done["left_out"].as_array().unwrap().len(), 12, "{done}");
    let whole = result(&job.path("whole"));
    let moments = ["run.json", "gen/000001.json", "shard-00000.parquet", "epoch/convert-00002.json"];
    let later =
        ["shard-00007.parquet", "epoch/convert-00013.json", "epoch/convert-00021.json", "convert.json"];
    let mut interrupted = 0;
    for (round, object) in moments.iter().chain(&later).enumerate() {
        let out = job.path(&format!("killed-{round}"));
        let mut child = start(convert_command(&from, &text(&out), &args));
        appears(&out.join(object));
        child.kill().unwrap();
        interrupted += usize::from(wait(child).code.is_none());
        assert_eq!(convert(&from, &text(&out), &args).done(), done);
        assert_eq!(differences(&whole, &result(&out)), Vec::<String>::new(), "killed at {object}");
    }
    assert!(interrupted > 2, "{interrupted}");
}

fn appears(object: &Path) {
    let began = Instant::now();
    while !object.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{} does not appear", object.display());
        sleep(Duration::from_micros(200));
    }
}

#[test]
fn from_and_to_a_bucket_under_faults() {
    let (job, server) = (Job::planted(&[]), Server::start());
    let args = ["--shard-rows", "300", "--verify"];
    let here = convert(&text(&job.path("data")), &text(&job.path("fast")), &args).done();
    job.move_to(&server);
    server.fault(Fault::slow_down().probability(0.1));
    server.fault(Fault::drop_after().probability(0.1).method("PUT"));
    let there: Finished = convert_command(&server.url("data/"), &server.url("fast"), &args)
        .envs(server.env())
        .output()
        .unwrap()
        .into();
    let there = there.done();
    assert_eq!((&there["files"], &there["checksum"]), (&here["files"], &here["checksum"]));
    assert!(server.faults_met() > 0);
}

#[test]
fn a_narrower_type_rounds_or_refuses() {
    let job = Job::new(&[]);
    Shard::new(0..300).parquet(&job.data("a.parquet"), 100);
    Shard::new(300..500).times(1e5).parquet(&job.data("b.parquet"), 100);
    let (a, b) = (text(&job.data("a.parquet")), text(&job.data("b.parquet")));
    let done = convert(&a, &text(&job.path("a16")), &["--dtype", "f16", "--verify"]).done();
    assert_eq!(done["checksum"], checksum(0..300, half));
    assert_eq!(done["source_checksum"], checksum(0..300, |v| v));
    let exact =
        (0..300).flat_map(|row| vector(row, 16)).filter(|v| half(*v).to_bits() == v.to_bits()).count();
    assert_eq!(done["values_rounded"], 300 * 16 - exact);
    let error = convert(&b, &text(&job.path("b16")), &["--dtype", "f16"]).error(65);
    assert!(
        ["b.parquet", "row_group", "\"row\"", "f16 cannot hold", "bf16"].iter().all(|w| error.contains(w)),
        "{error}"
    );
    convert(&b, &text(&job.path("bb16")), &["--dtype", "bf16", "--verify"]).done();
    // A source of two types is written in the one that holds both.
    Shard::new(300..500).layout(Layout::FixedListF16).parquet(&job.data("b.parquet"), 100);
    let done = convert(&text(&job.path("data")), &text(&job.path("both")), &[]).done();
    assert_eq!((&done["dtype"], &done["values_rounded"]), (&json!("f32"), &json!(0)));
}

#[test]
fn rows_that_cannot_be_used_are_named_or_left_out() {
    let job = Job::new(&[]);
    Shard::new(0..300)
        .spoil(130, Spoil::Infinity)
        .spoil(131, Spoil::Nan)
        .parquet(&job.data("a.parquet"), 100);
    let from = text(&job.path("data"));
    let error = convert(&from, &text(&job.path("no")), &[]).error(65);
    assert!(
        ["a.parquet", "\"row_group\":1", "\"row\":30", "infinity"].iter().all(|w| error.contains(w)),
        "{error}"
    );
    let quarantine = ["--verify", "--set", "source.on_bad=\"quarantine\""];
    let done = convert(&from, &text(&job.path("yes")), &quarantine).done();
    let good = (0..300).filter(|row| ![130, 131].contains(row));
    assert_eq!((&done["rows"], &done["checksum"]), (&json!(298), &json!(checksum(good, |v| v))));
    let reasons: Vec<&str> =
        done["left_out"].as_array().unwrap().iter().map(|l| l["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["infinity in the activation", "NaN in the activation"]);
}

/// A job needs no dtype for converted shards, and a job over them is a job over the same rows.
#[test]
fn a_job_runs_on_converted_shards() {
    let job = Job::planted(&[]);
    let before = job.check().done();
    convert(&text(&job.path("job.toml")), &text(&job.path("fast")), &["--shard-rows", "600"]).done();
    job.source(&text(&job.path("fast")));
    let after = job.check().done();
    assert_eq!((&before["rows"], &before["columns"]), (&after["rows"], &after["columns"]));
    let done = job.run("run", &[]).done();
    assert!(done["metrics"]["heldout_fvu"].as_f64().unwrap() < 1.0, "{done}");
}

#[test]
fn what_is_finished_stays_and_what_is_damaged_is_noticed() {
    let job = Job::planted(&[]);
    let (from, out) = (text(&job.path("data")), job.path("fast"));
    let done = convert(&from, &text(&out), &[]).done();
    let before = files(&out);
    assert_eq!(convert(&from, &text(&out), &["--verify"]).done(), done);
    assert!(files(&out) == before, "nothing is written a second time");
    let error = convert(&from, &text(&out), &["--shard-rows", "50"]).error(64);
    assert!(error.contains("belongs to job `convert`"), "{error}");

    let name = before.keys().find(|name| name.ends_with(".parquet")).unwrap();
    let mut bytes = before[name].clone();
    bytes[4000] ^= 1;
    fs::write(out.join(name), bytes).unwrap();
    let error = convert(&from, &text(&out), &["--verify"]).error(65);
    assert!(error.contains(name) && error.contains("checksum"), "{error}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_explained() {
    let job = Job::planted(&[]);
    let (from, out) = (text(&job.path("data")), text(&job.path("fast")));
    convert(&from, &out, &["--shard-rows", "0"]).error(64);
    convert(&from, &out, &["--dtype", "f8"]).error(64);
    let error = convert(&from, &out, &["--set", "source.colums.doc_id=\"x\""]).error(64);
    assert!(error.contains("columns"), "{error}");
    let error = convert(&text(&job.path("nothing")), &out, &[]).error(65);
    assert!(error.contains("nothing"), "{error}");
}
