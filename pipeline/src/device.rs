//! The device thread: owns the learners, takes lanes through a bounded channel, steps in plan order.
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

use atomflow_workers::threads::Threads;
use crossbeam_channel::{Sender, TrySendError, bounded};
use rayon::prelude::*;

use crate::{
    Error, Result,
    batch::{Batch, Watcher},
    error::Kind,
    failures::Failures,
    feed::{Batches, Feed},
    operators::shuffle::LaneRows,
    plan::Plan,
    seat::Seat,
    stop::Stop,
};

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

/// What the device thread reports after each window, beside what stands in the seats.
#[derive(Debug, Clone, Copy, Default)]
pub struct WindowReport {
    /// The window.
    pub window: u64,
    /// Steps done since the run began.
    pub step: u64,
    /// How long the thread had nothing to compute since it began: no batch was ready, on its card where there is one.
    pub waited: Duration,
    /// How long it has run.
    pub elapsed: Duration,
}

/// Called after each window with the learners as they stand: progress, metrics, checkpoints.
pub type OnWindow = Box<dyn FnMut(&[Seat], &WindowReport) -> Result<()> + Send>;

/// A running device thread.
#[derive(Debug)]
pub struct Device {
    thread: std::thread::JoinHandle<Vec<Seat>>,
}

/// What the thread works with.
pub struct Work {
    /// The learners that go on.
    pub seats: Vec<Seat>,
    /// Which learners of the job have failed.
    pub failures: Failures,
    /// Kernel threads.
    pub threads: Threads,
    /// The order of all rows.
    pub plan: Arc<Plan>,
    /// First window that is not trained yet.
    pub first_window: u64,
    /// What happens after each window.
    pub on_window: OnWindow,
    /// Ends the run.
    pub stop: Stop,
}

impl Device {
    /// Starts the thread; it ends when all windows are done or the run stops.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub fn start(work: Work) -> Result<(Self, DeviceHandle)> {
        let (sender, lanes) = bounded(work.plan.lanes * (WINDOWS_AHEAD as usize + 1));
        let done = Arc::new(AtomicU64::new(work.first_window));
        let feed = Feed {
            lanes,
            early: BTreeMap::new(),
            watchers: work.seats.iter().map(Watcher::from).collect(),
            failures: work.failures.clone(),
            threads: work.threads.clone(),
            plan: Arc::clone(&work.plan),
            stop: work.stop.clone(),
            next: (work.first_window, 0),
            window: Vec::new(),
            waited: Duration::ZERO,
        };
        let mut running = Running { work, done: Arc::clone(&done), began: Instant::now() };
        let run = move || {
            running.all(feed);
            running.work.seats
        };
        let thread = std::thread::Builder::new().name("device".to_owned()).spawn(run);
        let thread = thread.map_err(|e| Error::retry(format!("cannot start the device thread: {e}")))?;
        Ok((Device { thread }, DeviceHandle { lanes: sender, done }))
    }

    /// Waits for the end and gives the learners back.
    ///
    /// # Errors
    /// The thread panicked.
    pub fn join(self) -> Result<Vec<Seat>> {
        self.thread.join().map_err(|_| Error::bug("the device thread panicked"))
    }
}

struct Running {
    work: Work,
    done: Arc<AtomicU64>,
    began: Instant,
}

impl Running {
    fn all(&mut self, feed: Feed) {
        if !feed.for_cards() {
            return self.windows(Batches::Own(Box::new(feed)));
        }
        let (sender, ready) = bounded(0);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("feed".to_owned());
            match thread.spawn_scoped(scope, move || feed.run(&sender)) {
                Ok(_) => self.windows(Batches::Ahead { ready, waited: Duration::ZERO }),
                Err(e) => {
                    self.work
                        .stop
                        .fail(Error::retry(format!("cannot start the thread that prepares batches: {e}")));
                }
            }
        });
    }

    fn windows(&mut self, mut batches: Batches) {
        for window in self.work.first_window..self.work.plan.windows.len() as u64 {
            let Some(report) = self.window(window, &mut batches) else { return };
            if self.work.stop.is_set() {
                // Nothing is kept of a window that was broken off.
                return;
            }
            if let Err(error) = (self.work.on_window)(&self.work.seats, &report) {
                return self.work.stop.fail(error);
            }
            self.done.store(window + 1, Ordering::Release);
            self.work.stop.wake();
        }
    }

    /// `None` when the run stops.
    fn window(&mut self, window: u64, batches: &mut Batches) -> Option<WindowReport> {
        let Work { seats, failures, threads, plan, stop, .. } = &mut self.work;
        let planned = &plan.windows[usize::try_from(window).unwrap_or(usize::MAX)];
        seats.iter_mut().for_each(Seat::open);
        for step in 0..planned.steps {
            if stop.is_set() {
                return None;
            }
            let batches = batches.next()?;
            let mut live: Vec<&mut Seat> = seats.iter_mut().filter(|s| !failures.has(s.learner)).collect();
            let work = Step { number: planned.first_step + step + 1, batches: &batches, failures, stop };
            work.all(&mut live, threads);
        }
        let (waited, elapsed) = (batches.waited(), self.began.elapsed());
        Some(WindowReport { window, step: planned.first_step + planned.steps, waited, elapsed })
    }
}

/// One step of every learner.
struct Step<'a> {
    number: u64,
    batches: &'a [Batch],
    failures: &'a Failures,
    stop: &'a Stop,
}

impl Step<'_> {
    /// Learners go side by side on the kernel threads, at most as many at a time as there are threads:
    /// each holds its temporaries. Inside, their kernels share the same threads. No byte depends on it.
    fn all(&self, live: &mut [&mut Seat], threads: &Threads) {
        if let [one] = live {
            return self.one(one);
        }
        for together in live.chunks_mut(threads.count().max(1)) {
            threads.install(|| together.par_iter_mut().for_each(|seat| self.one(seat)));
        }
    }

    fn one(&self, seat: &mut Seat) {
        let Some(batch) = self.batches.iter().find(|batch| batch.view == seat.view) else { return };
        let learned = self.failures.shield(|| seat.step(batch, self.number));
        match learned.and_then(|learned| learned) {
            Ok(()) => {}
            // What may go well the next time ends the run, so that `resume` finds every learner where it was.
            Err(error) if error.kind == Kind::Retry => self.stop.fail(error),
            Err(error) => self.failures.add(seat.learner, error, self.stop),
        }
    }
}
