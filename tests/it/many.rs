//! Several learners in one job: each gives the bytes it would give alone, and none takes another down.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Field, Schema},
};
use atomflow_tests::{
    data::{Shard, write_parquet},
    run::{Finished, Job, differences, files, nameless, result, start, table, wait},
};
use serde_json::Value;

const A: &str = "kind = \"topk\"\nname = \"a\"\nn_latents = 64\nk = 4\ndead_after_tokens = 2000\nschedule = { lr = 5e-3 }\n";
const B: &str = "kind = \"topk\"\nname = \"b\"\nn_latents = 48\nk = 3\nseed = 7\nnormalize = \"sqrt_d\"\n";
const C: &str = "kind = \"topk\"\nname = \"c\"\nn_latents = 96\nk = 8\nschedule = { lr = 1e-3 }\n";
const WILD: &str = "kind = \"topk\"\nname = \"wild\"\nn_latents = 64\nk = 4\nschedule = { lr = 1e30 }\n";

const EVERY_WINDOW: [&str; 2] = ["--set", "runtime.checkpoint_windows=1"];

/// What must not depend on who else learns: the dictionary, the partials, and the tables but for names.
fn learned(directory: &Path) -> BTreeMap<String, String> {
    let mut learned: BTreeMap<String, String> = result(directory)
        .into_iter()
        .filter(|(name, _)| name.starts_with("dictionary/") || name.starts_with("partials/"))
        .collect();
    assert!(learned.len() > 10, "{learned:?}");
    for name in atomflow_schemas::table::TABLES.iter().map(|table| table.name) {
        learned.insert(name.to_owned(), format!("{:?}", nameless(&table(directory, name))));
    }
    learned
}

fn assert_learned_the_same(one: &Path, other: &Path) {
    let different = differences(&learned(one), &learned(other));
    assert!(different.is_empty(), "{} and {}: {different:?} differ", one.display(), other.display());
}

fn of(job: &Job, out: &str, learner: &str) -> std::path::PathBuf {
    job.path(out).join("learners").join(learner)
}

#[test]
fn each_gives_what_it_gives_alone() {
    let job = Job::planted(&[]);
    job.learners(&[A, B, C]);
    let done = job.run("three", &[]).done();
    let names: Vec<&str> =
        done["learners"].as_array().unwrap().iter().map(|l| l["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    job.run("divided", &["--workers", "3", "--threads", "3"]).done();
    for (name, learner) in [("a", A), ("b", B), ("c", C)] {
        job.learners(&[learner]);
        job.run(name, &[]).done();
        assert_learned_the_same(&job.path(name), &of(&job, "three", name));
        assert_learned_the_same(&job.path(name), &of(&job, "divided", name));
    }
    assert_eq!(differences(&result(&job.path("three")), &result(&job.path("divided"))), Vec::<String>::new());
}

/// The tables of all learners can be read as one: `run_id` tells them apart.
#[test]
fn the_run_id_ends_in_the_name() {
    let job = Job::planted(&["plan.passes=1"]);
    job.learners(&[A, B]);
    let done = job.run("out", &[]).done();
    let run = done["run"].as_str().unwrap();
    for name in ["a", "b"] {
        let features = table(&of(&job, "out", name), "features");
        let ids = arrow::array::AsArray::as_string::<i32>(features.column_by_name("run_id").unwrap());
        assert!(ids.iter().all(|id| id == Some(&format!("{run}/{name}"))), "{ids:?}");
    }
    assert!(done["tables"]["features"].as_str().unwrap().ends_with("out/learners/*/tables/features"));
    assert_eq!(job.inspect("out").done()["learners"][1]["state"], "done");
}

#[test]
fn killed_and_resumed_it_gives_the_same_bytes() {
    let job = Job::planted(&["plan.passes=6"]);
    job.learners(&[A, B, C]);
    job.run("whole", &EVERY_WINDOW).done();
    let whole = result(&job.path("whole"));
    let moments = [
        "learners/b/checkpoint/train-00000003.safetensors",
        "learners/a/epoch/train-00000004.json",
        "learners/c/epoch/freeze.json",
        "learners/b/epoch/harvest-00001.json",
        "learners/a/manifest.json",
    ];
    let ways: [&[&str]; 3] =
        [&[], &["--workers", "2", "--set", "runtime.checkpoint_windows=3"], &EVERY_WINDOW];
    for (at, object) in moments.into_iter().enumerate() {
        let out = format!("killed-{at}");
        let mut child = start(job.run_command(&out, &EVERY_WINDOW));
        while !job.path(&out).join(object).exists() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        child.kill().unwrap();
        drop(wait(child));
        job.resume(&out, ways[at % 3]).done();
        let different = differences(&whole, &result(&job.path(&out)));
        assert!(different.is_empty(), "killed when {object} appeared: {different:?}");
    }
}

fn failure(run: &Finished) -> &Value {
    assert_eq!(run.code, Some(64), "{} {}", run.last(), run.stderr);
    run.last()
}

#[test]
fn one_that_diverges_stops_alone() {
    let job = Job::planted(&[]);
    job.learners(&[A, B]);
    job.run("two", &[]).done();
    job.learners(&[A, WILD, B]);
    let run = job.run("three", &EVERY_WINDOW);
    let said = failure(&run)["message"].as_str().unwrap().to_owned();
    assert!(said.starts_with("1 of 3 learners failed: `wild` diverged at step "), "{said}");
    assert_eq!(run.last()["place"]["field"], "learner[1].schedule.lr");
    let outcome = &run.lines[run.lines.len() - 2];
    assert_eq!(
        (&outcome["status"], &outcome["learners"][1]["metrics"]),
        (&"incomplete".into(), &Value::Null)
    );
    for name in ["a", "b"] {
        assert_learned_the_same(&of(&job, "two", name), &of(&job, "three", name));
    }
    assert!(!of(&job, "three", "wild").join("dictionary").exists());
    // Finished or resumed, it says the same again, and does nothing more.
    let before = result(&job.path("three"));
    assert_eq!(failure(&job.resume("three", &[]))["message"], said.as_str());
    assert_eq!(failure(&job.run("three", &[]))["message"], said.as_str());
    assert_eq!(differences(&before, &result(&job.path("three"))), Vec::<String>::new());
}

/// What failed before the process was killed is not tried again, and the others go on.
#[test]
fn one_that_diverged_before_a_kill_is_not_waited_for() {
    let job = Job::planted(&["plan.passes=6"]);
    job.learners(&[WILD, C]);
    failure(&job.run("whole", &EVERY_WINDOW));
    let mut child = start(job.run_command("killed", &EVERY_WINDOW));
    while !job.path("killed").join("learners/c/epoch/train-00000003.json").exists() {
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
    child.kill().unwrap();
    drop(wait(child));
    failure(&job.resume("killed", &[]));
    let different = differences(&result(&job.path("whole")), &result(&job.path("killed")));
    assert_eq!(different, Vec::<String>::new());
}

#[test]
fn where_all_diverge_the_run_says_so() {
    let job = Job::planted(&[]);
    job.learners(&[WILD]);
    let said = |run: Finished| failure(&run)["message"].as_str().unwrap().to_owned();
    let alone = said(job.run("one", &[]));
    assert!(alone.starts_with("diverged at step "), "{alone}");
    assert_eq!(said(job.resume("one", &[])), alone);
    job.learners(&[WILD, &WILD.replace("wild", "wilder")]);
    let both = said(job.run("two", &[]));
    assert!(both.contains("2 of 2 learners failed"), "{both}");
    assert_eq!(said(job.resume("two", &[])), both);
}

/// Vectors of two hookpoints in one file, of different widths.
fn two_columns(job: &Job) {
    for (at, rows) in [0..900, 900..1700].into_iter().enumerate() {
        let first = Shard::new(rows.clone()).batch();
        let other = Shard { column: "other", ..Shard::new(rows).wide(24).without_tokens() }.batch();
        let fields: Vec<Arc<Field>> =
            first.schema().fields().iter().chain(other.schema().fields()).cloned().collect();
        let arrays = first.columns().iter().chain(other.columns()).cloned().collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
        write_parquet(&job.data(&format!("shard-{at}.parquet")), &batch, 130);
    }
}

#[test]
fn two_columns_of_one_reading() {
    let job = Job::new(&[]);
    two_columns(&job);
    let other = format!("{C}activation = \"other\"\n");
    job.learners(&[A, &other]);
    job.run("both", &["--workers", "2"]).done();
    job.learners(&[A]);
    job.run("a", &[]).done();
    job.learners(&[&other]);
    job.run("c", &[]).done();
    for name in ["a", "c"] {
        // `operator_stats` and `shards` tell of the reading, which was of both columns.
        let tells = |all: BTreeMap<String, String>| {
            all.into_iter().filter(|(name, _)| name != "operator_stats").collect::<BTreeMap<_, _>>()
        };
        let (alone, both) = (tells(learned(&job.path(name))), tells(learned(&of(&job, "both", name))));
        assert_eq!(differences(&alone, &both), Vec::<String>::new(), "{name}");
    }
    job.learners(&[A, &other.replace("other", "missing")]);
    let error = job.run("missing", &[]).error(65);
    assert!(error.contains("missing"), "{error}");
}

/// A row that one column cannot use is left out for all.
#[test]
fn a_row_is_bad_if_any_column_is() {
    let job = Job::new(&["source.on_bad=quarantine", "plan.passes=1"]);
    let first = Shard::new(0..900).batch();
    let spoiled = Shard { column: "other", ..Shard::new(0..900).without_tokens() };
    let other = spoiled.spoil(17, atomflow_tests::data::Spoil::Nan).batch();
    let fields: Vec<Arc<Field>> =
        first.schema().fields().iter().chain(other.schema().fields()).cloned().collect();
    let arrays = first.columns().iter().chain(other.columns()).cloned().collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap();
    write_parquet(&job.data("shard.parquet"), &batch, 300);
    job.learners(&[A, &format!("{B}activation = \"other\"\n")]);
    job.run("out", &[]).done();
    for name in ["a", "b"] {
        let shards = table(&of(&job, "out", name), "shards");
        let bad = shards.column_by_name("bad_rows").unwrap();
        assert_eq!(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(bad).values(), &[1]);
    }
}

/// Eight dictionaries read what one reads; eight jobs read it eight times.
#[test]
fn eight_read_what_one_reads() {
    let server = atomflow_tests::s3::Server::start();
    let job = Job::planted(&["plan.passes=1"]);
    job.move_to(&server);
    // Which ranges are read follows from the plan: as many requests are as many bytes.
    let fetched = |out: &str| {
        let before = server.requests_of("GET", "data/");
        Finished::from(job.run_command(out, &[]).envs(server.env()).output().unwrap()).done();
        server.requests_of("GET", "data/") - before
    };
    job.learners(&[A]);
    let one = fetched("one");
    job.learners(&[&format!("{}sweep = {{ k = [2, 4], seed = [0, 1, 2, 3] }}\n", A.replace("k = 4\n", ""))]);
    let eight = fetched("eight");
    assert_eq!(
        files(&job.path("eight").join("learners")).keys().filter(|n| n.ends_with("/manifest.json")).count(),
        8
    );
    assert!(one > 8, "{one}");
    assert_eq!(one, eight);
}
