//! Other people's programs read what a run has made: DuckDB, Polars, deltalake and Spark its tables,
//! SAELens its dictionary.
#![allow(
    clippy::disallowed_methods,
    reason = "the environment tells which Python and which test run this is"
)]

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use atomflow_tests::moto::PYTHON;
use atomflow_workers::{
    codes::Codes,
    learner::Dictionary,
    skeleton::{FrozenParameters, FrozenSae, Inference},
    threads::Threads,
};
use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

// ---------------------------------------------------------------- tables

#[test]
fn duckdb_reads_every_table_and_the_books_balance() {
    python("read_duckdb.py", "duckdb");
}

/// Codes of a coder have either sign, and `quality` has a line more.
#[test]
fn the_books_of_a_coder_balance() {
    let Some(python) = python_with("duckdb") else { return };
    let directory = tempfile::tempdir().unwrap();
    let (out, said) = (directory.path().join("run"), directory.path().join("stdout"));
    let output =
        atomflow(&out, &["plan.passes=1", "learner.n_latents=576", "harvest.coder={kind=\"omp\",k=32}"]);
    fs::write(&said, output.stdout).unwrap();
    let script = root().join("tests/python/read_duckdb.py");
    let output = Command::new(python).current_dir(root()).arg(script).arg(&out).arg(&said).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn polars_reads_every_table() {
    python("read_polars.py", "polars");
}

#[test]
fn the_deltalake_package_reads_every_log() {
    python("read_deltalake.py", "deltalake");
}

#[test]
fn spark_reads_every_table() {
    let java = Command::new("java").arg("-version").output();
    if java.is_ok_and(|output| output.status.success()) {
        python("read_spark.py", "pyspark");
    } else {
        eprintln!("skipped: Spark (there is no Java)");
    }
}

#[test]
fn pyarrow_and_duckdb_read_converted_shards() {
    let Some(python) = python_with("duckdb, numpy, pyarrow") else { return };
    for dtype in ["f16", "f32"] {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("fast");
        let mut convert = Command::new(program());
        convert.current_dir(root()).args(["convert", "jobs/specs/quickstart.toml", "--dtype", dtype]);
        let output = convert.args(["--shard-rows", "500", "--out"]).arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let script = root().join("tests/python/read_converted.py");
        let output = Command::new(&python).arg(script).arg(&out).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
}

/// Lets a script read the run, or says why not.
fn python(script: &str, module: &str) {
    let Some(python) = python_with(module) else { return };
    let run = quickstart();
    let script = root().join("tests/python").join(script);
    let mut command = Command::new(python);
    // Beside the data: a run names its shards as the spec does, here relative to the repository.
    command.current_dir(root()).arg(script).arg(run.join("run")).arg(run.join("stdout"));
    let output = command.output().unwrap();
    eprintln!("{}", text(&output));
    assert!(output.status.success(), "{}", text(&output));
}

/// The Python of the tests, if it has `module`.
fn python_with(module: &str) -> Option<String> {
    let Ok(python) = std::env::var(PYTHON) else {
        eprintln!("skipped: {module} ({PYTHON} is not set; tests/run.sh sets it)");
        return None;
    };
    let import = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if import.is_ok_and(|output| output.status.success()) {
        return Some(python);
    }
    eprintln!("skipped: {module} ({PYTHON}={python} cannot import it)");
    None
}

/// The quickstart, run once for all readers: `run/` and what the program said in `stdout`.
///
/// A test runner may give each test its own process, so the first one to hold the lock runs it.
fn quickstart() -> &'static Path {
    static RUN: OnceLock<PathBuf> = OnceLock::new();
    RUN.get_or_init(|| {
        let area = Path::new(env!("CARGO_TARGET_TMPDIR")).join("readers");
        fs::create_dir_all(&area).unwrap();
        let lock = File::create(area.join("lock")).unwrap();
        lock.lock().unwrap();
        let id = std::env::var("NEXTEST_RUN_ID").unwrap_or_else(|_| std::process::id().to_string());
        let directory = area.join(id);
        if !directory.join("stdout").exists() {
            forget_older_runs(&area);
            fs::create_dir(&directory).unwrap();
            let output = atomflow(&directory.join("run"), &[]);
            fs::write(directory.join("stdout"), output.stdout).unwrap();
        }
        directory
    })
}

fn forget_older_runs(area: &Path) {
    for entry in fs::read_dir(area).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        }
    }
}

/// Runs the quickstart into `out`, with changes.
fn atomflow(out: &Path, sets: &[&str]) -> Output {
    let mut command = Command::new(program());
    command.current_dir(root()).args(["run", "jobs/specs/quickstart.toml", "--out"]).arg(out);
    for set in sets {
        command.args(["--set", set]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    output
}

/// The program, built beside this test by the same profile.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().and_then(Path::parent).unwrap().join("atomflow")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn text(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

// ---------------------------------------------------------------- the dictionary

/// What the real SAELens made of 64 real rows; `tests/python/sae_lens.sh` writes it.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sae_lens");

/// The fixture's dictionary: width, latents, latents per row.
const SMALL: (usize, usize, usize) = (576, 64, 8);

#[test]
fn codes_and_reconstructions_are_those_of_sae_lens() {
    let bytes = fs::read(Path::new(FIXTURE).join("outputs.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let x = halves(theirs.tensor("x").unwrap());
    let dictionary = fixture_dictionary();
    let codes = dictionary.encode(&x);
    let mut x_hat = vec![0.0; x.len()];
    dictionary.decode(&codes, &mut x_hat);
    assert_close("codes", &dense(&codes), &floats(theirs.tensor("codes").unwrap()));
    assert_close("reconstructions", &x_hat, &floats(theirs.tensor("x_hat").unwrap()));
}

/// The dictionary as SAELens reads it: `W_enc` lies the other way round than in our rows.
fn fixture_dictionary() -> FrozenSae {
    let (d_in, n, k) = SMALL;
    let bytes = fs::read(Path::new(FIXTURE).join("sae_weights.safetensors")).unwrap();
    let weights = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = |name| floats(weights.tensor(name).unwrap());
    let columns = tensor("W_enc");
    let w_enc = (0..n * d_in).map(|i| columns[(i % d_in) * n + i / d_in]).collect();
    let (b_enc, w_dec, b_dec) = (tensor("b_enc"), tensor("W_dec"), tensor("b_dec"));
    let threads = Threads::new(1).unwrap();
    let parameters =
        FrozenParameters { d_in, pre_bias: true, w_enc, b_enc, w_dec, b_dec, threads, card: None };
    FrozenSae::new(Inference::TopK(k), parameters)
}

/// A new run of the same small job exports what the fixture holds: the same `cfg.json` to the byte,
/// and tensors of the same names, types, places and values.
///
/// Values are compared to 1e-5, not by bytes: same bytes are promised for one version of the
/// program, and every change of a kernel would otherwise ask for a new fixture.
#[test]
fn a_new_export_is_what_sae_lens_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let run = directory.path().join("small");
    let (_, n, k) = SMALL;
    atomflow(&run, &[&format!("learner.n_latents={n}"), &format!("learner.k={k}")]);
    let read = |name: &str| {
        let ours = fs::read(run.join("dictionary").join(name)).unwrap();
        (ours, fs::read(Path::new(FIXTURE).join(name)).unwrap())
    };
    let (ours, theirs) = read("cfg.json");
    assert_eq!(String::from_utf8_lossy(&ours), String::from_utf8_lossy(&theirs));
    let (ours, theirs) = read("sae_weights.safetensors");
    same_tensors(&SafeTensors::deserialize(&ours).unwrap(), &SafeTensors::deserialize(&theirs).unwrap());
}

fn same_tensors(ours: &SafeTensors, theirs: &SafeTensors) {
    assert_eq!(layout(ours), layout(theirs));
    for (name, _, _) in layout(theirs) {
        let values = |file: &SafeTensors| floats(file.tensor(&name).unwrap());
        assert_close(
            &format!("{name} (after a deliberate change: tests/python/sae_lens.sh)"),
            &values(ours),
            &values(theirs),
        );
    }
}

/// Names, types and shapes.
pub(crate) fn layout(file: &SafeTensors) -> Vec<(String, Dtype, Vec<usize>)> {
    let mut tensors: Vec<_> =
        file.iter().map(|(name, t)| (name.to_owned(), t.dtype(), t.shape().to_vec())).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// Equal to 1e-5 of the largest value.
pub(crate) fn assert_close(what: &str, found: &[f32], wanted: &[f32]) {
    assert_eq!(found.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let gap = found.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(gap <= 1e-5 * largest, "{what} differ by {gap}, the largest value being {largest}");
}

pub(crate) fn dense(codes: &Codes) -> Vec<f32> {
    let mut values = vec![0.0; codes.rows() * codes.n_latents];
    for (row, values) in values.chunks_mut(codes.n_latents).enumerate() {
        let (latents, row) = codes.row(row);
        latents.iter().zip(row).for_each(|(&latent, &value)| values[latent as usize] = value);
    }
    values
}

pub(crate) fn floats(tensor: TensorView) -> Vec<f32> {
    tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn halves(tensor: TensorView) -> Vec<f32> {
    tensor.data().as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect()
}
