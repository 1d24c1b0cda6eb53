//! How rows get to a card: piece by piece from page-locked memory while it computes, or as everything else does.

use std::{
    fmt::{self, Debug},
    sync::{Mutex, MutexGuard, PoisonError},
};

use atomflow_workers::{
    card::wire::{Format, Outgoing},
    threads::Threads,
};

use crate::{
    Runtime,
    card::{Card, Floats, Ints, Lost},
    kernels::widen::{Half, widen},
};

/// Words of a piece: large against what a copy costs to begin, small enough to stay in the caches of the processor
/// until the card has fetched them.
pub const PIECE_WORDS: usize = 2 << 20;

/// Memory of this machine that a card copies from by itself.
pub trait Staging<R: Runtime>: Debug + Send {
    /// What is copied from here on goes to `there`, which is `card`'s.
    ///
    /// # Errors
    /// The card is lost.
    fn towards(&mut self, card: &Card<R>, there: &Ints) -> Result<(), Lost>;

    /// Has `fill` write so many words, at most [`PIECE_WORDS`], and begins to copy them to the word `at`; unless
    /// `fill` says `false`, which is returned.
    ///
    /// # Errors
    /// The card is lost.
    fn copy(
        &mut self,
        at: usize,
        words: usize,
        fill: &mut dyn FnMut(&mut [u32]) -> bool,
    ) -> Result<bool, Lost>;

    /// Waits until all that was begun is there.
    ///
    /// # Errors
    /// The card is lost.
    fn arrive(&mut self) -> Result<(), Lost>;
}

/// Takes page-locked memory, or says why there is none.
pub type Take<R> = Box<dyn FnOnce() -> Result<Box<dyn Staging<R>>, String> + Send>;

/// Brings rows to one card. One caller at a time, on a thread that is none of those that convert: they would wait for
/// one another.
pub struct Sender<R: Runtime> {
    card: Card<R>,
    state: Mutex<State<R>>,
    remark: Mutex<Option<String>>,
}

struct State<R: Runtime> {
    way: Way<R>,
    /// How the rows before travelled.
    last: Format,
}

enum Way<R: Runtime> {
    /// Page-locked memory that is taken when it is needed.
    NotYet(Take<R>),
    Staged(Box<dyn Staging<R>>),
    /// As everything else goes up.
    Ordinary,
}

impl<R: Runtime> Debug for Sender<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("card", &self.card).finish_non_exhaustive()
    }
}

/// Rows that have arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// How they travelled.
    pub format: Format,
    /// As they travelled, without gaps.
    pub there: Ints,
    /// How many numbers.
    pub len: usize,
    /// What each value of a row is multiplied by, `[d]`.
    pub scales: Vec<f32>,
}

impl<R: Runtime> Sender<R> {
    /// To `card`, by page-locked memory if `take` is given and gets any.
    pub fn new(card: &Card<R>, take: Option<Take<R>>) -> Self {
        let state = State { way: take.map_or(Way::Ordinary, Way::NotYet), last: Format::default() };
        // Rows arrive while learners give orders.
        Sender { card: card.with_own_stream(), state: Mutex::new(state), remark: Mutex::default() }
    }

    /// Brings `rows` to the card, converted by `threads`, and waits until they are there.
    ///
    /// # Errors
    /// The card is lost.
    pub fn send(&self, rows: &Outgoing, threads: &Threads) -> Result<Arrived, Lost> {
        let State { way, last } = &mut *lock(&self.state);
        self.taken(way);
        let len = rows.rows.len() * rows.width();
        for format in last.first() {
            if let Some(there) = self.sent(way, rows, threads, format)? {
                *last = format;
                return Ok(Arrived { format, there, len, scales: rows.scale_of_values() });
            }
        }
        Err(Lost("rows that no format holds".to_owned()))
    }

    /// Why rows go up as everything else does, once.
    pub fn remark(&self) -> Option<String> {
        lock(&self.remark).take()
    }

    /// Takes page-locked memory, if that is still to be done.
    fn taken(&self, way: &mut Way<R>) {
        let without = |reason: String| {
            *lock(&self.remark) = Some(format!(
                "rows go up to the card from ordinary memory, at about half the speed: there is no page-locked \
                 memory ({reason})"
            ));
            Way::Ordinary
        };
        *way = match std::mem::replace(way, Way::Ordinary) {
            Way::NotYet(take) => take().map_or_else(without, Way::Staged),
            taken => taken,
        };
    }

    /// The rows on the card; `None` where `format` does not hold them.
    fn sent(
        &self,
        way: &mut Way<R>,
        rows: &Outgoing,
        threads: &Threads,
        format: Format,
    ) -> Result<Option<Ints>, Lost> {
        let write = |rows: &Outgoing, into: &mut [u32]| threads.install(|| rows.write(format, into));
        let (count, width) = (rows.rows.len(), rows.width());
        let words = format.words(count * width);
        // An even number of rows, so that each piece begins with a word.
        let piece = PIECE_WORDS / width.max(1) / 2 * 2;
        let staging = match way {
            Way::Staged(staging) if piece > 0 && words > 0 => staging,
            _ => return self.uploaded(words, |into| write(rows, into)),
        };
        let there = self.card.room(words);
        staging.towards(&self.card, &there)?;
        for first in (0..count).step_by(piece) {
            let part = rows.part(first..count.min(first + piece));
            let words = format.words(part.rows.len() * width);
            if !staging.copy(format.words(first * width), words, &mut |into| write(&part, into))? {
                staging.arrive()?;
                return Ok(None);
            }
        }
        staging.arrive()?;
        Ok(Some(there))
    }

    fn uploaded(&self, words: usize, write: impl Fn(&mut [u32]) -> bool) -> Result<Option<Ints>, Lost> {
        let mut here = vec![0; words];
        if !write(&mut here) {
            return Ok(None);
        }
        let there = self.card.upload(&here);
        self.card.sync()?;
        Ok(Some(there))
    }
}

impl Arrived {
    /// How many rows.
    pub fn rows(&self) -> usize {
        self.len / self.scales.len().max(1)
    }

    /// The rows in f32 and multiplied by their scales, `[rows, d]`.
    pub fn rows_f32<R: Runtime>(&self, card: &Card<R>) -> Floats {
        let half = match self.format {
            Format::F16 => Half::F16,
            Format::Bf16 => Half::Bf16,
            Format::F32 => return self.there.as_floats(),
        };
        widen(card, &self.there, self.len, &card.upload(&self.scales), half)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
