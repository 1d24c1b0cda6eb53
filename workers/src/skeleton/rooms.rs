//! Memory that steps reuse: a residual is `[rows, d_in]`, and fresh memory costs a page fault every
//! 4 KiB, 3 ms of a 60 ms step at `d_in` 384.

use std::cell::Cell;

/// Buffers nobody uses at the moment.
#[derive(Debug)]
pub struct Rooms<R>(Vec<Vec<R>>);

/// How many buffers a thread keeps between steps: the main residual and the auxiliary one.
const KEPT: usize = 2;

thread_local! {
    // Per thread and not per learner: many learners on a few threads then hold a few sets, not many.
    static ROOMS: Cell<Vec<Vec<f32>>> = const { Cell::new(Vec::new()) };
}

impl<R> Default for Rooms<R> {
    fn default() -> Self {
        Rooms(Vec::new())
    }
}

impl<R> Rooms<R> {
    /// A buffer of any length, with anything in it.
    pub fn take(&mut self) -> Vec<R> {
        self.0.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&mut self, room: Vec<R>) {
        self.0.push(room);
    }
}

impl Rooms<f32> {
    /// Runs `work` with what this thread kept. A step that starts while another one waits on the same
    /// thread finds nothing and makes its own.
    pub fn reuse<T>(work: impl FnOnce(&mut Rooms<f32>) -> T) -> T {
        let mut rooms = Rooms(ROOMS.take());
        let out = work(&mut rooms);
        rooms.0.truncate(KEPT);
        ROOMS.set(rooms.0);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_taken_again() {
        let make = |rooms: &mut Rooms<f32>| {
            let mut room = rooms.take();
            room.resize(100, 0.0);
            let at = room.as_ptr();
            rooms.give(room);
            at
        };
        let first = Rooms::reuse(make);
        assert_eq!(Rooms::reuse(make), first);
        let nested = Rooms::reuse(|_| Rooms::reuse(|rooms| rooms.take().capacity()));
        assert_eq!(nested, 0, "a nested step shares nothing");
    }
}
