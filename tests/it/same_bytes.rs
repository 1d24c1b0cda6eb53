//! The same spec over the same data gives the same bytes, however the work is divided.

use std::collections::BTreeMap;

use atomflow_tests::run::{Job, assert_same, result};

fn bytes_of(job: &Job, out: &str, args: &[&str]) -> BTreeMap<String, String> {
    job.run(out, args).done();
    result(&job.path(out))
}

#[test]
fn however_the_work_is_divided() {
    let job = Job::planted(&[]);
    let first = bytes_of(&job, "first", &[]);
    assert!(first.len() > 30, "{first:?}");
    let ways: &[&[&str]] = &[
        &[],
        &["--threads", "1"],
        &["--threads", "2"],
        &["--workers", "2"],
        &["--workers", "3"],
        &["--workers", "4", "--threads", "2"],
        &["--workers", "8"],
        &["--set", "runtime.checkpoint_windows=1"],
        &["--set", "runtime.checkpoint_windows=7", "--workers", "2"],
    ];
    for (at, args) in ways.iter().enumerate() {
        assert_same(&first, &bytes_of(&job, &format!("run-{at}"), args), &format!("{args:?}"));
    }
}

/// Five lanes over two to five workers: some workers own more lanes than others.
#[test]
fn lanes_that_workers_cannot_share_evenly() {
    let job = Job::planted(&["plan.lanes=5", "plan.batch_rows=61"]);
    let first = bytes_of(&job, "one", &["--workers", "1"]);
    for workers in ["2", "3", "4", "5"] {
        assert_same(&first, &bytes_of(&job, workers, &["--workers", workers]), workers);
    }
}

/// A worker without a lane would only read; it is refused before anything is written.
#[test]
fn more_workers_than_lanes_are_refused() {
    let job = Job::planted(&["plan.lanes=3"]);
    let error = job.run("out", &["--workers", "4"]).error(64);
    assert!(error.contains("3 lanes") && error.contains("runtime.workers"), "{error}");
    assert!(!job.path("out").exists());
    job.run("out", &["--workers", "3"]).done();
    // `resume` learns of the lanes from the run itself; extra workers read and change nothing.
    let more = job.resume("out", &["--workers", "4"]);
    assert_eq!(more.code, Some(0));
}

/// One window, one step, one lane; and windows smaller than a row group.
#[test]
fn extreme_plans() {
    let plans: &[&[&str]] = &[
        &["plan.lanes=1", "plan.window_rows=100000", "plan.batch_rows=100000"],
        &["plan.lanes=16", "plan.window_rows=16", "plan.batch_rows=16", "plan.passes=1"],
    ];
    for (at, sets) in plans.iter().enumerate() {
        let job = Job::planted(sets);
        let one = bytes_of(&job, "one", &["--threads", "1"]);
        let workers = if at == 0 { "1" } else { "2" };
        assert_same(
            &one,
            &bytes_of(&job, "two", &["--workers", workers, "--threads", "2"]),
            &format!("{sets:?}"),
        );
    }
}

#[test]
fn another_seed_gives_another_dictionary() {
    let job = Job::planted(&[]);
    let (one, other) = (bytes_of(&job, "one", &[]), bytes_of(&job, "other", &["--set", "seed=1"]));
    let weights = "dictionary/sae_weights.safetensors";
    assert_ne!(one[weights], other[weights]);
    assert_ne!(one["manifest.json"], other["manifest.json"]);
}

/// `prefetch_bytes` changes how much is read ahead, never what comes out; it is part of the spec,
/// so the run has another name, but the dictionary and the partials are the same.
#[test]
fn a_tiny_read_budget_only_takes_longer() {
    let job = Job::planted(&[]);
    let one = bytes_of(&job, "one", &[]);
    let tiny = bytes_of(&job, "tiny", &["--workers", "2", "--set", "source.prefetch_bytes=1"]);
    let nameless = |all: &BTreeMap<String, String>| {
        let nameless =
            all.iter().filter(|(name, _)| name.starts_with("dictionary/") || name.starts_with("partials/"));
        nameless.map(|(name, hash)| (name.clone(), hash.clone())).collect::<Vec<_>>()
    };
    assert_eq!(nameless(&one), nameless(&tiny));
}
