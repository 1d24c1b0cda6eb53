//! Every learner's example spec is run, from shards to tables.

use std::fs;

use atomflow_tests::{
    outside,
    run::{Finished, REPOSITORY, command},
};
use atomflow_workers::variants::registry;

/// Runs the examples of every `of`-th learner, beginning with `first`: nextest runs the parts side by side.
fn run_examples(first: usize, of: usize) {
    for learner in registry().iter().skip(first).step_by(of) {
        let out = tempfile::tempdir().unwrap();
        let mut args = vec!["run".to_owned(), learner.example.to_owned()];
        args.extend(["--set".to_owned(), format!("out={}", out.path().join("run").display())]);
        if learner.kind == "e2e" {
            let socket = out.path().join("loss");
            outside::serve(&socket, &["seq_id", "pos"]);
            args.extend(["--set".to_owned(), format!("learner.outside=unix:{}", socket.display())]);
        }
        let done = Finished::from(command(&args).output().unwrap()).done();
        let fvu = done["metrics"]["heldout_fvu"].as_f64();
        assert!(fvu.is_some_and(f64::is_finite), "{}: {}", learner.kind, done["metrics"]);
        for table in ["features", "activation_stats", "autointerp_candidates"] {
            assert!(done["tables"][table].is_string(), "{}: no {table}", learner.kind);
        }
        for file in ["cfg.json", "sae_weights.safetensors"] {
            assert!(out.path().join("run/dictionary").join(file).exists(), "{}: no {file}", learner.kind);
        }
    }
}

#[test]
fn examples_run_first_quarter() {
    run_examples(0, 4);
}

#[test]
fn examples_run_second_quarter() {
    run_examples(1, 4);
}

#[test]
fn examples_run_third_quarter() {
    run_examples(2, 4);
}

#[test]
fn examples_run_fourth_quarter() {
    run_examples(3, 4);
}

/// Nobody answers: the run can be tried again, and says how.
#[test]
fn a_loss_that_nobody_computes_is_worth_another_try() {
    let out = tempfile::tempdir().unwrap();
    let (run, socket) = (out.path().join("run"), out.path().join("loss"));
    let sets = [format!("out={}", run.display()), format!("learner.outside=unix:{}", socket.display())];
    let args = ["run", "jobs/specs/learners/e2e.toml", "--set", &sets[0], "--set", &sets[1]];
    let error = Finished::from(command(args).output().unwrap()).error(75);
    assert!(error.contains("nobody listens") && error.contains("learner.outside"), "{error}");
    outside::serve(&socket, &["seq_id", "pos"]);
    let resumed = Finished::from(command(["resume", &run.display().to_string()]).output().unwrap()).done();
    assert!(resumed["metrics"]["heldout_fvu"].as_f64().is_some_and(|fvu| fvu < 1.0), "{resumed}");
}

#[test]
fn examples_point_editors_at_the_schema() {
    for learner in registry().iter().filter(|learner| learner.example.contains("/learners/")) {
        let text = fs::read_to_string(format!("{REPOSITORY}/{}", learner.example)).unwrap();
        assert!(text.starts_with("#:schema ../../schema/job.schema.json\n"), "{}", learner.example);
        assert!(text.contains(&format!("kind = \"{}\"", learner.kind)), "{}", learner.example);
    }
}
