//! A coder in front of the learned dictionary at harvest: what it finds, what it is compared with.

use std::{collections::BTreeMap, fs, path::Path};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use atomflow_tests::run::{Finished, Job, REPOSITORY, assert_same, command, result, table};
use serde_json::Value;

const OMP: &str = "harvest.coder={kind=\"omp\",k=4}";

/// A job of its own directory, with the shards that ship with the repository.
fn example(out: &Path, sets: &[&str]) -> Value {
    let out = format!("out={}", out.display());
    let sets = sets.iter().flat_map(|set| ["--set", set]);
    let args = ["run", "jobs/specs/omp-harvest.toml", "--set", &out].into_iter().chain(sets);
    Finished::from(command(args).output().unwrap()).done()
}

/// The `quality` of a run: (rows, fvu, l0, Σ‖x‖²) by split.
fn quality(out: &Path) -> BTreeMap<String, (i64, f64, f64, i64)> {
    let quality = table(out, "quality");
    let column = |name: &str| quality.column_by_name(name).unwrap().clone();
    let ints = |name: &str| column(name).as_primitive::<Int64Type>().clone();
    let reals = |name: &str| column(name).as_primitive::<Float64Type>().clone();
    let (rows, squares, fvu, l0) = (ints("rows"), ints("sum_x_sq"), reals("fvu"), reals("l0"));
    let splits = column("split");
    let split = |row: usize| splits.as_string::<i32>().value(row).to_owned();
    let line = |row: usize| (rows.value(row), fvu.value(row), l0.value(row), squares.value(row));
    (0..quality.num_rows()).map(|row| (split(row), line(row))).collect()
}

/// The same dictionary under its own encoder and under OMP, on real activations: the gap that one run
/// reports is the difference of the two runs.
#[test]
fn the_gap_is_the_difference_of_two_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (omp, own) = (directory.path().join("omp"), directory.path().join("own"));
    let coded = example(&omp, &[]);
    let spec = fs::read_to_string(format!("{REPOSITORY}/jobs/specs/omp-harvest.toml")).unwrap();
    let spec: String = spec.lines().filter(|l| !l.starts_with("coder =")).map(|l| format!("{l}\n")).collect();
    let path = directory.path().join("own.toml");
    fs::write(&path, spec).unwrap();
    let run = command(["run", &path.display().to_string(), "--out", &own.display().to_string()]).output();
    let plain = Finished::from(run.unwrap()).done();

    let weights = "dictionary/sae_weights.safetensors";
    assert_eq!(fs::read(omp.join(weights)).unwrap(), fs::read(own.join(weights)).unwrap());
    let (coded, plain) = (&coded["metrics"], &plain["metrics"]);
    assert!(plain["amortisation"].is_null());
    let said = &coded["amortisation"];
    let number = |value: &Value| value.as_f64().unwrap();
    assert_eq!(said["coder"], "omp");
    assert_eq!((&said["encoder_fvu"], &said["encoder_l0"]), (&plain["heldout_fvu"], &plain["l0"]));
    let (encoder, coder) = (number(&plain["heldout_fvu"]), number(&coded["heldout_fvu"]));
    assert!((number(&said["gap"]) - (encoder - coder)).abs() <= 1e-9);
    assert!(number(&coded["l0"]) <= number(&plain["l0"]), "as many latents: {coded} {plain}");
    println!("own encoder {encoder}, OMP {coder}");
    assert!(coder < encoder, "OMP {coder}, own encoder {encoder}");

    let (coded, plain) = (quality(&omp), quality(&own));
    assert_eq!(coded["heldout_encoder"], plain["heldout"]);
    assert_eq!((coded.len(), plain.len()), (6, 5));
    let (heldout, encoded) = (coded["heldout"], coded["heldout_encoder"]);
    assert_eq!((heldout.0, heldout.3), (encoded.0, encoded.3), "the same rows");
    // A coder's codes are not those of a linear encoder.
    let features = table(&omp, "features");
    let column = |name: &str| features.column_by_name(name).unwrap().clone();
    assert_eq!(column("encoder_norm").null_count(), features.num_rows());
    assert!(column("k").as_primitive::<Int32Type>().iter().all(|k| k == Some(32)));
}

/// The partials of shards are integers with a coder, too: no byte depends on who adds them.
#[test]
fn a_coder_gives_the_same_bytes_however_the_work_is_divided() {
    let job = Job::planted(&[OMP]);
    let bytes = |out: &str, args: &[&str]| {
        job.run(out, args).done();
        result(&job.path(out))
    };
    let first = bytes("first", &["--threads", "1"]);
    assert_same(&first, &bytes("two", &["--workers", "2"]), "two workers");
    assert_same(&first, &bytes("many", &["--workers", "5", "--threads", "2"]), "five workers");
}

/// Without held-out rows there is nothing to compare on, and that is what is said.
#[test]
fn nothing_held_out_has_no_gap() {
    let job = Job::planted(&[OMP, "plan.heldout=0.0"]);
    let done = job.run("out", &[]).done();
    let said = &done["metrics"]["amortisation"];
    assert_eq!((&said["coder"], &said["gap"]), (&"omp".into(), &Value::Null));
    assert_eq!(quality(&job.path("out"))["heldout_encoder"].0, 0);
}

/// Every coder harvests; of several learners each has its own gap. Bad rows have no codes to find.
#[test]
fn every_coder_harvests_every_learner_of_a_job() {
    let coders = [
        "{kind=\"mp\",k=4}",
        "{kind=\"nnomp\",k=4}",
        "{kind=\"gradient_pursuit\",k=4}",
        "{kind=\"cd\",lambda=0.1}",
        "{kind=\"fista\",lambda=0.1}",
        "{kind=\"lars\",lambda=0.1,positive=true}",
    ];
    let job = Job::planted(&["plan.passes=1"]);
    let wide = "kind = \"topk\"\nn_latents = 64\nk = 4\n";
    job.learners(&[wide, "kind = \"batchtopk\"\nn_latents = 48\nk = 4\n"]);
    for coder in coders {
        let set = format!("harvest.coder={coder}");
        let done = job.run(&coder.replace(|c: char| !c.is_alphanumeric(), "-"), &["--set", &set]).done();
        let learners = done["learners"].as_array().unwrap();
        assert_eq!(learners.len(), 2);
        for learner in learners {
            let said = &learner["metrics"]["amortisation"];
            assert!(coder.contains(said["coder"].as_str().unwrap()), "{said}");
            assert!(said["gap"].as_f64().is_some_and(f64::is_finite), "{said}");
            assert!(learner["metrics"]["heldout_fvu"].as_f64().unwrap() < 1.0, "{learner}");
        }
    }
}
