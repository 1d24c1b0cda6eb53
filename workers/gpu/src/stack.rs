//! Residuals of a batch, one part behind the other in one buffer: a kernel that sums over the terms of a loss
//! reads those of all, however many there are, and none is copied to it.

use std::sync::Arc;

use atomflow_workers::card::CardRows;

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    kernels::rows,
};

/// Parts begin at addresses that can be given to a kernel: at multiples of so many rows.
const ALIGNED: usize = 8;

/// The parts of a batch.
#[derive(Debug)]
pub(crate) struct Stack {
    room: Floats,
    d: usize,
    /// Rows of the batch.
    rows: usize,
    /// Parts of the batch so far.
    parts: usize,
    /// Number of the batch.
    batch: u64,
}

/// One part, as whoever asks for it knows it.
#[derive(Debug)]
struct Part {
    batch: u64,
    number: usize,
}

impl Stack {
    /// No part yet, of rows of `d`.
    pub(crate) fn new<R: Runtime>(card: &Card<R>, d: usize) -> Self {
        Stack { room: card.room(0), d, rows: 0, parts: 0, batch: 0 }
    }

    /// Begins a batch; parts of earlier ones are gone, their memory is kept.
    pub(crate) fn begin(&mut self, rows: usize) {
        (self.rows, self.parts, self.batch) = (rows, 0, self.batch + 1);
    }

    /// Rows of the batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Rows of a part, some behind those of the batch with anything in them.
    pub(crate) fn part(&self) -> usize {
        self.rows.next_multiple_of(ALIGNED)
    }

    /// All parts, `[parts · part, d]`.
    pub(crate) fn all(&self) -> Floats {
        self.room.part(0, self.parts * self.part() * self.d)
    }

    /// One more part with anything in it, and where it lies.
    pub(crate) fn push<R: Runtime>(&mut self, card: &Card<R>) -> (CardRows, Floats) {
        let number = self.parts;
        self.reserve(card, number + 1);
        self.parts += 1;
        (CardRows(Arc::new(Part { batch: self.batch, number })), self.lines(number))
    }

    /// Room for so many parts. What is there already moves if it has to: a learner's first steps find out how
    /// many parts its loss has.
    fn reserve<R: Runtime>(&mut self, card: &Card<R>, parts: usize) {
        let len = parts * self.part() * self.d;
        if len > self.room.len() {
            let (old, new) = (self.all(), card.room(len));
            rows::copy(card, &old, &new);
            self.room = new;
        }
    }

    /// Which part these rows are.
    ///
    /// # Errors
    /// They are not of this batch.
    pub(crate) fn number(&self, rows: &CardRows) -> Result<usize, Lost> {
        match rows.0.downcast_ref::<Part>() {
            Some(part) if part.batch == self.batch => Ok(part.number),
            Some(_) => Err(Lost("rows of an earlier batch".to_owned())),
            None => Err(Lost("rows of another card".to_owned())),
        }
    }

    /// Where these rows lie, `[rows, d]`.
    ///
    /// # Errors
    /// They are not of this batch.
    pub(crate) fn find(&self, rows: &CardRows) -> Result<Floats, Lost> {
        self.number(rows).map(|number| self.lines(number))
    }

    fn lines(&self, number: usize) -> Floats {
        self.room.part(number * self.part() * self.d, self.rows * self.d)
    }
}
