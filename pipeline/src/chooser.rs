//! Which of two ways of doing the same thing is faster, found out while doing it.
//!
//! Both ways give the same bytes, so trying costs nothing but time: each is timed in turns at first,
//! then the faster one is used and the other looked at again now and then, because what is faster
//! may change while a dictionary is learned.

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
        self.faster() != (self.uses % LOOK_AGAIN == 0)
    }

    /// It took so long.
    pub(crate) fn took(&mut self, way: bool, seconds: f64) {
        let known = &mut self.seconds[usize::from(way)];
        let trial = self.uses / 2;
        *known = match self.uses {
            _ if trial == 0 => seconds,
            _ if trial < TRIALS => known.min(seconds),
            // One slow step says little, twenty say something.
            _ if way == self.faster() => 0.95 * *known + 0.05 * seconds,
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
