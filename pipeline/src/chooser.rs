//! Which of two ways of doing the same thing is faster, found out while doing it.
//!
//! Both ways give the same bytes, so trying costs nothing but time: each is timed in turns at first,
//! then the faster one is used and the other looked at again now and then, because what is faster
//! may change while a dictionary is learned.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use atomflow_workers::{kernels::encode::Screen, threads::Threads};

use crate::stop::lock;

/// A hold on the kernel threads for one learner or dictionary, whose encoder goes the faster way: every
/// pre-activation in f32, or int8 products first.
#[derive(Debug, Clone)]
pub struct Hold {
    threads: Threads,
    chooser: Arc<Mutex<Chooser>>,
}

impl Hold {
    /// Nothing is known yet.
    pub fn new(threads: &Threads) -> Hold {
        Hold { threads: threads.with_own_switch(), chooser: Arc::default() }
    }

    /// For another use of the same encoder: begins the way that was the faster one. Trying both again
    /// on whole row groups took a twentieth of a short harvest; the slower is looked at again later.
    pub fn afresh(&self) -> Hold {
        let known = lock(&self.chooser).clone();
        Hold { threads: self.threads.clone(), chooser: Arc::new(Mutex::new(known.settled())) }
    }

    /// What learners and dictionaries run on.
    pub fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Runs `work`, which encodes `rows` rows, in the way that is likely to be the faster one.
    pub(crate) fn run<T>(&self, rows: usize, work: impl FnOnce() -> T) -> T {
        if !Screen::Int8.available() || rows == 0 {
            return work();
        }
        let (screened, began) = (lock(&self.chooser).next(), Instant::now());
        self.threads.choose(if screened { Screen::Int8 } else { Screen::Off });
        let done = work();
        lock(&self.chooser).took(screened, began.elapsed().as_secs_f64() / rows as f64);
        done
    }

    /// What is used, in words.
    pub(crate) fn encoder(&self) -> &'static str {
        if lock(&self.chooser).faster() { "int8 pre-screen" } else { "f32" }
    }
}

/// Trials of each way before one is chosen.
const TRIALS: u64 = 3;
/// Uses between two looks at the slower way.
const LOOK_AGAIN: u64 = 128;

/// Two ways, `false` and `true`, and how long they take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chooser {
    uses: u64,
    seconds: [f64; 2],
}

impl Chooser {
    /// The way to go next.
    pub(crate) fn next(&self) -> bool {
        if self.uses < 2 * TRIALS {
            return self.uses % 2 == 1;
        }
        self.faster() != self.uses.is_multiple_of(LOOK_AGAIN)
    }

    /// What is known, with all trials behind it and the next look at the slower way ahead; a fresh start
    /// where there were too few trials to know.
    fn settled(self) -> Chooser {
        if self.uses < 2 * TRIALS { Chooser::default() } else { Chooser { uses: 2 * TRIALS, ..self } }
    }

    /// It took so long.
    pub(crate) fn took(&mut self, way: bool, seconds: f64) {
        let (trial, faster) = (self.uses / 2, self.faster());
        let known = &mut self.seconds[usize::from(way)];
        *known = match trial {
            0 => seconds,
            1..TRIALS => known.min(seconds),
            // One slow step says little, twenty say something.
            _ if way == faster => 0.95 * *known + 0.05 * seconds,
            _ => seconds,
        };
        self.uses += 1;
    }

    /// The faster way by what is known; `false` while nothing is.
    pub(crate) fn faster(&self) -> bool {
        self.seconds[1] < self.seconds[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(chooser: &mut Chooser, uses: usize, seconds: impl Fn(bool) -> f64) -> Vec<bool> {
        let mut ways = Vec::new();
        for _ in 0..uses {
            let way = chooser.next();
            chooser.took(way, seconds(way));
            ways.push(way);
        }
        ways
    }

    #[test]
    fn both_are_tried_and_the_faster_is_used() {
        for faster in [false, true] {
            let mut chooser = Chooser::default();
            let ways = run(&mut chooser, 100, |way| if way == faster { 1.0 } else { 2.0 });
            assert_eq!(ways[..6], [false, true, false, true, false, true]);
            assert!(ways[6..].iter().all(|&way| way == faster));
            assert_eq!(chooser.faster(), faster);
        }
    }

    #[test]
    fn another_use_begins_the_faster_way() {
        let mut chooser = Chooser::default();
        run(&mut chooser, 3, |way| if way { 1.0 } else { 2.0 });
        assert!(!run(&mut chooser.clone().settled(), 1, |_| 1.0)[0], "three uses say too little");
        run(&mut chooser, 30, |way| if way { 1.0 } else { 2.0 });
        let ways = run(&mut chooser.settled(), 100, |way| if way { 0.1 } else { 0.2 });
        assert!(ways.iter().all(|&way| way));
    }

    #[test]
    fn a_change_is_noticed() {
        let mut chooser = Chooser::default();
        run(&mut chooser, 50, |way| if way { 1.0 } else { 2.0 });
        let ways = run(&mut chooser, 400, |way| if way { 3.0 } else { 2.0 });
        assert!(ways[300..].iter().filter(|&&way| way).count() <= 2, "{ways:?}");
    }

    #[test]
    fn one_slow_use_changes_nothing() {
        let mut chooser = Chooser::default();
        run(&mut chooser, 20, |way| if way { 1.0 } else { 2.0 });
        let way = chooser.next();
        chooser.took(way, 10.0);
        assert!(chooser.faster());
    }
}
