//! A value that is made when it is first needed, on the kernel threads.

use std::sync::OnceLock;

/// Made by whoever needs it first, and kept.
///
/// Not `OnceLock::get_or_init`: a kernel thread that waits for the pieces of the value may be handed other
/// rows to encode, needs the value there, and would wait for itself. Here nobody waits: two threads may
/// make the same value, and the first one stays.
#[derive(Debug)]
pub struct Made<T>(OnceLock<T>);

impl<T> Default for Made<T> {
    fn default() -> Self {
        Made(OnceLock::new())
    }
}

impl<T> Made<T> {
    /// The value, made by `make` where there is none yet. Whichever of several is kept must not matter.
    pub fn get(&self, make: impl FnOnce() -> T) -> &T {
        match self.0.get() {
            Some(value) => value,
            // What is handed over here is there already: nobody waits for work.
            None => {
                let value = make();
                self.0.get_or_init(|| value)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;

    /// What a kernel thread meets that steals rows while it waits: the value is needed while it is made.
    #[test]
    fn whoever_makes_it_may_need_it() {
        let (done, is_done) = mpsc::channel();
        std::thread::spawn(move || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
            let made = Made::default();
            let nested = || *made.get(|| 1);
            let value = pool.install(|| *made.get(|| rayon::join(|| 0, nested).1 + 1));
            done.send((value, *made.get(|| 9))).unwrap();
        });
        assert_eq!(is_done.recv_timeout(Duration::from_secs(60)), Ok((1, 1)), "it waits for itself");
    }

    #[test]
    fn what_is_made_stays() {
        let made = Made::default();
        assert_eq!((*made.get(|| 3), *made.get(|| 4)), (3, 3));
    }
}
