//! The training phase: calibrate or load, run the train graph, commit checkpoints.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, atomic::Ordering},
};

use atomflow_workers::learner::{DictLearner, Scales};
use futures::StreamExt;
use rayon::prelude::*;

use super::{
    Engine,
    checkpoints::{History, Keeper},
    state::WindowMetrics,
};
use crate::{
    Result,
    batch::View,
    calibrate::{Calibrated, Calibration, Sample},
    device::{Device, OnWindow, WindowReport, Work},
    flow::run_workers,
    graph::{Training, train_graph, window_tasks},
    operators::read::{Reader, Rows, Task},
    run::{Event, LearnerProgress, TrainProgress},
    seat::Seat,
    source::{Decoded, Verdict},
    stop::lock,
};

/// What training leaves behind, for each learner that came through.
pub(super) struct Trained {
    /// Number of the learner.
    pub(super) learner: usize,
    pub(super) calibration: Calibration,
    pub(super) metrics: Vec<WindowMetrics>,
    pub(super) dictionary: Box<dyn DictLearner>,
}

/// Where training goes on from.
struct Start {
    window: u64,
    learners: Vec<(Seat, History)>,
}

impl Engine {
    pub(super) fn train(&self) -> Result<Vec<Trained>> {
        let live = self.live();
        if live.is_empty() {
            return Ok(Vec::new());
        }
        let Start { window, learners } = self.start(&live)?;
        let (seats, histories): (Vec<Seat>, Vec<History>) = learners.into_iter().unzip();
        let norm_max = histories.first().and_then(|history| history.calibration.norm_max);
        let keeper = self.keeper(live.into_iter().zip(histories).collect(), window);
        if window == self.plan.windows.len() as u64 {
            return Ok(self.trained(seats, keeper));
        }
        let keeper = Arc::new(Mutex::new(keeper));
        let seats = self.steps(seats, window, self.reader(norm_max, false), &keeper)?;
        let keeper = Arc::into_inner(keeper).map(|keeper| keeper.into_inner());
        let keeper =
            keeper.ok_or_else(|| crate::Error::bug("the device thread still holds the checkpoints"))?;
        Ok(self.trained(seats, keeper.unwrap_or_else(std::sync::PoisonError::into_inner)))
    }

    /// Runs the train graph to the end of the plan.
    fn steps(
        &self,
        seats: Vec<Seat>,
        window: u64,
        reader: Reader,
        keeper: &Arc<Mutex<Keeper>>,
    ) -> Result<Vec<Seat>> {
        let stop = reader.stop.clone();
        let (device, handle) = Device::start(Work {
            seats,
            failures: self.failures.clone(),
            threads: self.threads.clone(),
            plan: Arc::clone(&self.plan),
            first_window: window,
            on_window: self.on_window(Arc::clone(keeper), &reader),
            stop: stop.clone(),
        })?;
        let plan = Arc::clone(&self.plan);
        let training = Training { reader, plan, first_window: window, device: handle };
        let ran = run_workers(self.runtime.workers, move |worker| train_graph(worker, &training));
        let seats = device.join();
        self.ended(&stop)?;
        ran?;
        seats
    }

    fn trained(&self, seats: Vec<Seat>, mut keeper: Keeper) -> Vec<Trained> {
        let mut finish = |seat: Seat| {
            let History { calibration, metrics, .. } = keeper.histories.remove(&seat.learner)?;
            let Seat { learner, dictionary, .. } = seat;
            (!self.failures.has(learner)).then_some(Trained { learner, calibration, metrics, dictionary })
        };
        seats.into_iter().filter_map(&mut finish).collect()
    }

    /// From the newest checkpoint that all have, or from calibration.
    fn start(&self, live: &[usize]) -> Result<Start> {
        if let Some((window, learners)) = self.common_checkpoint(live)? {
            self.note(format!("going on after window {window} of {}", self.plan.windows.len()));
            return Ok(Start { window, learners });
        }
        let sample = self.tokio.block_on(self.sample())?;
        let calibrated = self.threads.install(|| self.calibrate(&sample, live))?;
        let begin = |(&at, calibrated): (&usize, &Arc<Calibrated>)| {
            let Calibrated { calibration, x, beside } = &**calibrated;
            let seat = self.seat(at, self.build(at, calibration, x, beside)?, calibration);
            Ok((seat, self.history(at, calibration.clone())))
        };
        let learners =
            self.threads.install(|| live.par_iter().zip(&calibrated).map(begin).collect::<Result<_>>());
        Ok(Start { window: 0, learners: learners? })
    }

    pub(super) fn seat(
        &self,
        at: usize,
        dictionary: Box<dyn DictLearner>,
        calibration: &Calibration,
    ) -> Seat {
        let view = View { sight: self.learners[at].sight.clone(), scales: calibration.scales() };
        let field = self.learners[at].is.field.clone();
        let hold = self.learners[at].hold.clone();
        let (card, outside) = (self.learners[at].card.clone(), self.learners[at].outside.clone());
        Seat { learner: at, view, sums: Default::default(), field, dictionary, hold, card, outside }
    }

    /// Estimates the constants of each learner; those of the same columns and scale share them.
    fn calibrate(&self, sample: &Sample, live: &[usize]) -> Result<Vec<Arc<Calibrated>>> {
        let mut all: Vec<Arc<Calibrated>> = Vec::new();
        for (rank, &at) in live.iter().enumerate() {
            let of = |at: usize| (&self.learners[at].sight, self.learners[at].is.normalize);
            let twin = live.iter().take(rank).position(|&other| of(other) == of(at));
            let calibrated = match twin.and_then(|twin| all.get(twin)) {
                Some(calibrated) => Arc::clone(calibrated),
                None => Arc::new(sample.calibrate(of(at).0, of(at).1)?),
            };
            if twin.is_none() {
                self.note(said(&calibrated.calibration));
            }
            all.push(calibrated);
        }
        Ok(all)
    }

    /// The rows of the first window with the lowest slots.
    async fn sample(&self) -> Result<Sample> {
        let (reader, plan, width) = (self.reader(None, false), Arc::clone(&self.plan), self.manifest.d_in);
        let limit = self.job.normalize.sample_rows as u64 / self.plan.lanes as u64;
        let first = window_tasks(Arc::clone(&plan), 0, 0, 1).take_while(|task| task.time == 0);
        let sampled = move |task: &Task, rows: Rows| {
            let slot = |row: usize| plan.windows[0].slot(task.first_row + row as u64, plan.lanes).index;
            let takes = |row: usize| u64::from(slot(row)) <= limit;
            let of = |(rows, verdicts): (Decoded, Vec<_>)| trained(&rows, &verdicts, width, takes);
            Ok(rows.map_or_else(|_bad| Vec::new(), of))
        };
        let (mut groups, mut x) = (std::pin::pin!(reader.prepared(first, sampled)), Vec::new());
        while let Some(rows) = groups.next().await {
            x.extend_from_slice(&rows?.value);
        }
        Ok(Sample {
            x,
            width,
            main: self.manifest.main_column(),
            norm_over_median_max: self.job.source.filter.norm_over_median_max,
        })
    }

    /// After each window: metrics, failures, progress, and a checkpoint where one is due.
    fn on_window(&self, keeper: Arc<Mutex<Keeper>>, reader: &Reader) -> OnWindow {
        let every = self.runtime.checkpoint_windows.max(1) as u64;
        let (watch, plan, fetched) =
            (Arc::clone(&self.watch), Arc::clone(&self.plan), Arc::clone(&reader.fetched_bytes));
        let names: Vec<String> = self.learners.iter().map(|learner| learner.is.name.clone()).collect();
        let (failures, mut told) =
            (self.failures.clone(), self.failures.list().into_keys().collect::<BTreeSet<_>>());
        let (mut planned_rows, mut steps_here) = (0, 0);
        let wait_share = Arc::clone(&self.wait_share);
        Box::new(move |seats, report| {
            let mut keeper = lock(&keeper);
            keeper.note(seats, |seat| WindowMetrics::of(report, &seat.sums));
            for message in seats.iter().filter_map(|seat| seat.card.as_ref()?.remark()) {
                watch.event(&Event::Note { message });
            }
            for (at, error) in failures.list().into_iter().filter(|(at, _)| told.insert(*at)) {
                keeper.bury()?;
                if names.len() == 1 {
                    continue;
                }
                let message =
                    format!("`{}` failed and is left out from here on: {}", names[at], error.message());
                watch.event(&Event::Note { message });
            }
            if failures.all() {
                return Ok(());
            }
            let window = &plan.windows[usize::try_from(report.window).unwrap_or(usize::MAX)];
            planned_rows += window.rows;
            steps_here += window.steps;
            let fetched_bytes = fetched.load(Ordering::Relaxed);
            let progress = Progress { planned_rows, steps_here, fetched_bytes };
            let total = (plan.steps, plan.windows.len() as u64);
            let progress = progress.of(report, &keeper, &names, total);
            *lock(&wait_share) = Some(progress.wait_share);
            watch.event(&Event::Train(progress));
            let done = report.window + 1;
            if done % every == 0 || done == plan.windows.len() as u64 {
                keeper.save(seats, done)?;
            }
            Ok(())
        })
    }
}

/// The rows of a row group that are trained on and that `takes` accepts.
fn trained(rows: &Decoded, verdicts: &[Verdict], width: usize, takes: impl Fn(usize) -> bool) -> Vec<f32> {
    let mut x = Vec::new();
    for (row, values) in rows.x.chunks_exact(width).enumerate() {
        if verdicts[row] == Verdict::Train && takes(row) {
            x.extend_from_slice(values);
        }
    }
    x
}

fn said(calibration: &Calibration) -> String {
    let beyond = |max: f32| format!(", rows beyond norm {max:.1} left out");
    let each = |scales: &Scales| {
        let all = scales.inputs.iter().chain(&scales.beside).map(|scale| format!("{scale:.6}"));
        format!(" (of each column: {})", all.collect::<Vec<_>>().join(", "))
    };
    format!(
        "calibrated on {} rows: median norm {:.4}, root mean square norm {:.4} of kept rows, scale {:.6}{}{}",
        calibration.sample_rows,
        calibration.norm_median,
        calibration.norm_rms,
        calibration.scale,
        calibration.scales.as_ref().map_or(String::new(), each),
        calibration.norm_max.map_or(String::new(), beyond),
    )
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
        keeper: &Keeper,
        names: &[String],
        (steps, windows): (u64, u64),
    ) -> TrainProgress {
        let seconds = report.elapsed.as_secs_f64().max(1e-9);
        let steps_per_s = self.steps_here as f64 / seconds;
        let last = |(at, history): (&usize, &History)| {
            let last = history.metrics.last().filter(|last| last.window == report.window)?;
            let name = names[*at].clone();
            Some(LearnerProgress { name, fvu: last.fvu(), l0: last.l0(), dead: last.dead })
        };
        let learners: Vec<LearnerProgress> = keeper.histories.iter().filter_map(last).collect();
        let best = learners.iter().min_by(|a, b| a.fvu.total_cmp(&b.fvu)).cloned().unwrap_or_default();
        let tokens = keeper.histories.values().map(|h| h.metrics.iter().map(|m| m.rows).sum::<u64>()).max();
        TrainProgress {
            step: report.step,
            steps,
            window: report.window + 1,
            windows,
            tokens: tokens.unwrap_or(0),
            rows_per_s: self.planned_rows as f64 / seconds,
            gb_per_s: self.fetched_bytes as f64 / seconds / 1e9,
            wait_share: report.waited.as_secs_f64() / seconds,
            fvu: best.fvu,
            l0: best.l0,
            dead: best.dead,
            learners: if names.len() > 1 { learners } else { Vec::new() },
            left_s: (steps - report.step) as f64 / steps_per_s.max(1e-9),
        }
    }
}
