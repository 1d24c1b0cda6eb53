//! A learner that fails beside others fails alone: who has, and a shield around what may panic.
//!
//! What belongs to one learner is its step, its codes and statistics, its tables. What belongs to all
//! (reading, the plan, the store) still ends the run. A job of one learner has nobody to shield: a
//! panic ends the process as anywhere else.

use std::{
    any::Any,
    cell::Cell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use atomflow_schemas::manifest::LearnerFailure;

use crate::{
    Error, Result,
    error::Kind,
    stop::{Stop, lock},
};

thread_local! {
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Shields that are up, in the whole process.
static UP: AtomicUsize = AtomicUsize::new(0);

/// Kernel threads are named so; their panics travel to whoever waits for their work.
const KERNEL_THREAD: &str = "kernel-";

/// Whether a panic on this thread is about to become the failure of one learner.
pub fn shielded() -> bool {
    let kernel = || std::thread::current().name().is_some_and(|name| name.starts_with(KERNEL_THREAD));
    HERE.get() > 0 || (UP.load(Ordering::Acquire) > 0 && kernel())
}

/// The learners of a job that have failed, each with its first error. Shared by all threads.
#[derive(Debug, Clone)]
pub struct Failures {
    learners: usize,
    errors: Arc<Mutex<BTreeMap<usize, Error>>>,
}

impl Failures {
    /// Of a job of so many learners.
    pub fn new(learners: usize) -> Self {
        Failures { learners, errors: Arc::default() }
    }

    /// Learner `learner` failed; its first error stays. Ends the run if no other is left.
    pub fn add(&self, learner: usize, error: Error, stop: &Stop) {
        lock(&self.errors).entry(learner).or_insert_with(|| error.clone());
        if self.all() {
            stop.fail(error);
        }
    }

    /// Notes a failure that an earlier process committed.
    pub fn recall(&self, learner: usize, error: Error) {
        lock(&self.errors).entry(learner).or_insert(error);
    }

    /// Whether `learner` has failed.
    pub fn has(&self, learner: usize) -> bool {
        lock(&self.errors).contains_key(&learner)
    }

    /// Whether no learner is left.
    pub fn all(&self) -> bool {
        lock(&self.errors).len() == self.learners
    }

    /// Every failure, by learner.
    pub fn list(&self) -> BTreeMap<usize, Error> {
        lock(&self.errors).clone()
    }

    /// Does work that belongs to one learner alone. Beside other learners a panic is an error.
    ///
    /// # Errors
    /// The work panicked.
    pub fn shield<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        if self.learners == 1 {
            return Ok(work());
        }
        HERE.set(HERE.get() + 1);
        UP.fetch_add(1, Ordering::AcqRel);
        let outcome = catch_unwind(AssertUnwindSafe(work));
        UP.fetch_sub(1, Ordering::AcqRel);
        HERE.set(HERE.get() - 1);
        outcome.map_err(|panic| {
            Error::bug(format!("internal error: {}", said(panic.as_ref())))
                .hint("this is a bug, please report it with the job spec; the other learners went on")
        })
    }
}

/// A failure as it is written down.
pub fn record(error: &Error) -> LearnerFailure {
    LearnerFailure {
        kind: error.kind.as_str().to_owned(),
        message: error.message().to_owned(),
        field: error.place().field.clone(),
        hint: error.what_to_do().map(str::to_owned),
    }
}

/// A failure that was written down, as an error again.
pub fn error(record: &LearnerFailure) -> Error {
    let kinds = [Kind::Spec, Kind::Data, Kind::Retry];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == record.kind).unwrap_or(Kind::Bug);
    let mut error = Error::new(kind, record.message.clone());
    if let Some(field) = &record.field {
        error = error.field(field.clone());
    }
    record.hint.iter().fold(error, |error, hint| error.hint(hint.clone()))
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_panic_beside_others_is_an_error() {
        let error = Failures::new(2).shield(|| {
            assert!(shielded());
            panic!("latent 9 is odd")
        });
        let error: Error = error.unwrap_err();
        assert_eq!(error.kind, Kind::Bug);
        assert!(error.message().contains("latent 9 is odd"), "{error}");
        assert!(!shielded());
        assert!(!Failures::new(1).shield(shielded).unwrap());
    }

    #[test]
    fn what_is_written_down_says_the_same() {
        let before = Error::spec("diverged").field("learner[1].schedule.lr").hint("lower it");
        assert_eq!(error(&record(&before)), before);
        assert_eq!(error(&record(&Error::bug("odd"))), Error::bug("odd"));
    }

    #[test]
    fn the_run_ends_with_its_last_learner() {
        let (failures, stop) = (Failures::new(2), Stop::default());
        failures.add(1, Error::spec("first"), &stop);
        failures.add(1, Error::spec("again"), &stop);
        assert!(!stop.is_set() && failures.has(1) && !failures.all());
        assert_eq!(failures.list()[&1].message(), "first");
        failures.add(0, Error::spec("other"), &stop);
        assert!(failures.all() && stop.check().is_err());
    }
}
