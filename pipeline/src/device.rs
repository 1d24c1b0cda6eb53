//! The device thread: owns the learner, takes lanes through a bounded channel, steps in plan order.
//!
//! Steps never run inside an operator: a worker that waits for a device cannot drain its queues.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use atomflow_workers::learner::{ActivationBatch, DictLearner, StepReport};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::{Error, Result, operators::shuffle::LaneRows, plan::Plan, stop::Stop};

/// Windows that may be on their way at once: one being learned from, one being filled.
pub const WINDOWS_AHEAD: u64 = 2;

/// The end of the channel that operators hold.
#[derive(Debug, Clone)]
pub struct DeviceHandle {
    lanes: Sender<LaneRows>,
    done: Arc<AtomicU64>,
}

impl DeviceHandle {
    /// Queues one lane. The queue holds every lane of the windows that flow control lets through,
    /// so it is never full; if it is, flow control is broken.
    pub fn send(&self, lane: LaneRows, stop: &Stop) {
        match self.lanes.try_send(lane) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => stop.fail(Error::bug("more windows in flight than planned")),
            Err(TrySendError::Disconnected(_)) if stop.is_set() => {}
            Err(TrySendError::Disconnected(_)) => stop.fail(Error::bug("the device thread ended early")),
        }
    }

    /// Windows learned from so far.
    pub fn windows_done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

/// What the device thread reports after each window.
#[derive(Debug, Clone, Copy, Default)]
pub struct WindowReport {
    /// The window.
    pub window: u64,
    /// Steps done since the run began.
    pub step: u64,
    /// Sums over the steps of the window; `lr`, `dead` and the losses are those of its last step.
    pub sums: StepReport,
    /// How long the thread waited for rows since it began.
    pub waited: Duration,
    /// How long it has run.
    pub elapsed: Duration,
}

/// Called after each window with the learner as it stands: progress, metrics, checkpoints.
pub type OnWindow = Box<dyn FnMut(&dyn DictLearner, &WindowReport) -> Result<()> + Send>;

/// A running device thread.
#[derive(Debug)]
pub struct Device {
    thread: std::thread::JoinHandle<Box<dyn DictLearner>>,
}

impl Device {
    /// Starts the thread; it ends when all windows are done or the run stops.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub fn start(
        learner: Box<dyn DictLearner>,
        plan: Arc<Plan>,
        first_window: u64,
        on_window: OnWindow,
        stop: Stop,
    ) -> Result<(Self, DeviceHandle)> {
        let (sender, lanes) = bounded(plan.lanes * (WINDOWS_AHEAD as usize + 1));
        let done = Arc::new(AtomicU64::new(first_window));
        let mut work = Work {
            learner,
            plan,
            lanes,
            on_window,
            done: Arc::clone(&done),
            stop,
            waited: Duration::ZERO,
            began: Instant::now(),
        };
        let run = move || {
            work.windows(first_window);
            work.learner
        };
        let thread = std::thread::Builder::new().name("device".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::retry(format!("cannot start the device thread: {e}")))?;
        Ok((Device { thread }, DeviceHandle { lanes: sender, done }))
    }

    /// Waits for the end and gives the learner back.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn join(self) -> Result<Box<dyn DictLearner>> {
        self.thread.join().map_err(|_| Error::bug("the device thread panicked"))
    }
}

struct Work {
    learner: Box<dyn DictLearner>,
    plan: Arc<Plan>,
    lanes: Receiver<LaneRows>,
    on_window: OnWindow,
    done: Arc<AtomicU64>,
    stop: Stop,
    waited: Duration,
    began: Instant,
}

impl Work {
    fn windows(&mut self, first: u64) {
        let mut early: BTreeMap<u64, Vec<LaneRows>> = BTreeMap::new();
        for window in first..self.plan.windows.len() as u64 {
            let Some(lanes) = self.collect(window, &mut early) else { return };
            let report = self.window(window, &lanes);
            if let Err(error) = (self.on_window)(&*self.learner, &report) {
                return self.stop.fail(error);
            }
            self.done.store(window + 1, Ordering::Release);
            self.stop.wake();
        }
    }

    /// All lanes of `window`, in lane order; `None` when the run stops. Lanes are stashed by their
    /// window, never counted: a fast worker's next window may arrive before a slow worker's this one.
    fn collect(&mut self, window: u64, early: &mut BTreeMap<u64, Vec<LaneRows>>) -> Option<Vec<LaneRows>> {
        let since = Instant::now();
        while early.get(&window).map_or(0, Vec::len) < self.plan.lanes {
            match self.lanes.recv_timeout(Duration::from_millis(100)) {
                Ok(lane) => early.entry(lane.window).or_default().push(lane),
                Err(_) if self.stop.is_set() => return None,
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.waited += since.elapsed();
        let mut lanes = early.remove(&window)?;
        lanes.sort_unstable_by_key(|lane| lane.lane);
        Some(lanes)
    }

    fn window(&mut self, window: u64, lanes: &[LaneRows]) -> WindowReport {
        let planned = &self.plan.windows[usize::try_from(window).unwrap_or(usize::MAX)];
        let mut sums = StepReport::default();
        for step in 0..usize::try_from(planned.steps).unwrap_or(0) {
            let (x, starts) = batch(lanes, step, self.learner.d_in());
            let report = self.learner.step(&ActivationBatch::new(&x, &starts));
            sums = StepReport {
                rows: sums.rows + report.rows,
                nnz: sums.nnz + report.nnz,
                squared_error: sums.squared_error + report.squared_error,
                scatter: sums.scatter + report.scatter,
                ..report
            };
        }
        let (waited, elapsed) = (self.waited, self.began.elapsed());
        WindowReport { window, step: planned.first_step + planned.steps, sums, waited, elapsed }
    }
}

/// Step `step` of every lane, one after the other, and where each lane starts.
fn batch(lanes: &[LaneRows], step: usize, d_in: usize) -> (Vec<f32>, Vec<usize>) {
    let (mut x, mut starts) = (Vec::new(), vec![0]);
    for lane in lanes {
        let (from, to) = (lane.starts[step], lane.starts[step + 1]);
        x.extend_from_slice(&lane.x[from * d_in..to * d_in]);
        starts.push(x.len() / d_in);
    }
    (x, starts)
}
