//! The batches of every step in the order of the plan: lanes are collected window by window and cut into steps.
//!
//! Learners on cards find the next batch on their card when a step is over: a thread of its own prepares it
//! meanwhile. On the CPU that would take the threads that step.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use atomflow_workers::threads::Threads;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use crate::{
    batch::{Batch, Watcher, batches},
    failures::Failures,
    operators::shuffle::LaneRows,
    plan::Plan,
    stop::Stop,
};

/// Whoever cuts lanes into steps.
pub(crate) struct Feed {
    /// Lanes as workers finish them.
    pub(crate) lanes: Receiver<LaneRows>,
    /// Those of later windows: a fast worker's next window may arrive before a slow worker's this one.
    pub(crate) early: BTreeMap<u64, Vec<LaneRows>>,
    /// The learners.
    pub(crate) watchers: Vec<Watcher>,
    /// Which of them have failed.
    pub(crate) failures: Failures,
    /// Kernel threads.
    pub(crate) threads: Threads,
    /// The order of all rows.
    pub(crate) plan: Arc<Plan>,
    /// Ends the run.
    pub(crate) stop: Stop,
    /// The next step, by its window and its number there.
    pub(crate) next: (u64, usize),
    /// Lanes of the window of that step, in lane order; none before its first.
    pub(crate) window: Vec<LaneRows>,
    /// How long it waited for lanes.
    pub(crate) waited: Duration,
}

impl Feed {
    /// Whether batches go to cards.
    pub(crate) fn for_cards(&self) -> bool {
        self.watchers.iter().any(Watcher::on_card)
    }

    /// The batches of the next step; `None` at the end of the plan, or when the run stops.
    fn next(&mut self) -> Option<Vec<Batch>> {
        let (window, step) = self.next;
        let steps = self.plan.windows.get(usize::try_from(window).ok()?)?.steps;
        if step == 0 {
            self.window = self.collect(window)?;
        }
        let live: Vec<&Watcher> = self.watchers.iter().filter(|w| !self.failures.has(w.learner)).collect();
        let batches = batches(&live, &self.window, step, &self.threads);
        self.next = (window, step + 1);
        if step as u64 + 1 == steps {
            self.next = (window + 1, 0);
            self.window = Vec::new();
        }
        Some(batches)
    }

    /// All lanes of `window`, in lane order; `None` when the run stops. Lanes are stashed by their
    /// window, never counted.
    fn collect(&mut self, window: u64) -> Option<Vec<LaneRows>> {
        let since = Instant::now();
        if self.stop.is_set() {
            return None;
        }
        while self.early.get(&window).map_or(0, Vec::len) < self.plan.lanes {
            match self.lanes.recv_timeout(Duration::from_millis(100)) {
                _ if self.stop.is_set() => return None,
                Ok(lane) => self.early.entry(lane.window).or_default().push(lane),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return None,
            }
        }
        self.waited += since.elapsed();
        let mut lanes = self.early.remove(&window)?;
        lanes.sort_unstable_by_key(|lane| lane.lane);
        Some(lanes)
    }

    /// Prepares one step after the other, until nobody takes them any more. With a channel that holds none, the next
    /// one is ready and no more than that.
    pub(crate) fn run(mut self, ready: &Sender<Vec<Batch>>) {
        while let Some(batches) = self.next() {
            if ready.send(batches).is_err() {
                return;
            }
        }
    }
}

/// Where the device thread has its batches from.
pub(crate) enum Batches {
    /// It cuts them itself.
    Own(Box<Feed>),
    /// Another thread is a step ahead.
    Ahead {
        /// What that thread has ready.
        ready: Receiver<Vec<Batch>>,
        /// How long there was nothing.
        waited: Duration,
    },
}

impl Batches {
    /// The batches of the next step; `None` at the end of the plan, or when the run stops.
    pub(crate) fn next(&mut self) -> Option<Vec<Batch>> {
        match self {
            Batches::Own(feed) => feed.next(),
            Batches::Ahead { ready, waited } => {
                let since = Instant::now();
                let batches = ready.recv().ok();
                *waited += since.elapsed();
                batches
            }
        }
    }

    /// How long the device thread had nothing to compute.
    pub(crate) fn waited(&self) -> Duration {
        match self {
            Batches::Own(feed) => feed.waited,
            Batches::Ahead { waited, .. } => *waited,
        }
    }
}

#[cfg(test)]
mod tests;
