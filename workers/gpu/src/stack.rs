//! Residuals of a batch, one part behind the other in one buffer: a kernel that sums over the terms of a loss
//! reads those of all, however many there are, and none is copied to it. A part that nobody holds any more is given
//! out again.

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
    /// Parts of the batch so far, as they were given out.
    parts: Vec<CardRows>,
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
        Stack { room: card.room(0), d, rows: 0, parts: Vec::new(), batch: 0 }
    }

    /// Begins a batch; parts of earlier ones are gone, their memory is kept.
    pub(crate) fn begin(&mut self, rows: usize) {
        (self.rows, self.batch) = (rows, self.batch + 1);
        self.parts.clear();
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
        self.room.part(0, self.parts.len() * self.part() * self.d)
    }

    /// One more part with anything in it, and where it lies.
    pub(crate) fn push<R: Runtime>(&mut self, card: &Card<R>) -> (CardRows, Floats) {
        let free = self.parts.iter().position(|part| Arc::strong_count(&part.0) == 1);
        let number = free.unwrap_or(self.parts.len());
        if free.is_none() {
            self.append(card, 1);
        }
        (self.parts[number].clone(), self.lines(number))
    }

    /// So many more parts one behind the other with anything in them, and where they lie.
    pub(crate) fn extend<R: Runtime>(&mut self, card: &Card<R>, count: usize) -> (Vec<CardRows>, Floats) {
        let (first, size) = (self.parts.len(), self.part() * self.d);
        self.append(card, count);
        (self.parts[first..].to_vec(), self.room.part(first * size, count * size))
    }

    fn append<R: Runtime>(&mut self, card: &Card<R>, count: usize) {
        let (first, batch) = (self.parts.len(), self.batch);
        self.reserve(card, first + count);
        let parts = (first..first + count).map(|number| CardRows(Arc::new(Part { batch, number })));
        self.parts.extend(parts);
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
