//! The kernel threads of one device. How many there are changes the speed and nothing else.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::kernels::encode::Screen;

/// A pool of kernel threads, shared by everything that runs on one device.
#[derive(Debug, Clone)]
pub struct Threads {
    pool: Arc<rayon::ThreadPool>,
    /// Whether encoders are screened: shared by all clones.
    screened: Arc<AtomicBool>,
}

impl Threads {
    /// `count` threads; 0 means one per core.
    ///
    /// # Errors
    /// The operating system refuses to start them.
    pub fn new(count: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let name = |i| format!("kernel-{i}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(name).build()?;
        Ok(Threads { pool: Arc::new(pool), screened: Arc::default() })
    }

    /// Runs `work` on the pool; parallel iterators inside use its threads.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// Runs `work` once on every thread, at the same time.
    pub fn on_each<T: Send>(&self, work: impl Fn() -> T + Sync) -> Vec<T> {
        self.pool.broadcast(|_| work())
    }

    /// The same threads with a switch of their own for [`Threads::choose`]: one for each learner.
    #[must_use]
    pub fn with_own_switch(&self) -> Self {
        Threads { screened: Arc::default(), ..self.clone() }
    }

    /// Says whether encoders that run on this handle and its clones are screened. Which is faster
    /// depends on their shape and their data; whoever has a clock can tell.
    pub fn choose(&self, screen: Screen) {
        self.screened.store(screen == Screen::Int8, Ordering::Relaxed);
    }

    /// Whether encoders that run here are screened.
    pub fn screen(&self) -> Screen {
        if self.screened.load(Ordering::Relaxed) { Screen::Int8 } else { Screen::Off }
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }
}
