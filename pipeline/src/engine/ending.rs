//! What a run comes to: the manifest over several learners, the outcome, and how far it is before.

use std::collections::BTreeMap;

use atomflow_schemas::manifest::{FORMAT, LearnerEntry, LearnerFailure, RunManifest, RunRecord};
use serde_json::Value;

use super::{
    Engine,
    freezing::DICTIONARY,
    learner::{FAILED, directory},
    state::{HARVEST, HarvestCommit, TRAIN, TrainCommit, body},
};
use crate::{
    Error, Result, failures,
    run::{Inspection, Job, LearnerInspection, LearnerOutcome, Metrics, Outcome},
    sink::{Output, commit},
    stop::lock,
};

pub(super) fn job_of(record: &RunRecord) -> Result<Job> {
    serde_json::from_value(record.job.clone())
        .map_err(|e| Error::data(format!("the job in run.json cannot be read: {e}")))
}

impl Engine {
    /// The last object of the run, where the learners did not write it, and what all came to.
    pub(super) fn end(&self) -> Result<Outcome> {
        let failed = self.failures.list();
        let manifest = match (self.several(), failed.into_values().next()) {
            (false, Some(error)) => return Err(error),
            (false, None) => self.tokio.block_on(commit::read_manifest(&self.output))?,
            (true, _) => Some(self.tokio.block_on(self.publish_all())?),
        };
        let manifest = manifest.ok_or_else(|| Error::bug("the run ended without its manifest"))?;
        let wait_share = *lock(&self.wait_share);
        Ok(Outcome { wait_share, ..self.tokio.block_on(outcome(&self.output, &self.job, &manifest))? })
    }

    async fn publish_all(&self) -> Result<RunManifest> {
        let (failed, mut learners) = (self.failures.list(), BTreeMap::new());
        for (at, learner) in self.learners.iter().enumerate() {
            let metrics = match failed.get(&at) {
                Some(_) => Value::Null,
                None => commit::read_manifest(&learner.output).await?.map_or(Value::Null, |m| m.metrics),
            };
            let entry = LearnerEntry {
                path: directory(&learner.is.name),
                metrics,
                failed: failed.get(&at).map(failures::record),
            };
            learners.insert(learner.is.name.clone(), entry);
        }
        let manifest = RunManifest {
            format: FORMAT,
            run: self.run.clone(),
            tables: BTreeMap::new(),
            dictionary: Vec::new(),
            metrics: serde_json::json!({ "seconds": self.began.elapsed().as_secs_f64() }),
            learners,
        };
        commit::publish(&self.output, &self.generation, &manifest).await
    }
}

fn metrics_of(metrics: &Value) -> Result<Metrics> {
    serde_json::from_value(metrics.clone())
        .map_err(|e| Error::data(format!("the metrics in manifest.json cannot be read: {e}")))
}

fn tables(output: &Output, manifest: &RunManifest) -> BTreeMap<String, String> {
    manifest.tables.iter().map(|(name, table)| (name.clone(), output.url(&table.path))).collect()
}

/// What the finished run of `job` in `output` made.
pub(super) async fn outcome(output: &Output, job: &Job, manifest: &RunManifest) -> Result<Outcome> {
    let mut outcome = Outcome {
        run: manifest.run.clone(),
        tables: tables(output, manifest),
        dictionary: output.url(DICTIONARY),
        metrics: Metrics::default(),
        wait_share: None,
        learners: Vec::new(),
    };
    if manifest.learners.is_empty() {
        outcome.metrics = metrics_of(&manifest.metrics)?;
        return Ok(outcome);
    }
    for learner in job.learners()? {
        outcome.learners.push(of_learner(output, &learner, manifest).await?);
    }
    // All learners of a job saw the same rows; one that failed stopped early.
    let tokens = |l: &LearnerOutcome| l.metrics.as_ref().map_or(0, |m| m.tokens);
    outcome.metrics.tokens = outcome.learners.iter().map(tokens).max().unwrap_or(0);
    outcome.metrics.seconds = manifest.metrics.get("seconds").and_then(Value::as_f64).unwrap_or(0.0);
    let all = directory("*");
    let names = outcome.learners.iter().flat_map(|l| l.tables.keys().cloned());
    outcome.tables =
        names.map(|name| (name.clone(), glob(output, &format!("{all}/tables/{name}")))).collect();
    outcome.dictionary = glob(output, &format!("{all}/{DICTIONARY}"));
    Ok(outcome)
}

/// A path is encoded as a URL would be; a pattern is not one.
fn glob(output: &Output, pattern: &str) -> String {
    format!("{}/{pattern}", output.url("").trim_end_matches('/'))
}

async fn of_learner(
    output: &Output,
    learner: &crate::resolved::Resolved,
    manifest: &RunManifest,
) -> Result<LearnerOutcome> {
    let gone = || Error::data(format!("manifest.json does not name the learner `{}`", learner.name));
    let entry = manifest.learners.get(&learner.name).ok_or_else(gone)?;
    let own = output.within(&entry.path);
    let published = commit::read_manifest(&own).await?;
    Ok(LearnerOutcome {
        name: learner.name.clone(),
        n_latents: learner.spec.n_latents() as u64,
        k: learner.spec.k().map(|k| k as u64),
        tables: published.as_ref().map_or_else(BTreeMap::new, |published| tables(&own, published)),
        dictionary: own.url(DICTIONARY),
        metrics: if entry.metrics.is_null() { None } else { Some(metrics_of(&entry.metrics)?) },
        failed: entry.failed.clone(),
    })
}

/// How far the run in `output` is, by what is committed.
pub(super) async fn inspect(output: &Output, record: &RunRecord) -> Result<Inspection> {
    let job = job_of(record)?;
    let manifest = commit::read_manifest(output).await?;
    let mut learners = Vec::new();
    for learner in job.learners()? {
        let own = match job.learner.are_several() {
            true => output.within(&directory(&learner.name)),
            false => output.clone(),
        };
        learners.push(inspect_one(&own, learner.name).await?);
    }
    let going = || learners.iter().filter(|l| l.failed.is_none());
    let last = || going().min_by_key(|l| (l.windows.0, l.shards.0)).or(learners.first());
    let state = match (&manifest, last()) {
        (Some(_), _) => "done".to_owned(),
        (None, Some(last)) if last.state == "done" => "publishing".to_owned(),
        (None, last) => last.map(|last| last.state.clone()).unwrap_or_default(),
    };
    Ok(Inspection {
        run: record.run.clone(),
        name: record.name.clone(),
        state,
        generation: commit::newest_generation(output).await?,
        windows: last().map_or((0, 0), |last| last.windows),
        shards: last().map_or((0, 0), |last| last.shards),
        outcome: match &manifest {
            Some(manifest) => Some(outcome(output, &job, manifest).await?),
            None => None,
        },
        columns: job.columns()?.into_iter().map(|column| column.name).collect(),
        learners: if job.learner.are_several() { learners } else { Vec::new() },
    })
}

async fn inspect_one(output: &Output, name: String) -> Result<LearnerInspection> {
    let train = commit::commits(output, TRAIN).await?;
    let harvest = commit::commits(output, HARVEST).await?;
    let failed = commit::commits(output, FAILED).await?;
    let failed = failed.first().map(body::<LearnerFailure>).transpose()?;
    let manifest = commit::read_manifest(output).await?;
    let last: Option<TrainCommit> = train.last().map(body).transpose()?;
    let shards_total = harvest.last().map(body::<HarvestCommit>).transpose()?.map_or(0, |h| h.shards_total);
    let windows = last.map_or((0, 0), |t| (t.windows, t.windows_total));
    let shards = (harvest.len() as u64, shards_total);
    let state = match (manifest.is_some(), windows, shards) {
        _ if failed.is_some() => "failed",
        (true, ..) => "done",
        (false, (0, _), _) => "calibrating",
        (false, (done, total), _) if done < total => "training",
        (false, _, (done, total)) if total > 0 && done == total => "publishing",
        _ => "harvesting",
    };
    Ok(LearnerInspection { name, state: state.to_owned(), windows, shards, failed })
}
