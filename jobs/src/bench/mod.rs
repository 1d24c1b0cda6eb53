//! `atomflow bench`: what this machine can do, what the kernels do on it, and what lies between.
//!
//! Every program measures the ceiling and the kernel in one process, in turns, and takes the best of
//! several rounds: absolute times mean little on shared machines, ratios of neighbours do.

mod card;
mod clock;
mod encode;
mod learners;
mod machine;
mod rows;
mod step;
mod stream;
mod sweep;
mod table;

use atomflow_pipeline::{Error, Result};
use atomflow_workers::threads::Threads;
use clap::{Args, Subcommand};

pub use table::Report;

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Encoder and selection alone: exact f32, and with the int8 pre-screen, against the FMA peak
    Encode(Shape),
    /// A whole TopK training step, part by part, against the encoder and the floors of its parts
    Step(Shape),
    /// Rows per second from shards to a learner, and how long the learner waits for them
    Stream(Stream),
    /// A step of every kind of learner against one of TopK, at equal latents and L0
    Learners(Learners),
    /// Encoder and TopK step on a card, against what its memory and its arithmetic can do
    Card(OnCard),
    /// Several dictionaries from one stream against the same, one job after the other
    Sweep(Sweep),
}

/// The shape of a learner and of its batches.
#[derive(Debug, Clone, Args)]
pub struct Shape {
    /// Width of the vectors; that of the shards where --data is given
    #[arg(long, default_value_t = 768, value_parser = one_or_more)]
    pub d: usize,
    /// Latents
    #[arg(long, default_value_t = 24_576, value_parser = one_or_more)]
    pub n: usize,
    /// Latents kept per row
    #[arg(long, default_value_t = 32, value_parser = one_or_more)]
    pub k: usize,
    /// Rows of a step
    #[arg(long, default_value_t = 4096, value_parser = one_or_more)]
    pub batch: usize,
    /// Kernel threads, 0 for one per core
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Activations to use instead of made-up ones: a file, prefix or glob, local or in a store
    #[arg(long, value_name = "URL")]
    pub data: Option<String>,
    /// Steps to learn before anything is measured: pre-activations of random weights are not like
    /// those of learned ones
    #[arg(long, default_value_t = 10)]
    pub warmup: usize,
    /// Rounds; the best counts
    #[arg(long, default_value_t = 5, value_parser = one_or_more)]
    pub rounds: usize,
}

fn one_or_more(text: &str) -> std::result::Result<usize, String> {
    match text.parse::<usize>() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(e) => Err(e.to_string()),
    }
}

/// What `learners` compares.
#[derive(Debug, Clone, Args)]
pub struct Learners {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub shape: Shape,
    /// Kinds to measure; all sparse autoencoders if none is given
    #[arg(long, value_delimiter = ',', value_name = "KIND,…")]
    pub kinds: Vec<String>,
    /// With the modes of the kinds' small examples (Multi-TopK, annealing, drawn prefixes, a learned
    /// variance …) instead of plain, as a spec that says nothing of modes gets them
    #[arg(long)]
    pub modes: bool,
}

/// What `card` measures.
#[derive(Debug, Clone, Args)]
pub struct OnCard {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub shape: Shape,
    /// The card
    #[arg(long, default_value = "cuda:0")]
    pub device: String,
    /// Arithmetic of the encoder's product: f32, tf32 or bf16
    #[arg(long, default_value = "bf16")]
    pub precision: String,
    /// Adam's moments: f32 or 8bit
    #[arg(long, default_value = "f32")]
    pub moments: String,
}

/// What `stream` reads.
#[derive(Debug, Clone, Args)]
pub struct Stream {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub shape: Shape,
    /// Rows of the made-up shards
    #[arg(long, default_value_t = 131_072)]
    pub rows: usize,
    /// Workers of the dataflow
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
}

/// What `sweep` learns.
#[derive(Debug, Clone, Args)]
pub struct Sweep {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a doc comment here would become help text of the command")]
    pub stream: Stream,
    /// Dictionaries of the one job
    #[arg(long, default_value_t = 8)]
    pub learners: usize,
}

/// Measures.
///
/// # Errors
/// A shape that cannot be learned, shards that cannot be read.
pub fn run(bench: &Bench) -> Result<Report> {
    match bench {
        Bench::Encode(shape) => encode::report(shape),
        Bench::Step(shape) => step::report(shape),
        Bench::Card(what) => card::report(what),
        Bench::Learners(what) => learners::report(what),
        Bench::Stream(stream) => stream::report(stream),
        Bench::Sweep(sweep) => sweep::report(sweep),
    }
}

fn threads(count: usize) -> Result<Threads> {
    Threads::new(count).map_err(|e| Error::retry(format!("cannot start the kernel threads: {e}")))
}
