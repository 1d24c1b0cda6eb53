//! Every learner's example spec is run, from shards to tables.

use std::fs;

use atomflow_tests::run::{Finished, REPOSITORY, command};
use atomflow_workers::variants::registry;

/// Runs the examples of every `of`-th learner, beginning with `first`: nextest runs the parts side by side.
fn run_examples(first: usize, of: usize) {
    for learner in registry().iter().skip(first).step_by(of) {
        let out = tempfile::tempdir().unwrap();
        let set = format!("out={}", out.path().join("run").display());
        let done = Finished::from(command(["run", learner.example, "--set", &set]).output().unwrap()).done();
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

#[test]
fn examples_point_editors_at_the_schema() {
    for learner in registry().iter().filter(|learner| learner.example.contains("/learners/")) {
        let text = fs::read_to_string(format!("{REPOSITORY}/{}", learner.example)).unwrap();
        assert!(text.starts_with("#:schema ../../schema/job.schema.json\n"), "{}", learner.example);
        assert!(text.contains(&format!("kind = \"{}\"", learner.kind)), "{}", learner.example);
    }
}
