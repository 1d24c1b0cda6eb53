//! Seconds: the best of several rounds, contenders in turns.

use std::time::Instant;

/// Seconds of one call.
pub(super) fn seconds<T>(work: impl FnOnce() -> T) -> f64 {
    let began = Instant::now();
    std::hint::black_box(work());
    began.elapsed().as_secs_f64()
}

/// The best of `rounds` calls of each contender. They take turns, so that a disturbance of the
/// machine meets all of them.
pub(super) fn in_turns<const N: usize>(rounds: usize, contenders: [&mut dyn FnMut(); N]) -> [f64; N] {
    let mut best = [f64::INFINITY; N];
    let mut contenders = contenders;
    for _ in 0..rounds.max(1) {
        for (best, contender) in best.iter_mut().zip(&mut contenders) {
            *best = best.min(seconds(&mut **contender));
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contenders_take_turns_and_the_best_counts() {
        let calls = std::cell::RefCell::new(String::new());
        let [a, b] =
            in_turns(3, [&mut || calls.borrow_mut().push('a'), &mut || calls.borrow_mut().push('b')]);
        assert_eq!(calls.into_inner(), "ababab");
        assert!(a >= 0.0 && b.is_finite());
    }
}
