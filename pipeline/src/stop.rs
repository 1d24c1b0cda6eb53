//! How a failure anywhere ends the run everywhere: one error is kept, every operator is woken and
//! lets go of its capabilities, and the dataflow drains by itself.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::{Error, Result, flow::SyncActivator};

/// Shared by all threads of a run.
#[derive(Clone, Default)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    stopped: AtomicBool,
    error: Mutex<Option<Error>>,
    wakers: Mutex<Vec<SyncActivator>>,
}

impl Stop {
    /// Ends the run with `error`; later errors are consequences and are dropped.
    pub fn fail(&self, error: Error) {
        lock(&self.inner.error).get_or_insert(error);
        self.inner.stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the run is ending.
    pub fn is_set(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    /// The error the run ended with, if any.
    ///
    /// # Errors
    /// That error.
    pub fn check(&self) -> Result<()> {
        match lock(&self.inner.error).clone() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Adds an operator to those woken by [`Stop::wake`].
    pub(crate) fn register(&self, waker: SyncActivator) {
        lock(&self.inner.wakers).push(waker);
    }

    /// Schedules every registered operator. An operator that is gone needs no waking.
    pub fn wake(&self) {
        for waker in lock(&self.inner.wakers).iter() {
            let _gone = waker.activate();
        }
    }
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop").field("stopped", &self.is_set()).finish()
    }
}

/// The data behind a mutex, also after another thread panicked: an error slot has no broken states.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
