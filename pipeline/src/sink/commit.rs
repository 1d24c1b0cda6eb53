//! Generations (fences) and commits: who may write, and what is done.
//!
//! A process that was believed dead may still run. It is kept from committing by the generation it
//! no longer owns; and should it slip through between the check and the write, what it commits is a
//! function of the plan, so the process that replaced it finds there what it would have written and
//! goes on. Two processes that disagree are an error, never a silent loss.

use atomflow_schemas::manifest::{
    Commit, FORMAT, FileEntry, GenerationRecord, InputFile, LearnerFailure, RunManifest, RunRecord,
    from_bytes, to_bytes,
};
use atomflow_workers::kernels::Path;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::output::{Created, Output};
use crate::{Error, Result};

/// Name of the object that says whose directory it is.
pub const RUN: &str = "run.json";
/// Name of the object that says the run is complete.
pub const MANIFEST: &str = "manifest.json";
/// Small objects read at a time.
const READ_AHEAD: usize = 16;

/// An incarnation of a run. Only the newest may commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    /// 1 for the first process of a run, then one more for each resume.
    pub number: u64,
}

/// How a run was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// The directory was free; the run begins.
    New,
    /// An earlier process of the same run was here.
    Resumed,
}

impl Generation {
    /// Takes over the run: from now on no older process can commit.
    pub async fn claim(output: &Output) -> Result<Generation> {
        Generation::claim_with(output, Path::best().name()).await
    }

    /// [`Generation::claim`] by a process that computes with `arithmetic`.
    pub async fn claim_with(output: &Output, arithmetic: &str) -> Result<Generation> {
        let mut number = newest_generation(output).await? + 1;
        loop {
            let (writer, simd) = (output.writer.clone(), arithmetic.to_owned());
            let record = GenerationRecord { format: FORMAT, generation: number, writer, simd };
            match output.create(&generation_path(number), encode(&record)?).await? {
                Created::New | Created::Ours => return Ok(Generation { number }),
                // Another process was faster; ours comes after it and fences it.
                Created::Other(_) => number += 1,
            }
        }
    }

    /// Fails if a newer process owns the run.
    pub async fn check(&self, output: &Output) -> Result<()> {
        match newest_generation(output).await? {
            newest if newest > self.number => Err(Error::retry(format!(
                "a newer process (generation {newest}) owns this run; this one (generation {}) stops",
                self.number
            ))
            .object(output.url("gen"))
            .hint("nothing is lost: the newer process goes on from the last commit")),
            _ => Ok(()),
        }
    }
}

/// The newest generation of the run in this directory; 0 if no process was ever there.
pub async fn newest_generation(output: &Output) -> Result<u64> {
    let (output, mut newest) = (&output.root(), 0);
    for (path, _) in output.list("gen").await? {
        let number = path.strip_prefix("gen/").and_then(|name| name.strip_suffix(".json")?.parse().ok());
        newest = newest.max(number.ok_or_else(|| foreign(output, &path, "not the name of a generation"))?);
    }
    Ok(newest)
}

/// What a process of this run said of itself.
pub async fn read_generation(output: &Output, number: u64) -> Result<Option<GenerationRecord>> {
    read(&output.root(), &generation_path(number)).await
}

fn generation_path(number: u64) -> String {
    format!("gen/{number:06}.json")
}

/// Opens the run in this directory, or refuses a directory that belongs to another one.
pub async fn open_run(output: &Output, run: &RunRecord) -> Result<Opened> {
    match output.create(RUN, encode(run)?).await? {
        Created::New => Ok(Opened::New),
        Created::Ours => Ok(Opened::Resumed),
        Created::Other(bytes) => {
            let found: RunRecord = decode(output, RUN, &bytes)?;
            // The run id does not know which version of a shard it was; the record does.
            let same = found.run == run.run && found.shards == run.shards && found.files == run.files;
            if same { Ok(Opened::Resumed) } else { Err(other_run(output, &found, run)?) }
        }
    }
}

fn other_run(output: &Output, found: &RunRecord, ours: &RunRecord) -> Result<Error> {
    // Numbers are compared as they were printed and read, like those found.
    let ours: RunRecord = decode(output, RUN, &encode(ours)?)?;
    if found.job == ours.job && found.shards != ours.shards {
        let which = first_difference(&found.shards, &ours.shards);
        let message = format!("the shards are not those that run {} began with{which}", found.run);
        let hint = "put the shards back as they were, or choose another `out` for the new data";
        return Ok(Error::data(message).object(output.url(RUN)).hint(hint));
    }
    if found.job == ours.job && found.files != ours.files {
        let differs = |file: &&InputFile| !ours.files.contains(file);
        let which = found.files.iter().find(differs).map(|file| format!(": `{}` was changed", file.url));
        let which = which.unwrap_or_default();
        let message =
            format!("the files that learners read are not those that run {} began with{which}", found.run);
        let hint = "put the file back as it was, or choose another `out`: its content decides the result";
        return Ok(Error::data(message).object(output.url(RUN)).hint(hint));
    }
    let message = format!("this output directory belongs to job `{}` (run {})", found.name, found.run);
    let hint = format!("choose another `out` for job `{}` (run {})", ours.name, ours.run);
    Ok(Error::spec(message).object(output.url(RUN)).field("out").hint(hint))
}

/// Names the first shard that is not what it was.
fn first_difference(before: &Value, now: &Value) -> String {
    let all = |shards: &Value| shards.as_array().cloned().unwrap_or_default();
    let (before, now) = (all(before), all(now));
    let gone = before.iter().find(|shard| !now.contains(shard)).map(|shard| (shard, "changed or removed"));
    let difference = gone.or_else(|| now.iter().find(|s| !before.contains(s)).map(|shard| (shard, "added")));
    match difference.and_then(|(shard, what)| Some((shard.get("url")?.as_str()?, what))) {
        Some((url, what)) => format!(": `{url}` was {what}"),
        None => String::new(),
    }
}

/// The run that this directory belongs to, if any.
pub async fn read_run(output: &Output) -> Result<Option<RunRecord>> {
    read(output, RUN).await
}

/// The manifest of the finished run, if it is finished.
pub async fn read_manifest(output: &Output) -> Result<Option<RunManifest>> {
    read(output, MANIFEST).await
}

/// Commits: from here on the work called `name` is done, and `files` hold it. If an earlier
/// process committed the same, that commit is returned.
pub async fn commit(
    output: &Output,
    generation: &Generation,
    name: &str,
    files: Vec<FileEntry>,
    body: Value,
) -> Result<Commit> {
    let path = commit_path(name)?;
    generation.check(output).await?;
    let (number, writer) = (generation.number, output.writer.clone());
    let ours = Commit { format: FORMAT, name: name.to_owned(), generation: number, writer, files, body };
    match output.create(&path, encode(&ours)?).await? {
        Created::New | Created::Ours => Ok(ours),
        Created::Other(bytes) => adopt(output, &path, ours, &bytes),
    }
}

/// Takes over what another process committed, if it is what we would have committed.
fn adopt(output: &Output, path: &str, ours: Commit, bytes: &Bytes) -> Result<Commit> {
    let found: Commit = decode(output, path, bytes)?;
    let adopted = Commit { generation: found.generation, writer: found.writer, ..ours };
    // Bytes, not values: a float that was printed and read again may differ in its last bit.
    if encode(&adopted)? == *bytes { Ok(adopted) } else { Err(disagree(output, path)) }
}

/// All commits whose names begin with `prefix`, sorted by name.
pub async fn commits(output: &Output, prefix: &str) -> Result<Vec<Commit>> {
    let mut names = Vec::new();
    for (path, _) in output.list("epoch").await? {
        let name = path.strip_prefix("epoch/").and_then(|name| name.strip_suffix(".json"));
        let name = name.ok_or_else(|| foreign(output, &path, "not the name of a commit"))?;
        names.extend(name.starts_with(prefix).then(|| name.to_owned()));
    }
    let reads = names.into_iter().map(|name| read_commit(output, name));
    futures::stream::iter(reads).buffered(READ_AHEAD).try_collect().await
}

async fn read_commit(output: &Output, name: String) -> Result<Commit> {
    let path = commit_path(&name)?;
    let commit: Option<Commit> = read(output, &path).await?;
    let commit = commit.ok_or_else(|| foreign(output, &path, "a commit that was listed is gone"))?;
    if commit.name == name {
        Ok(commit)
    } else {
        Err(foreign(output, &path, "holds a commit of another name"))
    }
}

fn commit_path(name: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=');
    if name.is_empty() || !name.chars().all(plain) {
        return Err(Error::bug(format!("`{name}` cannot be the name of a commit")));
    }
    Ok(format!("epoch/{name}.json"))
}

/// Writes the manifest, the last object of a run. If an earlier process wrote it, that one is
/// returned: `metrics` may hold how long a process took, all the rest must agree.
pub async fn publish(
    output: &Output,
    generation: &Generation,
    manifest: &RunManifest,
) -> Result<RunManifest> {
    generation.check(output).await?;
    let Created::Other(bytes) = output.create(MANIFEST, encode(manifest)?).await? else {
        return Ok(manifest.clone());
    };
    let found: RunManifest = decode(output, MANIFEST, &bytes)?;
    let same = found.run == manifest.run
        && found.tables == manifest.tables
        && found.dictionary == manifest.dictionary
        && ends(&found) == ends(manifest);
    if same { Ok(found) } else { Err(disagree(output, MANIFEST)) }
}

/// What became of each learner, without figures.
fn ends(manifest: &RunManifest) -> Vec<(&String, Option<&LearnerFailure>)> {
    manifest.learners.iter().map(|(name, entry)| (name, entry.failed.as_ref())).collect()
}

async fn read<T: DeserializeOwned>(output: &Output, path: &str) -> Result<Option<T>> {
    output.get(path).await?.map(|bytes| decode(output, path, &bytes)).transpose()
}

fn encode<T: Serialize>(object: &T) -> Result<Bytes> {
    let bytes = to_bytes(object).map_err(|e| Error::bug(format!("an object of ours is no JSON: {e}")))?;
    Ok(Bytes::from(bytes))
}

fn decode<T: DeserializeOwned>(output: &Output, path: &str, bytes: &[u8]) -> Result<T> {
    from_bytes(bytes).map_err(|why| foreign(output, path, &why))
}

fn foreign(output: &Output, path: &str, why: &str) -> Error {
    Error::data(why).object(output.url(path)).hint(
        "atomflow did not write it, or another version of it did; restore it, or start again in another `out`",
    )
}

fn disagree(output: &Output, path: &str) -> Error {
    Error::bug("two processes of one run disagree about what was committed here").object(output.url(path)).hint(
        "the first one's commit stands and nothing is lost; the same spec over the same data must give the same bytes",
    )
}
