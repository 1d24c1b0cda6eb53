//! The kernel threads of one device. How many there are changes the speed and nothing else.

use std::sync::Arc;

use crate::kernels::encode::Screen;

/// A pool of kernel threads, shared by everything that runs on one device.
#[derive(Debug, Clone)]
pub struct Threads {
    pool: Arc<rayon::ThreadPool>,
    screen: Screen,
}

impl Threads {
    /// `count` threads; 0 means one per core.
    ///
    /// # Errors
    /// The operating system refuses to start them.
    pub fn new(count: usize) -> Result<Self, rayon::ThreadPoolBuildError> {
        let name = |i| format!("kernel-{i}");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(name).build()?;
        Ok(Threads { pool: Arc::new(pool), screen: Screen::Off })
    }

    /// Runs `work` on the pool; parallel iterators inside use its threads.
    pub fn install<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.pool.install(work)
    }

    /// The same threads for something whose encoder is, or is not, to be screened: which is faster
    /// depends on its shape, and whoever has a clock can tell.
    #[must_use]
    pub fn with_screen(&self, screen: Screen) -> Self {
        Threads { screen, ..self.clone() }
    }

    /// Whether encoders that run here are screened.
    pub fn screen(&self) -> Screen {
        self.screen
    }

    /// How many threads there are.
    pub fn count(&self) -> usize {
        self.pool.current_num_threads()
    }
}
