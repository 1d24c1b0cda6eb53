//! The best `k` of each row, over chunks of latents that come one after the other: TopK, AbsTopK, AuxK.
//!
//! A row keeps a list that holds its best `k` so far and whatever else has come since. A chunk is read once,
//! and what beats the row's floor is appended; floors rise as lists are cut, so that later chunks append almost
//! nothing. Only where a list would overflow, in the first chunk above all, the chunk is read again to find
//! where the best of it and of the list end.

use cubecl::prelude::*;

use super::{
    cut::{self, Board, Chunk, Span, UNITS, late, latent, rank},
    order,
};
use crate::{
    card::{Card, Floats, Ints, Lost, cubes, units},
    pairs::{Pairs, PairsOnCard},
};

/// Appends what reaches (`least`, `least_late`) and returns how many there are then, of which those beyond `room`
/// are lost. Eight scores are on their way at a time: one would leave most of the bandwidth unused.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's buffers do not fit a struct")]
fn append(
    board: &Board,
    scores: &Array<u32>,
    listed: &Array<u32>,
    chunk: &Chunk,
    latents: &mut Array<u32>,
    words: &mut Array<u32>,
    span: &Span,
    room: u32,
    least: u32,
    least_late: u32,
    #[comptime] signed: bool,
    #[comptime] is_listed: bool,
) -> u32 {
    if UNIT_POS == 0u32 {
        board.length[0usize].store(span.count);
    }
    sync_cube();
    let mut from = UNIT_POS;
    let mut ahead = Array::<u32>::new(8usize);
    while from < chunk.width {
        #[unroll]
        for j in 0..8u32 {
            let column = from + j * UNITS;
            let mut word = 0u32;
            if column < chunk.width {
                word = scores[(chunk.from + column) as usize];
            }
            ahead[j as usize] = word;
        }
        #[unroll]
        for j in 0..8u32 {
            let word = ahead[j as usize];
            let r = rank(word, signed);
            if r >= least {
                let column = from + j * UNITS;
                let number = latent(listed, chunk.first, column, is_listed);
                if r > least || late(number) >= least_late {
                    let slot = board.length[0usize].fetch_add(1u32);
                    if slot < room {
                        latents[(span.start + slot) as usize] = number;
                        words[(span.start + slot) as usize] = word;
                    }
                }
            }
        }
        from += 8u32 * UNITS;
    }
    sync_cube();
    let total = board.length[0usize].load();
    sync_cube();
    total
}

/// One cube per row. `floors`: ranks that `k` pairs of the list reach, so that what comes later must exceed them.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's arguments")]
fn meet_rows(
    scores: &Array<u32>,
    listed: &Array<u32>,
    latents: &mut Array<u32>,
    words: &mut Array<u32>,
    counts: &mut Array<u32>,
    floors: &mut Array<u32>,
    rows: u32,
    width: u32,
    first: u32,
    k: u32,
    enough: u32,
    room: u32,
    #[comptime] signed: bool,
    #[comptime] is_listed: bool,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let mut board = Board::new();
    let start = row * room;
    let mut count = counts[row as usize];
    let mut floor = floors[row as usize];
    if count > enough {
        let span = Span { start, count };
        let none = Chunk { from: 0u32, width: 0u32, first: 0u32, floor: 0u32 };
        let (cut, late_cut) = cut::find(
            &mut board, latents, words, &span, scores, listed, &none, k, k, signed, is_listed, false,
        );
        count = cut::keep(&board, latents, words, &span, cut, late_cut, signed);
        floor = max(floor, cut);
    }
    let chunk = Chunk { from: row * width, width, first, floor };
    let mut total = room + 1u32;
    if floor > 0u32 || count + width <= room {
        let span = Span { start, count };
        total = append(
            &board,
            scores,
            listed,
            &chunk,
            latents,
            words,
            &span,
            room,
            floor + 1u32,
            0u32,
            signed,
            is_listed,
        );
    }
    if total > room {
        let span = Span { start, count };
        let (cut, late_cut) = cut::find(
            &mut board, latents, words, &span, scores, listed, &chunk, k, enough, signed, is_listed, true,
        );
        let kept = cut::keep(&board, latents, words, &span, cut, late_cut, signed);
        let span = Span { start, count: kept };
        let least = max(cut, floor + 1u32);
        let least_late = select(cut > floor, late_cut, 0u32);
        total = append(
            &board, scores, listed, &chunk, latents, words, &span, room, least, least_late, signed, is_listed,
        );
        floor = max(floor, cut);
    }
    if UNIT_POS == 0u32 {
        counts[row as usize] = total;
        floors[row as usize] = floor;
    }
}

/// Cuts each row's list to its best `k`. One cube per row.
#[cube(launch)]
fn close_rows(
    latents: &mut Array<u32>,
    words: &mut Array<u32>,
    counts: &mut Array<u32>,
    rows: u32,
    k: u32,
    room: u32,
    #[comptime] signed: bool,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let mut board = Board::new();
    let count = counts[row as usize];
    if count > k {
        let span = Span { start: row * room, count };
        let none = Chunk { from: 0u32, width: 0u32, first: 0u32, floor: 0u32 };
        let (cut, late_cut) =
            cut::find(&mut board, latents, words, &span, words, latents, &none, k, k, signed, false, false);
        let kept = cut::keep(&board, latents, words, &span, cut, late_cut, signed);
        if UNIT_POS == 0u32 {
            counts[row as usize] = kept;
        }
    }
}

/// Which latents the columns of a chunk are. They are higher than those of all chunks before.
#[derive(Debug, Clone, Copy)]
pub enum Columns<'a> {
    /// One after the other from this one on.
    From(u32),
    /// These, ascending, one per column.
    Listed(&'a Ints),
}

/// The best `k` of each row of what it has met. Latents and rows are below 2³¹.
#[derive(Debug)]
pub struct Best {
    rows: usize,
    k: usize,
    signed: bool,
    /// Pairs that a row's list has room for.
    room: usize,
    /// Lists of more pairs than that are cut.
    enough: usize,
    latents: Ints,
    words: Ints,
    counts: Ints,
    floors: Ints,
}

impl Best {
    /// Nothing yet. The `k` largest above 0 of each row, or those of largest magnitude if `signed`; ties go to
    /// the lower latent; NaN is never kept. Holds `rows · (2k + 256)` pairs.
    pub fn new<R: Runtime>(card: &Card<R>, rows: usize, k: usize, signed: bool) -> Self {
        let (room, enough) = (2 * k + 256, k + k / 2 + 64);
        let list = if k == 0 { 0 } else { rows * room };
        Best {
            rows,
            k,
            signed,
            room,
            enough,
            latents: card.room(list),
            words: card.room(list),
            counts: card.upload(&vec![0; rows]),
            floors: card.upload(&vec![0; rows]),
        }
    }

    /// Pairs that a row has room for.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Takes the scores of a chunk, `[rows, width]`.
    pub fn meet<R: Runtime>(&mut self, card: &Card<R>, scores: &Floats, width: usize, latents: Columns) {
        if self.rows * self.k * width == 0 {
            return;
        }
        // Without a list, any buffer that is only read stands in its place.
        let (listed, first) = match latents {
            Columns::From(first) => (scores.arg(), first),
            Columns::Listed(listed) => (listed.arg(), 0),
        };
        meet_rows::launch::<R>(
            card.client(),
            cubes(self.rows),
            units(UNITS),
            scores.arg(),
            listed,
            self.latents.arg(),
            self.words.arg(),
            self.counts.arg(),
            self.floors.arg(),
            self.rows as u32,
            width as u32,
            first,
            self.k as u32,
            self.enough as u32,
            self.room as u32,
            self.signed,
            matches!(latents, Columns::Listed(_)),
        );
    }

    /// What is left, on this side.
    ///
    /// # Errors
    /// The card is lost.
    pub fn finish<R: Runtime>(self, card: &Card<R>) -> Result<Pairs, Lost> {
        self.close(card)?.download(card)
    }

    /// What is left.
    ///
    /// # Errors
    /// The card is lost.
    pub fn close<R: Runtime>(self, card: &Card<R>) -> Result<PairsOnCard, Lost> {
        if self.rows * self.k == 0 {
            return Ok(PairsOnCard::none(card, self.rows));
        }
        close_rows::launch::<R>(
            card.client(),
            cubes(self.rows),
            units(UNITS),
            self.latents.arg(),
            self.words.arg(),
            self.counts.arg(),
            self.rows as u32,
            self.k as u32,
            self.room as u32,
            self.signed,
        );
        let offsets = order::offsets(card, &self.counts);
        order::pairs(card, &self.latents, &self.words, &offsets, self.room, self.rows * self.k)
    }
}
