//! One function per command: ask the engine, say the answer.

use std::sync::Arc;

use atomflow_pipeline::{Result, convert, run};
use atomflow_workers::variants::{self, LearnerInfo, absent::ABSENT};
use serde::Serialize;
use serde_json::json;

use crate::{
    bench::{self, Bench},
    cards::cards,
    cli::{Cli, Command, ConvertArgs, JobArgs, ResumeArgs, RunArgs},
    devices, json,
    progress::Progress,
    report,
    spec::{self, JobSpec, schema},
    stdout,
};

/// Does what the command line says.
///
/// # Errors
/// Whatever the command could not do, sorted by what the user must do about it.
pub fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Check(args) => check(args, cli.json),
        Command::Run(args) => start(args, cli.json),
        Command::Resume(args) => resume(args, cli.json),
        Command::Convert(args) => convert_shards(args, cli.json),
        Command::Inspect { run } => inspect(run, cli.json),
        Command::Bench { what } => measure(what, cli.json),
        Command::Devices { verify: None } => devices(cli.json),
        Command::Devices { verify: Some(device) } => verify(device, cli.json),
        Command::Learners { all } => learners(*all, cli.json),
        Command::Schema => schema_text(cli.json),
    }
}

fn check(args: &JobArgs, json: bool) -> Result<()> {
    let (spec, document) = JobSpec::read(&args.spec, &args.change.sets())?;
    let plan = run::check(&spec.job, &spec.runtime, cards()).map_err(|error| document.locate(error))?;
    stdout::write(&if json { json::line(Some("ok"), &plan)? } else { report::plan(&spec, &plan) })
}

fn start(args: &RunArgs, json: bool) -> Result<()> {
    let (spec, document) = JobSpec::read(&args.spec, &args.change.sets())?;
    let out = args.out.as_ref().unwrap_or(&spec.out);
    watched(json, |progress| run::run(&spec.job, &spec.runtime, cards(), out, progress))
        .map_err(|error| document.locate(error))
}

fn resume(args: &ResumeArgs, json: bool) -> Result<()> {
    let runtime = spec::resumed_runtime(&args.change.sets())?;
    watched(json, |progress| run::resume(&args.run, &runtime, cards(), progress))
}

/// Runs `work` under a progress display and reports its outcome.
fn watched(json: bool, work: impl FnOnce(Arc<Progress>) -> Result<run::Outcome>) -> Result<()> {
    let progress = Arc::new(if json { Progress::json() } else { Progress::on_stderr() });
    let outcome = work(Arc::clone(&progress));
    progress.finish();
    let outcome = outcome?;
    stdout::write(&if json { json::done(&outcome)? } else { report::outcome(&outcome, &progress.rows()) })?;
    outcome.check()
}

fn convert_shards(args: &ConvertArgs, json: bool) -> Result<()> {
    let (source, document) = spec::source(&args.source, &args.sets)?;
    let spec =
        convert::ConvertSpec { source, dtype: args.dtype.map(Into::into), shard_rows: args.shard_rows };
    let progress = if json { Progress::json() } else { Progress::on_stderr() };
    let converted = convert::convert(&spec, &args.out, &progress);
    progress.finish();
    let converted = converted.map_err(|error| document.locate(error))?;
    if args.verify {
        convert::verify(&args.out)?;
    }
    stdout::write(&if json {
        json::line(Some("done"), &converted)?
    } else {
        report::converted(&args.out, &converted, args.verify)
    })
}

fn inspect(out: &str, json: bool) -> Result<()> {
    let inspection = run::inspect(out)?;
    stdout::write(&if json {
        json::line(Some("ok"), &inspection)?
    } else {
        report::inspection(out, &inspection)
    })
}

fn measure(what: &Bench, json: bool) -> Result<()> {
    let report = bench::run(what)?;
    stdout::write(&if json { json::line(Some("ok"), report.figures())? } else { report.text() })
}

fn devices(json: bool) -> Result<()> {
    let devices = devices::list(cards());
    stdout::write(&if json {
        json::line(Some("done"), &json!({ "devices": devices }))?
    } else {
        devices::table(&devices)
    })
}

fn verify(device: &str, json: bool) -> Result<()> {
    let checks = devices::verify(cards(), device)?;
    stdout::write(&if json {
        json::line(Some("done"), &json!({ "checks": checks }))?
    } else {
        devices::checks(&checks)
    })?;
    devices::judge(device, &checks)
}

fn learners(all: bool, json: bool) -> Result<()> {
    let (learners, absent) = (variants::registry(), if all { ABSENT } else { &[] });
    if !json {
        return stdout::write(&format!("{}{}", report::learners(&learners), report::absent(absent)));
    }
    let told = |learner: &LearnerInfo| {
        let cpu_only = learner.cpu_only();
        json::line(None, &Told { learner, cards: cpu_only.is_none(), cpu_only })
    };
    let mut lines = learners.iter().map(told).collect::<Result<String>>()?;
    for method in absent {
        lines.push_str(&json::line(None, method)?);
    }
    stdout::write(&lines)
}

/// A learner, and whether it learns on cards.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    learner: &'a LearnerInfo,
    cards: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_only: Option<&'static str>,
}

fn schema_text(json: bool) -> Result<()> {
    stdout::write(&if json { schema::line() } else { schema::text() })
}
