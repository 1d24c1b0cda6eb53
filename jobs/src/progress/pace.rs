//! When to show: at most so often, and always at the end of a phase.

use std::time::{Duration, Instant};

/// What a run is doing for a long time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Train,
    Harvest,
    Convert,
}

/// Remembers what was shown last.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    shown: Option<(Phase, Instant)>,
    ended: Option<Phase>,
}

impl Pace {
    pub(super) fn new(every: Duration) -> Pace {
        Pace { every, shown: None, ended: None }
    }

    /// Whether to show now. Events outside a phase are always shown, the first of a phase too, the
    /// last of a phase once.
    pub(super) fn due(&mut self, phase: Option<Phase>, last: bool, now: Instant) -> bool {
        let Some(phase) = phase else { return true };
        if self.ended == Some(phase) {
            return false;
        }
        let waiting = self.shown.is_some_and(|(p, at)| p == phase && now.duration_since(at) < self.every);
        if waiting && !last {
            return false;
        }
        self.shown = Some((phase, now));
        self.ended = if last { Some(phase) } else { self.ended };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_the_first_then_at_intervals_then_the_last_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut pace = Pace::new(Duration::from_secs(5));
        let mut due = |last, s| pace.due(Some(Phase::Train), last, at(s));
        let shown = [due(false, 0), due(false, 4), due(false, 5), due(true, 6), due(true, 60)];
        assert_eq!(shown, [true, false, true, true, false]);
        assert!(pace.due(Some(Phase::Harvest), false, at(6)));
        assert!(pace.due(None, false, at(6)));
    }
}
