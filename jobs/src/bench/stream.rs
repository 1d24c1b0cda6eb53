//! From shards to a learner: rows per second of a learner that does nothing, and the wait of one that learns.

use std::path::{Path, PathBuf};

use atomflow_pipeline::{
    Error, Result,
    chooser::Hold,
    run::{self, Job, Layout, Streamed},
};
use atomflow_workers::{
    learner::{ActivationBatch, DictLearner, Dictionary, Mismatch, Scales, StepReport},
    state::LearnerState,
};

use super::{
    Shape, Stream,
    encode::learner,
    rows::Rows,
    table::{Part, Report},
    threads,
};

/// Takes rows and learns nothing.
struct Nothing {
    d_in: usize,
}

impl DictLearner for Nothing {
    fn d_in(&self) -> usize {
        self.d_in
    }
    fn n_latents(&self) -> usize {
        1
    }
    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        StepReport { rows: batch.rows() as u64, ..StepReport::default() }
    }
    fn freeze(&self, _scales: &Scales) -> Box<dyn Dictionary> {
        unreachable!("streams are not frozen")
    }
    fn save(&self) -> LearnerState {
        LearnerState::default()
    }
    fn load(&mut self, _state: &LearnerState) -> std::result::Result<(), Mismatch> {
        Ok(())
    }
}

/// Made-up shards in a directory that goes away with this value.
pub(super) struct Shards {
    directory: PathBuf,
}

impl Shards {
    pub(super) fn new(layout: Layout, rows: &[f32], d_in: usize) -> Result<Shards> {
        let name = format!("atomflow-bench-{}-{layout:?}", std::process::id());
        let shards = Shards { directory: std::env::temp_dir().join(name) };
        std::fs::create_dir_all(&shards.directory)
            .map_err(|e| Error::retry(e.to_string()).object(shards.directory.display().to_string()))?;
        run::made_up(&shards.directory, layout, rows, d_in, 4)?;
        Ok(shards)
    }

    pub(super) fn url(&self) -> String {
        self.directory.join("*.parquet").display().to_string()
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        // Left behind, it is in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// As many rows as asked for, from a smaller number that goes round.
pub(super) fn made_up_rows(shape: &Shape, count: usize) -> Result<(usize, Vec<f32>)> {
    let rows = Rows::new(shape)?;
    let x = rows.x.iter().copied().cycle().take(count * rows.d_in).collect();
    Ok((rows.d_in, x))
}

fn job(url: &str, shape: &Shape) -> Result<Job> {
    let window_rows = (4 * shape.batch).max(16_384);
    let spec = serde_json::json!({
        "name": "bench", "source": { "url": url, "dtype": "f16" },
        "plan": { "batch_rows": shape.batch, "window_rows": window_rows, "heldout": 0.0 },
        "learner": { "kind": "topk", "n_latents": shape.n, "k": shape.k },
    });
    serde_json::from_value(spec).map_err(|e| Error::bug(e.to_string()))
}

pub(super) fn report(stream: &Stream) -> Result<Report> {
    let shape = &stream.shape;
    let mut report = Report::new(format!("Stream: {} workers", stream.workers));
    if let Some(url) = &shape.data {
        let d_in = run::rows(url, 1)?.0;
        measure(stream, &mut report, "shards", url, d_in)?;
        return Ok(report);
    }
    let (d_in, x) = made_up_rows(shape, stream.rows)?;
    for (name, layout) in [("list", Layout::List), ("binary", Layout::Binary)] {
        let shards = Shards::new(layout, &x, d_in)?;
        measure(stream, &mut report, name, &shards.url(), d_in)?;
    }
    Ok(report)
}

fn measure(stream: &Stream, report: &mut Report, name: &str, url: &str, d_in: usize) -> Result<()> {
    let shape = Shape { d: d_in, ..stream.shape.clone() };
    let job = job(url, &shape)?;
    let (threads, mut idle) = (threads(shape.threads)?, None::<Streamed>);
    for _ in 0..shape.rounds.max(1) {
        let again = run::stream(&job, stream.workers, Hold::new(&threads), Box::new(Nothing { d_in }))?;
        if idle.is_none_or(|best| again.seconds < best.seconds) {
            idle = Some(again);
        }
    }
    let idle = idle.unwrap_or_default();
    let rows = Rows::new(&shape)?;
    let hold = Hold::new(&threads);
    let learner = learner(&shape, &rows, hold.threads())?;
    let learned = run::stream(&job, stream.workers, hold, learner)?;
    let bytes = (d_in * 2) as f64;
    report.part(Part {
        name: format!("{name}: {} rows to a learner that does nothing", idle.rows),
        seconds: idle.seconds,
        work: idle.rows as f64 * bytes,
        unit: "GB/s",
        floor_s: 0.0,
    });
    let stall = learned.waited_s / learned.seconds.max(1e-9);
    report.note(format!(
        "{name}: {:.0} rows/s; with a learner of n_latents {} k {}: {:.0} tokens/s, {:.1} % of its time waiting for rows",
        idle.rows as f64 / idle.seconds,
        shape.n,
        shape.k,
        learned.rows as f64 / learned.seconds,
        100.0 * stall,
    ));
    report.figure(&format!("{name}_rows_per_s"), idle.rows as f64 / idle.seconds);
    report.figure(&format!("{name}_tokens_per_s"), learned.rows as f64 / learned.seconds);
    report.figure(&format!("{name}_stall_share"), stall);
    Ok(())
}
