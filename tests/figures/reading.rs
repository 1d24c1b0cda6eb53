//! Rows per second of a job whose learner does nothing, against a bare loop over the same files.

use std::{fs::File, path::Path, time::Instant};

use atomflow_pipeline::{
    chooser::Hold,
    run::{Job, stream},
};
use atomflow_workers::{
    learner::{ActivationBatch, DictLearner, Dictionary, Mismatch, Scales, StepReport},
    state::LearnerState,
    threads::Threads,
};
use parquet::arrow::{ProjectionMask, arrow_reader::ParquetRecordBatchReaderBuilder};

use crate::shards::{self, D_IN, Layout};

/// Takes rows and learns nothing.
struct Nothing;

impl DictLearner for Nothing {
    fn d_in(&self) -> usize {
        D_IN
    }
    fn n_latents(&self) -> usize {
        1
    }
    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        StepReport { rows: batch.rows() as u64, ..StepReport::default() }
    }
    fn freeze(&self, _scales: &Scales) -> Box<dyn Dictionary> {
        panic!("nothing was learned")
    }
    fn save(&self) -> LearnerState {
        LearnerState::default()
    }
    fn load(&mut self, _state: &LearnerState) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// Decodes the activation column of every file and lets it go.
fn bare(directory: &Path) -> (u64, f64) {
    let (began, mut rows) = (Instant::now(), 0);
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for file in files {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file).unwrap()).unwrap();
        let mask = ProjectionMask::roots(builder.parquet_schema(), [0]);
        for batch in builder.with_projection(mask).with_batch_size(4096).build().unwrap() {
            rows += std::hint::black_box(batch.unwrap()).num_rows() as u64;
        }
    }
    (rows, began.elapsed().as_secs_f64())
}

fn job(directory: &Path) -> Job {
    let url = directory.join("*.parquet");
    let spec = serde_json::json!({
        "name": "reading", "source": { "url": url, "dtype": "f16" },
        "plan": { "window_rows": 16_384, "heldout": 0.0 },
        "learner": { "kind": "topk", "n_latents": 1, "k": 1 },
    });
    serde_json::from_value(spec).unwrap()
}

/// Prints one line per layout; the two sides take turns, best of five each.
pub(crate) fn print() {
    println!("layout               bare loop rows/s   through the graph rows/s   ratio");
    let threads = Threads::new(0).unwrap();
    for layout in [Layout::List, Layout::Binary] {
        let directory = tempfile::tempdir().unwrap();
        shards::write(directory.path(), layout, 4, 32_768);
        let rate = |(rows, seconds): (u64, f64)| rows as f64 / seconds;
        let (mut loops, mut streams) = (0f64, 0f64);
        for _ in 0..5 {
            loops = loops.max(rate(bare(directory.path())));
            let streamed = stream(&job(directory.path()), 1, Hold::new(&threads), Box::new(Nothing)).unwrap();
            streams = streams.max(rate((streamed.rows, streamed.seconds)));
        }
        println!("{:<20} {loops:>16.0} {streams:>26.0} {:>7.2}", format!("{layout:?} f16"), streams / loops);
    }
}
