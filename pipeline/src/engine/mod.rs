//! A job from spec to tables: scan, plan, calibrate, train, freeze, harvest, publish. Each phase
//! begins by asking what is committed already, so a run that was killed goes on where it stood.

mod check;
mod checkpoints;
mod device;
mod ending;
mod files;
mod freezing;
mod harvesting;
mod learner;
mod made_up;
mod parts;
mod publishing;
mod room;
mod rows;
mod state;
mod stream;
mod training;

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use atomflow_schemas::manifest::{FORMAT, InputFile, RunRecord};
use atomflow_workers::{card::Cards, threads::Threads};
use files::Files;
use learner::Learner;
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

pub use check::check;
pub use made_up::{Layout, made_up};
pub use rows::rows;
pub use stream::{Streamed, stream};

use crate::{
    Error, Result,
    failures::Failures,
    operators::read::Reader,
    plan::Plan,
    run::{Event, Inspection, Job, Outcome, RuntimeSpec, Watch},
    sink::{Generation, Output, commit},
    source::{Location, Manifest, RowFilter, decode::Want, scan_columns},
    stop::Stop,
};

/// One process's hold on a run.
struct Engine {
    job: Job,
    runtime: RuntimeSpec,
    tokio: Runtime,
    threads: Threads,
    /// What runs the steps: vector instructions of the CPU, or a kind of card and its arithmetic.
    arithmetic: String,
    output: Output,
    generation: Generation,
    manifest: Arc<Manifest>,
    plan: Arc<Plan>,
    run: String,
    learners: Vec<Learner>,
    files: Files,
    failures: Failures,
    watch: Arc<dyn Watch>,
    began: Instant,
    /// See [`Outcome::wait_share`].
    wait_share: Arc<Mutex<Option<f64>>>,
}

/// Runs a job to its end; a run of the same job that was interrupted in `out` is continued.
///
/// # Errors
/// Of every kind; nothing that was committed is lost or altered.
pub fn run(
    job: &Job,
    runtime: &RuntimeSpec,
    cards: &dyn Cards,
    out: &str,
    watch: Arc<dyn Watch>,
) -> Result<Outcome> {
    let tokio = tokio_runtime()?;
    let output = Output::new(Location::open(out)?);
    if let Some(outcome) = finished(&tokio, &output, Some(job))? {
        let message = format!("{} is finished already; nothing to do", outcome.run);
        watch.event(&Event::Note { message });
        return Ok(outcome);
    }
    Engine::open(job, (runtime, cards), tokio, output, watch)?.go()
}

/// Continues the run in `out`.
///
/// # Errors
/// There is no run, or as for [`run`].
pub fn resume(out: &str, runtime: &RuntimeSpec, cards: &dyn Cards, watch: Arc<dyn Watch>) -> Result<Outcome> {
    let tokio = tokio_runtime()?;
    let output = Output::new(Location::open(out)?);
    if let Some(outcome) = finished(&tokio, &output, None)? {
        return Ok(outcome);
    }
    let job = ending::job_of(&record(&tokio, &output)?)?;
    Engine::open(&job, (runtime, cards), tokio, output, watch)?.go()
}

/// How far the run in `out` is.
///
/// # Errors
/// There is no run, or its objects cannot be read.
pub fn inspect(out: &str) -> Result<Inspection> {
    let tokio = tokio_runtime()?;
    let output = Output::new(Location::open(out)?);
    let record = record(&tokio, &output)?;
    tokio.block_on(ending::inspect(&output, &record))
}

fn record(tokio: &Runtime, output: &Output) -> Result<RunRecord> {
    tokio.block_on(commit::read_run(output))?.ok_or_else(|| {
        Error::spec("there is no run here")
            .object(output.url(""))
            .hint("name the directory that `out` in the job spec points to; `atomflow run SPEC` starts a run")
    })
}

/// The outcome of a run that is complete already. `job`, if given, must be the one that made it.
fn finished(tokio: &Runtime, output: &Output, job: Option<&Job>) -> Result<Option<Outcome>> {
    let Some(manifest) = tokio.block_on(commit::read_manifest(output))? else { return Ok(None) };
    let other = match (job, tokio.block_on(commit::read_run(output))?) {
        (Some(job), Some(record)) => record.job != state::to_json(job)?,
        _ => false,
    };
    if other {
        return Err(Error::spec(format!(
            "this directory holds the finished run {} of another job",
            manifest.run
        ))
        .object(output.url(""))
        .field("out")
        .hint("choose another `out`"));
    }
    let record = tokio.block_on(commit::read_run(output))?;
    let job = match (job, record) {
        (Some(job), _) => job.clone(),
        (None, Some(record)) => ending::job_of(&record)?,
        (None, None) => return Err(Error::data("run.json is gone").object(output.url(""))),
    };
    tokio.block_on(ending::outcome(output, &job, &manifest)).map(Some)
}

fn tokio_runtime() -> Result<Runtime> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    built.map_err(|e| Error::retry(format!("cannot start the I/O threads: {e}")))
}

/// The run id: what decides the bytes, hashed. Not the ETags: a copy of the same data is the same run.
fn run_id(job: &Job, plan: &Plan, files: &[InputFile]) -> Result<String> {
    let hashes: String = files.iter().map(|file| format!("\n{}", file.sha256)).collect();
    let text = format!("{}\n{}{hashes}", state::to_json(job)?, plan.hash);
    let digest = Sha256::digest(text.as_bytes());
    let hex: String = digest.iter().take(6).map(|b| format!("{b:02x}")).collect();
    Ok(format!("{}-{hex}", job.name))
}

impl Engine {
    fn open(
        job: &Job,
        (runtime, cards): (&RuntimeSpec, &dyn Cards),
        tokio: Runtime,
        output: Output,
        watch: Arc<dyn Watch>,
    ) -> Result<Engine> {
        let began = Instant::now();
        let cards = device::open(job, runtime, cards)?;
        let manifest = Arc::new(tokio.block_on(scan_columns(&job.source, &job.columns()?))?);
        let plan = Arc::new(plan(job, &manifest)?);
        let files = tokio.block_on(Files::read(&job.learners()?))?;
        let run = run_id(job, &plan, &files.identity())?;
        let identity = state::to_json(&manifest.identity())?;
        let record = RunRecord {
            format: FORMAT,
            run: run.clone(),
            name: job.name.clone(),
            plan: plan.hash.clone(),
            job: state::to_json(job)?,
            shards: identity,
            files: files.identity(),
        };
        tokio.block_on(output.probe())?;
        let resumed = tokio.block_on(commit::open_run(&output, &record))? == commit::Opened::Resumed;
        let arithmetic = device::arithmetic(&cards);
        let generation = tokio.block_on(Generation::claim_with(&output, &arithmetic))?;
        let threads = Threads::new(runtime.threads).map_err(|e| Error::retry(e.to_string()))?;
        let learners = learner::learners(job, &manifest, &run, &output, (&threads, &cards))?;
        let failures = Failures::new(learners.len());
        watch.event(&Event::Started { run: run.clone(), out: output.url(""), resumed });
        let (job, runtime) = (job.clone(), runtime.clone());
        let engine = Engine {
            job,
            runtime,
            tokio,
            threads,
            arithmetic,
            output,
            generation,
            manifest,
            plan,
            run,
            learners,
            files,
            failures,
            watch,
            began,
            wait_share: Arc::default(),
        };
        engine.first_notes()?;
        Ok(engine)
    }

    /// What is known before the first row is read.
    fn first_notes(&self) -> Result<()> {
        for left_out in &self.manifest.quarantined {
            self.note(format!("left out {}: {}", left_out.url, left_out.reason));
        }
        let before = commit::read_generation(&self.output, self.generation.number - 1);
        let before = self.tokio.block_on(before)?.map(|record| record.simd).unwrap_or_default();
        let now = &self.arithmetic;
        if !before.is_empty() && before != *now {
            let bytes = device::compared(&before, now);
            self.note(format!("the process before ran on {before}, this one runs on {now}: {bytes}"));
        }
        Ok(())
    }

    fn go(self) -> Result<Outcome> {
        self.recall_failures()?;
        let trained = self.train()?;
        let frozen = self.freeze(trained)?;
        let harvested = self.harvest(&frozen)?;
        self.publish(frozen, &harvested)?;
        self.end()
    }

    /// A reader of this job's rows; `norm_max` is the calibrated bound.
    fn reader(&self, norm_max: Option<f32>, token_text: bool) -> Reader {
        let filter = RowFilter::new(&self.job.source.filter, self.job.plan.heldout, self.job.seed);
        let filter = filter.about_first(self.manifest.main_column().len());
        let filter = norm_max.into_iter().fold(filter, RowFilter::with_norm_max);
        Reader {
            manifest: Arc::clone(&self.manifest),
            filter: Arc::new(filter),
            want: Want { token_text, on_bad: self.job.source.on_bad },
            budget_bytes: self.job.source.prefetch_bytes / self.runtime.workers.max(1) as u64,
            runtime: self.tokio.handle().clone(),
            stop: Stop::default(),
            fetched_bytes: Arc::default(),
        }
    }

    fn note(&self, message: String) {
        self.watch.event(&Event::Note { message });
    }
}

/// The plan, after every check that needs the data's footers.
fn plan(job: &Job, manifest: &Manifest) -> Result<Plan> {
    learner::validate(job, manifest)?;
    let filter = RowFilter::new(&job.source.filter, job.plan.heldout, job.seed);
    filter.check(&manifest.has)?;
    job.plan.plan(manifest, job.seed)
}
