//! The training phase: calibrate or load, run the train graph, commit checkpoints, freeze.

use std::sync::{Arc, atomic::Ordering};

use atomflow_schemas::manifest::{Commit, FileEntry};
use atomflow_workers::{
    learner::{DictLearner, Dictionary, Setup},
    state::LearnerState,
};
use bytes::Bytes;
use futures::StreamExt;

use super::{
    Engine,
    state::{FREEZE, TRAIN, TrainCommit, WindowMetrics, body, only_file, to_json},
};
use crate::{
    Error, Result,
    calibrate::{Calibration, calibrate},
    device::{Device, OnWindow, WindowReport},
    flow::run_workers,
    graph::{Training, train_graph},
    operators::read::Reader,
    run::{Event, TrainProgress},
    sink::{Generation, Output, commit, commits},
    source::{Verdict, decode, fetch},
    stop::lock,
};

/// Directory of the exported dictionary.
pub(super) const DICTIONARY: &str = "dictionary";

/// What training leaves behind.
pub(super) struct Trained {
    pub(super) calibration: Calibration,
    pub(super) metrics: Vec<WindowMetrics>,
    learner: Box<dyn DictLearner>,
}

/// The dictionary as harvest uses it, and its files.
pub(super) struct Frozen {
    pub(super) calibration: Calibration,
    pub(super) dictionary: Arc<dyn Dictionary>,
    pub(super) files: Vec<FileEntry>,
}

/// Where training goes on from.
struct Start {
    learner: Box<dyn DictLearner>,
    window: u64,
    calibration: Calibration,
    metrics: Vec<WindowMetrics>,
}

impl Engine {
    pub(super) fn train(&self) -> Result<Trained> {
        let Start { learner, window, calibration, metrics } = self.start()?;
        let windows_total = self.plan.windows.len() as u64;
        if window == windows_total {
            return Ok(Trained { calibration, metrics, learner });
        }
        let reader = self.reader(calibration.norm_max, false);
        let stop = reader.stop.clone();
        let keeper = Keeper { checkpoint: self.checkpointer(calibration), metrics, saved: window };
        let keeper = Arc::new(std::sync::Mutex::new(keeper));
        let on_window = self.on_window(Arc::clone(&keeper), &reader);
        let (device, handle) =
            Device::start(learner, Arc::clone(&self.plan), window, on_window, stop.clone())?;
        let training = Training {
            reader,
            plan: Arc::clone(&self.plan),
            first_window: window,
            scale: calibration.scale,
            device: handle,
        };
        let ran = run_workers(self.runtime.workers, move |worker| train_graph(worker, &training));
        let learner = device.join();
        stop.check()?;
        ran?;
        let metrics = std::mem::take(&mut lock(&keeper).metrics);
        Ok(Trained { calibration, metrics, learner: learner? })
    }

    /// From the newest checkpoint whose file is intact, or from calibration.
    fn start(&self) -> Result<Start> {
        let commits = self.tokio.block_on(commits(&self.output, TRAIN))?;
        let bodies: Vec<TrainCommit> = commits.iter().map(body).collect::<Result<_>>()?;
        for (at, commit) in commits.iter().enumerate().rev() {
            let Ok(bytes) = self.tokio.block_on(self.output.get_verified(only_file(commit)?)) else {
                continue;
            };
            let mismatch = |e: atomflow_workers::learner::Mismatch| {
                Error::data(format!("the checkpoint does not fit the job: {e}")).object(commit.name.clone())
            };
            let mut learner = self.build(&[])?;
            learner.load(&LearnerState::from_bytes(&bytes).map_err(mismatch)?).map_err(mismatch)?;
            let metrics = bodies[..=at].iter().flat_map(|b| b.metrics.iter().copied()).collect();
            let TrainCommit { windows, calibration, .. } = bodies[at];
            self.note(format!("going on after window {windows} of {}", self.plan.windows.len()));
            return Ok(Start { learner, window: windows, calibration, metrics });
        }
        let (calibration, sample) = self.calibrate()?;
        Ok(Start { learner: self.build(&sample)?, window: 0, calibration, metrics: Vec::new() })
    }

    fn build(&self, sample: &[f32]) -> Result<Box<dyn DictLearner>> {
        let setup = Setup {
            d_in: self.manifest.d_in,
            steps: self.plan.steps,
            seed: self.job.seed,
            sample,
            threads: self.threads.clone(),
        };
        let invalid = |e: atomflow_workers::variants::Invalid| Error::spec(e.reason).field(e.field);
        self.job.learner.build(&setup).map_err(invalid)
    }

    /// Reads the first window and estimates the constants from the rows with the lowest slots.
    fn calibrate(&self) -> Result<(Calibration, Vec<f32>)> {
        let sample = self.tokio.block_on(self.sample())?;
        let factor = self.job.source.filter.norm_over_median_max;
        let (calibration, rows) = calibrate(&self.job.normalize, factor, &sample, self.manifest.d_in)?;
        self.note(format!(
            "calibrated on {} rows: median norm {:.4}, root mean square norm {:.4} of kept rows, scale {:.6}{}",
            calibration.sample_rows,
            calibration.norm_median,
            calibration.norm_rms,
            calibration.scale,
            calibration.norm_max.map_or(String::new(), |max| format!(", rows beyond norm {max:.1} left out")),
        ));
        Ok((calibration, rows))
    }

    async fn sample(&self) -> Result<Vec<f32>> {
        let (reader, d_in) = (self.reader(None, false), self.manifest.d_in);
        let window = &self.plan.windows[0];
        let limit = self.job.normalize.sample_rows as u64 / self.plan.lanes as u64;
        let read = |group: crate::plan::Group| {
            let reader = &reader;
            async move {
                let shard = &reader.manifest.shards[group.shard as usize];
                let fetched = fetch(shard, group.row_group as usize).await?;
                let decoded = decode(shard, group.row_group as usize, fetched, reader.want);
                match decoded {
                    Err(error) if self.quarantines() && error.kind == crate::error::Kind::Data => {
                        Ok(Vec::new())
                    }
                    Err(error) => Err(error),
                    Ok(decoded) => {
                        let of = (group.shard as usize, group.row_group as usize);
                        let verdicts = reader.filter.verdicts(&decoded, d_in, of.0, of.1);
                        let first = group.first_row;
                        let takes = |row: usize| {
                            verdicts[row] == Verdict::Train
                                && u64::from(window.slot(first + row as u64, self.plan.lanes).index) <= limit
                        };
                        let rows = decoded.x.chunks_exact(d_in).enumerate().filter(|(row, _)| takes(*row));
                        Ok(rows.flat_map(|(_, x)| x.iter().copied()).collect::<Vec<f32>>())
                    }
                }
            }
        };
        let mut sample = Vec::new();
        let mut groups =
            std::pin::pin!(futures::stream::iter(window.groups.iter().copied()).map(read).buffered(2));
        while let Some(rows) = groups.next().await {
            sample.extend(rows?);
        }
        Ok(sample)
    }

    fn checkpointer(&self, calibration: Calibration) -> Checkpointer {
        Checkpointer {
            tokio: self.tokio.handle().clone(),
            output: self.output.clone(),
            generation: self.generation.clone(),
            calibration,
            windows_total: self.plan.windows.len() as u64,
        }
    }

    /// After each window: metrics, progress, and a checkpoint where one is due.
    fn on_window(&self, keeper: Arc<std::sync::Mutex<Keeper>>, reader: &Reader) -> OnWindow {
        let every = self.runtime.checkpoint_windows.max(1) as u64;
        let (watch, plan, fetched) =
            (Arc::clone(&self.watch), Arc::clone(&self.plan), Arc::clone(&reader.fetched_bytes));
        let (mut planned_rows, mut steps_here) = (0, 0);
        Box::new(move |learner, report| {
            let mut keeper = lock(&keeper);
            keeper.metrics.push(WindowMetrics::of(report));
            let window = &plan.windows[usize::try_from(report.window).unwrap_or(usize::MAX)];
            planned_rows += window.rows;
            steps_here += window.steps;
            let fetched_bytes = fetched.load(Ordering::Relaxed);
            let progress = Progress { planned_rows, steps_here, fetched_bytes };
            watch.event(&Event::Train(progress.of(
                report,
                &keeper.metrics,
                plan.steps,
                plan.windows.len() as u64,
            )));
            let done = report.window + 1;
            if done % every == 0 || done == plan.windows.len() as u64 {
                keeper.save(learner, done)?;
            }
            Ok(())
        })
    }

    /// Exports the dictionary in the units of the data and commits it.
    pub(super) fn freeze(&self, trained: &Trained) -> Result<Frozen> {
        let dictionary: Arc<dyn Dictionary> = trained.learner.freeze(trained.calibration.scale).into();
        let exported = dictionary.export().map_err(|e| Error::bug(e.to_string()))?;
        let write = async {
            let mut files = Vec::new();
            for file in exported {
                let path = format!("{DICTIONARY}/{}", file.name);
                files.push(self.output.put(&path, Bytes::from(file.bytes)).await?);
            }
            let body = to_json(&trained.calibration)?;
            let commit = commit(&self.output, &self.generation, FREEZE, files, body).await?;
            Ok::<Commit, Error>(commit)
        };
        let commit = self.tokio.block_on(write)?;
        Ok(Frozen { calibration: trained.calibration, dictionary, files: commit.files })
    }
}

/// What accumulates between checkpoints.
struct Keeper {
    checkpoint: Checkpointer,
    metrics: Vec<WindowMetrics>,
    /// Windows in the newest checkpoint.
    saved: u64,
}

impl Keeper {
    fn save(&mut self, learner: &dyn DictLearner, windows: u64) -> Result<()> {
        let fresh: Vec<WindowMetrics> =
            self.metrics.iter().filter(|m| m.window >= self.saved).copied().collect();
        self.checkpoint.write(learner, windows, fresh)?;
        self.checkpoint.forget_before(self.saved)?;
        self.saved = windows;
        Ok(())
    }
}

struct Checkpointer {
    tokio: tokio::runtime::Handle,
    output: Output,
    generation: Generation,
    calibration: Calibration,
    windows_total: u64,
}

impl Checkpointer {
    fn write(&self, learner: &dyn DictLearner, windows: u64, metrics: Vec<WindowMetrics>) -> Result<()> {
        let bytes = learner.save().to_bytes().map_err(|e| Error::bug(e.to_string()))?;
        let name = format!("{TRAIN}{windows:08}");
        let (calibration, windows_total) = (self.calibration, self.windows_total);
        let body = to_json(&TrainCommit { windows, windows_total, calibration, metrics })?;
        self.tokio.block_on(async {
            let file = self.output.put(&path(windows), Bytes::from(bytes)).await?;
            commit(&self.output, &self.generation, &name, vec![file], body).await.map(drop)
        })
    }

    /// The checkpoint before the newest is kept; older ones are not needed by anybody.
    fn forget_before(&self, windows: u64) -> Result<()> {
        self.tokio.block_on(async {
            for (object, _) in self.output.list(CHECKPOINTS).await? {
                if object < path(windows) {
                    self.output.delete(&object).await?;
                }
            }
            Ok(())
        })
    }
}

const CHECKPOINTS: &str = "checkpoint";

fn path(windows: u64) -> String {
    format!("{CHECKPOINTS}/{TRAIN}{windows:08}.safetensors")
}

/// What progress lines are computed from, beside the report of the window.
struct Progress {
    /// Rows of the windows done in this process, before filters.
    planned_rows: u64,
    /// Steps done in this process.
    steps_here: u64,
    fetched_bytes: u64,
}

impl Progress {
    fn of(
        &self,
        report: &WindowReport,
        metrics: &[WindowMetrics],
        steps: u64,
        windows: u64,
    ) -> TrainProgress {
        let seconds = report.elapsed.as_secs_f64().max(1e-9);
        let last = metrics.last();
        let rows_per_s = self.planned_rows as f64 / seconds;
        let steps_per_s = self.steps_here as f64 / seconds;
        TrainProgress {
            step: report.step,
            steps,
            window: report.window + 1,
            windows,
            tokens: metrics.iter().map(|m| m.rows).sum(),
            rows_per_s,
            gb_per_s: self.fetched_bytes as f64 / seconds / 1e9,
            wait_share: report.waited.as_secs_f64() / seconds,
            fvu: last.map_or(0.0, WindowMetrics::fvu),
            l0: last.map_or(0.0, WindowMetrics::l0),
            dead: last.map_or(0, |m| m.dead),
            left_s: (steps - report.step) as f64 / steps_per_s.max(1e-9),
        }
    }
}
