//! The train graph without a run around it: how fast do rows reach a learner?

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use atomflow_workers::learner::{DictLearner, Scales, StepReport};

use super::{plan, tokio_runtime};
use crate::{
    Result,
    batch::View,
    chooser::Hold,
    device::{Device, Work},
    failures::Failures,
    flow::run_workers,
    graph::{Training, train_graph},
    operators::read::Reader,
    run::Job,
    seat::Seat,
    sight::Sight,
    source::{RowFilter, Want, scan},
    stop::{Stop, lock},
};

/// What came of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Streamed {
    /// Planned rows.
    pub rows: u64,
    /// From the first read to the last step; footers are read before that.
    pub seconds: f64,
    /// How long the learner waited for rows.
    pub waited_s: f64,
}

/// Sends every row of the job through the train graph into `learner`, which runs on the threads of
/// `hold`, and commits nothing.
///
/// # Errors
/// As for a run, up to the end of training.
pub fn stream(job: &Job, workers: usize, hold: Hold, learner: Box<dyn DictLearner>) -> Result<Streamed> {
    let tokio = tokio_runtime()?;
    let manifest = Arc::new(tokio.block_on(scan(&job.source))?);
    let plan = Arc::new(plan(job, &manifest)?);
    let reader = Reader {
        manifest: Arc::clone(&manifest),
        filter: Arc::new(RowFilter::new(&job.source.filter, job.plan.heldout, job.seed)),
        want: Want { token_text: false, on_bad: job.source.on_bad },
        budget_bytes: job.source.prefetch_bytes / workers.max(1) as u64,
        runtime: tokio.handle().clone(),
        stop: Stop::default(),
        fetched_bytes: Arc::default(),
    };
    let (stop, began) = (reader.stop.clone(), Instant::now());
    let view = View { sight: Sight::whole(manifest.d_in), scales: Scales::of(1.0) };
    let field = "learner".to_owned();
    let (sums, threads) = (StepReport::default(), hold.threads().clone());
    let seat = Seat { learner: 0, view, sums, field, dictionary: learner, hold, card: None, outside: None };
    let waited = Arc::new(Mutex::new(Duration::ZERO));
    let noted = Arc::clone(&waited);
    let (device, handle) = Device::start(Work {
        seats: vec![seat],
        failures: Failures::new(1),
        threads,
        plan: Arc::clone(&plan),
        first_window: 0,
        on_window: Box::new(move |_, report| {
            *lock(&noted) = report.waited;
            Ok(())
        }),
        stop: stop.clone(),
    })?;
    let training = Training { reader, plan: Arc::clone(&plan), first_window: 0, device: handle };
    let ran = run_workers(workers, move |worker| train_graph(worker, &training));
    let joined = device.join();
    stop.check()?;
    ran?;
    joined?;
    let rows = plan.windows.iter().map(|w| w.rows).sum();
    let waited_s = lock(&waited).as_secs_f64();
    Ok(Streamed { rows, seconds: began.elapsed().as_secs_f64(), waited_s })
}
