//! Runs of the built program: jobs in temporary directories, what they print, what they leave.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, StringArray},
    compute::concat_batches,
};
use object_store::ObjectStoreExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::{data::Shard, s3::Server};

/// The program, built beside this test by the same profile.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // Tests lie in `deps/`, a program of figures beside the program itself.
    let beside = test.with_file_name("atomflow");
    let above = test.parent().and_then(|deps| deps.parent()).unwrap().join("atomflow");
    let path = if beside.exists() { beside } else { above };
    let profile = if path.parent().is_some_and(|p| p.ends_with("release")) { " --release" } else { "" };
    assert!(path.exists(), "{} is missing: run `cargo build{profile} -p atomflow` first", path.display());
    path
}

/// The root of the repository.
pub const REPOSITORY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The program with `--json`, at the root of the repository.
pub fn command<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program());
    command.arg("--json").args(args).current_dir(REPOSITORY);
    command
}

/// What a process left on its standard output, and how it ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Every line, parsed.
    pub lines: Vec<Value>,
    /// Standard error.
    pub stderr: String,
}

impl From<Output> for Finished {
    fn from(output: Output) -> Finished {
        let text = String::from_utf8(output.stdout).unwrap();
        // A killed process may end in the middle of a line.
        let lines = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Finished { code: output.status.code(), lines, stderr }
    }
}

impl Finished {
    /// The last line of standard output.
    pub fn last(&self) -> &Value {
        self.lines.last().unwrap_or(&Value::Null)
    }

    /// The last line of a run that must have ended well.
    pub fn done(self) -> Value {
        assert_eq!(self.code, Some(0), "{} {}", self.last(), self.stderr);
        self.last().clone()
    }

    /// Message, place and hint of a run that must have failed with `code`, as one text.
    pub fn error(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{} {}", self.last(), self.stderr);
        let last = self.last();
        assert_eq!((&last["status"], &last["exit_code"]), (&"error".into(), &code.into()));
        format!("{} | {} | {}", last["place"], last["message"], last["hint"])
    }

    /// Texts of the notes that were printed.
    pub fn notes(&self) -> Vec<String> {
        let notes = self.lines.iter().filter(|line| line["event"] == "note");
        notes.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

/// A job in a directory of its own: `data/`, `job.toml`, and runs beside them.
pub struct Job {
    directory: TempDir,
    sets: Vec<String>,
}

/// Everything of a small job but its name and source.
const SETTINGS: &str = "
[source.columns]

[plan]
passes = 2
batch_rows = 64
window_rows = 256
lanes = 8
heldout = 0.1

[learner]
kind = \"topk\"
n_latents = 64
k = 4
dead_after_tokens = 2000

[learner.schedule]
lr = 5e-3

[harvest]
context_tokens = 8
top = 4
slices = 3
per_slice = 2
importance = 2
random_active = 2
random_inactive = 4
hard_negatives = 4
neighbours = 4
pool_contexts = 64
";

impl Job {
    /// A small job over `data/*` of its own directory; changed by `sets`.
    pub fn new(sets: &[&str]) -> Job {
        let directory = TempDir::new().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        let url = format!("{}/data/*", directory.path().display());
        let job = Job { directory, sets: sets.iter().map(|s| (*s).to_owned()).collect() };
        job.source(&url);
        job
    }

    /// A small job over four Parquet shards of uneven sizes and row groups, 2,400 rows in all.
    pub fn planted(sets: &[&str]) -> Job {
        let job = Job::new(sets);
        for (shard, (rows, group)) in
            [(0..900, 100), (900..1000, 64), (1000..2111, 333), (2111..2400, 37)].into_iter().enumerate()
        {
            Shard::new(rows).parquet(&job.data(&format!("shard-{shard}.parquet")), group);
        }
        job
    }

    /// Reads from `url` from now on.
    pub fn source(&self, url: &str) {
        let spec = format!("name = \"small\"\n\n[source]\nurl = \"{url}\"\n{SETTINGS}");
        fs::write(self.path("job.toml"), spec).unwrap();
    }

    /// Learns with these from now on: the fields of one `[learner]`, or of each `[[learner]]`.
    pub fn learners(&self, tables: &[&str]) {
        let spec = fs::read_to_string(self.path("job.toml")).unwrap();
        let (before, rest) = spec.split_once("[[learner]]").or(spec.split_once("[learner]")).unwrap();
        let after = rest.split_once("[harvest]").unwrap().1;
        let header = if tables.len() == 1 { "[learner]" } else { "[[learner]]" };
        let tables: String = tables.iter().map(|table| format!("{header}\n{table}\n")).collect();
        fs::write(self.path("job.toml"), format!("{before}{tables}[harvest]{after}")).unwrap();
    }

    /// A path in the job's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A path in `data/`.
    pub fn data(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    /// `atomflow run` into `out`, which is a name in the job's directory or a URL.
    pub fn run_command(&self, out: &str, args: &[&str]) -> Command {
        let (spec, out) = (self.path("job.toml"), self.place(out));
        let mut command = command(["run"]);
        command.arg(spec).arg("--out").arg(out).args(args);
        self.sets.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        command
    }

    /// `atomflow resume` of the run in `out`.
    pub fn resume_command(&self, out: &str, args: &[&str]) -> Command {
        let out = self.place(out);
        let mut command = command(["resume"]);
        command.arg(out).args(args);
        command
    }

    /// Runs to the end into `out`.
    pub fn run(&self, out: &str, args: &[&str]) -> Finished {
        self.run_command(out, args).output().unwrap().into()
    }

    /// Resumes to the end the run in `out`.
    pub fn resume(&self, out: &str, args: &[&str]) -> Finished {
        self.resume_command(out, args).output().unwrap().into()
    }

    /// What `inspect` says of the run in `out`.
    pub fn inspect(&self, out: &str) -> Finished {
        command(["inspect", &self.place(out)]).output().unwrap().into()
    }

    /// What `check` says of the job.
    pub fn check(&self) -> Finished {
        let mut command = command(["check"]);
        command.arg(self.path("job.toml"));
        self.sets.iter().for_each(|set| {
            command.args(["--set", set]);
        });
        command.output().unwrap().into()
    }

    /// Puts `data/*` into the server's bucket, and reads it from there from now on.
    pub fn move_to(&self, server: &Server) {
        let client = server.client();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (name, bytes) in files(&self.path("data")) {
            let at = object_store::path::Path::from(format!("data/{name}"));
            runtime.block_on(client.put(&at, bytes.into())).unwrap();
        }
        self.source(&server.url("data/"));
    }

    fn place(&self, out: &str) -> String {
        if out.contains("://") { out.to_owned() } else { self.path(out).display().to_string() }
    }
}

/// Starts a process whose output nobody reads until it ends.
pub fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for a started process.
pub fn wait(child: Child) -> Finished {
    child.wait_with_output().unwrap().into()
}

/// Every file below `directory`, by its path relative to it. A file that a running process renames or
/// removes between listing and reading is not there.
pub fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut found, mut open) = (BTreeMap::new(), vec![directory.to_owned()]);
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(directory).unwrap().display().to_string();
                match fs::read(&path) {
                    Err(gone) if gone.kind() == std::io::ErrorKind::NotFound => {}
                    bytes => drop(found.insert(name, bytes.unwrap())),
                }
            }
        }
    }
    found
}

/// What must be the same however a run came about: every file with the hash of its bytes.
///
/// Left out are the objects that tell of processes instead of results: `gen/`, `checkpoint/` (which
/// of them are still there depends on where a process ended) and files a killed process was about to
/// name (`…#1`). In JSON objects the writer token, the generation and the seconds are blanked.
/// `epoch/train-…` depends on how often checkpoints are taken, and is left out too.
pub fn result(directory: &Path) -> BTreeMap<String, String> {
    // Those of one of several learners lie below `learners/<name>/`.
    let own = |name: &String| match name.strip_prefix("learners/").and_then(|rest| rest.split_once('/')) {
        Some((_, own)) => own.to_owned(),
        None => name.clone(),
    };
    let tells_of_processes = |name: &String| {
        ["gen/", "checkpoint/", "_probe/", "epoch/train-"].iter().any(|p| own(name).starts_with(p))
            || name.contains('#')
    };
    let all = files(directory).into_iter().filter(|(name, _)| !tells_of_processes(name));
    all.map(|(name, bytes)| {
        let bytes = if name.ends_with(".json") { blanked(&bytes) } else { bytes };
        (name, sha256(&bytes))
    })
    .collect()
}

/// Everything a later process relies on, by hash: all files but `checkpoint/`, where one that nobody
/// committed may lie, and files that have no name yet.
pub fn committed(directory: &Path) -> BTreeMap<String, String> {
    let counts = |name: &String| !name.starts_with("checkpoint/") && !name.contains('#');
    let all = files(directory).into_iter().filter(|(name, _)| counts(name));
    all.map(|(name, bytes)| (name, sha256(&bytes))).collect()
}

/// SHA-256 in hex.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn blanked(bytes: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(bytes).unwrap();
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(text).into_iter().map(Result::unwrap).collect();
    let blank = |mut value: Value| {
        blank(&mut value);
        value.to_string() + "\n"
    };
    values.into_iter().map(blank).collect::<String>().into_bytes()
}

fn blank(value: &mut Value) {
    if let Value::Object(object) = value {
        ["writer", "generation", "seconds", "encoder", "simd"].iter().for_each(|key| {
            object.remove(*key);
        });
        object.values_mut().for_each(blank);
    }
}

/// The names under which two sets of files differ.
pub fn differences(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names.into_iter().filter(|name| one.get(*name) != other.get(*name)).cloned().collect()
}

/// Fails with the names of the files that differ, or if the run has no tables.
pub fn assert_same(one: &BTreeMap<String, String>, other: &BTreeMap<String, String>, what: &str) {
    let different = differences(one, other);
    assert!(different.is_empty(), "{what}: {different:?} differ");
    let tables = one.keys().filter(|name| name.starts_with("tables/") && name.ends_with(".parquet")).count();
    assert!(tables >= atomflow_schemas::table::TABLES.len(), "{what}: only {tables} parts of tables");
}

/// All rows of a table of the run in `out`, parts in the order of their names.
pub fn table(out: &Path, name: &str) -> RecordBatch {
    let parts = files(&out.join("tables").join(name));
    let parts: Vec<RecordBatch> =
        parts.into_iter().filter(|(file, _)| file.ends_with(".parquet")).map(|(_, b)| rows(b)).collect();
    assert!(!parts.is_empty(), "no parts of {name}");
    concat_batches(&parts[0].schema(), &parts).unwrap()
}

/// A table without what names the run and the place of its input: run and feature ids are gone, and
/// of URLs the last part is left. What remains is the same for the same rows anywhere.
pub fn nameless(batch: &RecordBatch) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        match field.name().as_str() {
            "run_id" | "feature_id" => {}
            "url" | "shard" | "first_shard" | "last_shard" => {
                columns.push((field.name().clone(), last_parts(array)));
            }
            name => columns.push((name.to_owned(), array.clone())),
        }
    }
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}

fn last_parts(urls: &ArrayRef) -> ArrayRef {
    let last = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
    Arc::new(urls.as_string::<i32>().iter().map(|url| url.map(last)).collect::<StringArray>())
}

/// All rows of a Parquet file.
pub fn rows(bytes: Vec<u8>) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}
