//! The command line: what can be asked, and how an answer or an error leaves the process.

use std::{path::PathBuf, process::ExitCode};

use atomflow_pipeline::{Error, Result, error::Kind, source::Dtype};
use clap::{Args, Parser, Subcommand, error::ErrorKind};

use crate::{bench::Bench, commands, crash, json, stdout};

const AFTER_HELP: &str = "\
Exit codes:
  0   done
  64  fix the spec (or the command line): the message names line, field and remedy
  65  fix the data: the message names the object, the row group and the row
  70  a bug in atomflow: please report it
  75  something outside failed (store, network, disk): run `atomflow resume RUN`

Examples:
  atomflow check jobs/specs/quickstart.toml          the plan and its cost, before anything is spent
  atomflow run jobs/specs/quickstart.toml            learn, harvest, publish to runs/quickstart
  atomflow run job.toml --out s3://bucket/runs/a --set learner.k=64 --set plan.passes=2
  atomflow convert 's3://bucket/acts/*.parquet' --out s3://bucket/fast --verify
  atomflow resume s3://bucket/runs/a                 after a crash, a kill or exit code 75
  atomflow --json run job.toml | jq -c 'select(.status == \"done\") | .metrics'

Credentials of s3://, gs:// and az:// come from each cloud's usual environment variables.";

/// Learns dictionaries of features from language-model activations.
///
/// Reads shards of activations (Parquet, Arrow) from disk or object storage, learns a sparse
/// dictionary, encodes the data with it and publishes tables for DuckDB, Polars and Spark. A run
/// can be killed at any moment and resumed; the same spec over the same data gives the same bytes.
#[derive(Debug, Parser)]
#[command(name = "atomflow", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    /// Print JSON for programs, one object a line; errors are the last line of standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the spec and the shards' footers and print the plan before anything is spent
    ///
    /// Shows shards, rows, bytes, windows, steps, memory, FLOPs and the estimated time on this
    /// machine, from a one-second measurement. Reads no activations and writes nothing.
    Check(JobArgs),
    /// Run a job from its spec to published tables
    ///
    /// Progress goes to standard error: one live line on a terminal, a plain line at most every
    /// five seconds elsewhere. A run that stops early goes on with `atomflow resume`.
    Run(RunArgs),
    /// Go on with an interrupted run; the result has the same bytes as an uninterrupted one
    Resume(ResumeArgs),
    /// Write shards again in the layout that is fastest to read
    ///
    /// Reads any source that a job can read, all rows in order, and writes Parquet shards with one
    /// raw row per value, token columns under their usual names and documents kept whole. A
    /// conversion that was interrupted goes on when the same command is given again.
    Convert(ConvertArgs),
    /// Say how far a run is and what it has made
    Inspect {
        /// Directory or URL of the run (`out` of its spec)
        run: String,
    },
    /// Measure what this machine can do, what the kernels do on it, and the ratio
    ///
    /// Writes nothing but made-up shards for `stream` and `sweep`, in the directory for temporary
    /// files, and removes them. Run it on an otherwise idle machine.
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: Bench,
    },
    /// List the devices that steps can run on, and why some are not usable
    Devices {
        /// Run every kernel of this device against its slow reference
        #[arg(long, value_name = "DEVICE")]
        verify: Option<String>,
    },
    /// List what can learn: the words for `[learner] kind`
    Learners {
        /// Also list the methods that are not here, each with the reason
        #[arg(long)]
        all: bool,
    },
    /// Print the JSON Schema of a job spec, for editors
    ///
    /// `atomflow schema > jobs/schema/job.schema.json` brings the copy in the repository up to date.
    Schema,
}

/// A job spec and changes to it.
#[derive(Debug, Args)]
pub struct JobArgs {
    /// Job spec, a TOML file
    pub spec: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub change: Change,
}

/// `run`: a job and where it goes.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Job spec, a TOML file
    pub spec: PathBuf,
    /// Where to write the run; overrides `out` of the spec (default: runs/ and the name of the job)
    #[arg(long, value_name = "URL")]
    pub out: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub change: Change,
}

/// `resume`: a run.
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Directory or URL of the run (`out` of its spec)
    pub run: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub change: Change,
}

/// `convert`: a source and where it goes.
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// What to convert: the URL, prefix or glob of the shards, or a job spec (`.toml`) that names them
    pub source: String,
    /// Directory or URL to write the new shards to
    #[arg(long, value_name = "URL")]
    pub out: String,
    /// Element type to write; left out, that of the source, which changes no value
    #[arg(long, value_enum)]
    pub dtype: Option<DtypeArg>,
    /// End a shard at the first end of a document after so many rows (default: 128 MiB of values)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub shard_rows: Option<u64>,
    /// Read the new shards back at the end and compare their checksums
    #[arg(long)]
    pub verify: bool,
    /// Change one field of the source: dotted key, TOML value (`--set source.columns.doc_id=\"doc\"`)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
}

/// Element types that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
pub enum DtypeArg {
    F32,
    F16,
    Bf16,
}

impl From<DtypeArg> for Dtype {
    fn from(dtype: DtypeArg) -> Dtype {
        match dtype {
            DtypeArg::F32 => Dtype::F32,
            DtypeArg::F16 => Dtype::F16,
            DtypeArg::Bf16 => Dtype::Bf16,
        }
    }
}

/// Changes to a spec from the command line.
#[derive(Debug, Default, Args)]
pub struct Change {
    /// Change one field of the spec: dotted key, TOML value (`--set learner.k=64`); on resume only
    /// `runtime.*`
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub sets: Vec<String>,
    /// Workers of the dataflow in this process; short for --set runtime.workers=M
    #[arg(long, value_name = "M")]
    pub workers: Option<usize>,
    /// Kernel threads, 0 for one per core; short for --set runtime.threads=N
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Change {
    /// All changes as `key=value`, the short forms last.
    pub fn sets(&self) -> Vec<String> {
        let workers = self.workers.map(|m| format!("runtime.workers={m}"));
        let threads = self.threads.map(|n| format!("runtime.threads={n}"));
        self.sets.iter().cloned().chain(workers).chain(threads).collect()
    }
}

/// Runs the program with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    crash::install(cli.json);
    match commands::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, cli.json),
    }
}

/// Help and version are answers; everything else that clap says is a wrong command line.
fn usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return stdout::write(&error.render().to_string())
            .map_or_else(|e| fail(&e, false), |()| ExitCode::SUCCESS);
    }
    // The arguments could not be parsed, so whether JSON was asked for is read off them directly.
    if std::env::args_os().any(|arg| arg == "--json") {
        return fail(&command_line(error), true);
    }
    let _ = error.print();
    ExitCode::from(Kind::Spec.exit_code())
}

fn command_line(error: &clap::Error) -> Error {
    let text = error.render().to_string();
    let (message, usage) = text.split_once("\n\n").unwrap_or((&text, ""));
    Error::spec(message.trim_start_matches("error: ").trim()).object("the command line").hint(usage.trim())
}

fn fail(error: &Error, json: bool) -> ExitCode {
    let told = if json { stdout::write(&json::error(error)) } else { tell(error) };
    // Nobody is left to hear that the error could not be told; the exit code still says it.
    let _ = told;
    ExitCode::from(error.kind.exit_code())
}

fn tell(error: &Error) -> Result<()> {
    let text = format!("error ({}): {error}\n", error.kind.as_str());
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes())
        .map_err(|e| Error::retry(format!("cannot write to standard error: {e}")))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn short_forms_come_last_and_win() {
        let change = Change { sets: vec!["runtime.workers=1".to_owned()], workers: Some(4), threads: None };
        assert_eq!(change.sets(), ["runtime.workers=1", "runtime.workers=4"]);
    }
}
