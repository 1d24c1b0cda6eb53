//! How often each digit occurs among what may still be selected from a whole batch.
//!
//! Whoever looks for the cut of a batch takes digit after digit from the left, of the rank, of the row, and of
//! the latent, and reads 2,048 counts each time.

use cubecl::prelude::*;

use super::{
    cut::{UNITS, late, rank},
    passing::Place,
};

/// Pairs of a list that a cube counts.
pub(super) const STRETCH: usize = 8192;

/// A digit: so many bits (as a mask at the right) of a part of the place, so far from the right; and the bits
/// left of it that are settled, with what they have to be.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Digit {
    pub part: u32,
    pub shift: u32,
    pub bits: u32,
    pub mask: Place,
    pub settled: Place,
}

#[cube]
fn add(tally: &SharedMemory<Atomic<u32>>, digit: &Digit, rank: u32, row: u32, latent: u32) {
    let mask = &digit.mask;
    let settled = &digit.settled;
    let same_rank = rank & mask.rank == settled.rank;
    if same_rank && row & mask.row == settled.row && latent & mask.latent == settled.latent {
        let part = select(digit.part == 0u32, rank, select(digit.part == 1u32, row, latent));
        tally[((part >> digit.shift) & digit.bits) as usize].fetch_add(1u32);
    }
}

#[cube]
fn clear(tally: &SharedMemory<Atomic<u32>>) {
    let mut bin = UNIT_POS;
    while bin < 2048u32 {
        tally[bin as usize].store(0u32);
        bin += UNITS;
    }
    sync_cube();
}

#[cube]
fn pour(tally: &SharedMemory<Atomic<u32>>, counts: &mut Array<Atomic<u32>>) {
    sync_cube();
    let mut bin = UNIT_POS;
    while bin < 2048u32 {
        let own = tally[bin as usize].load();
        if own > 0u32 {
            counts[bin as usize].fetch_add(own);
        }
        bin += UNITS;
    }
}

/// Counts the positive scores of a chunk, `[rows, width]`, that are not below `floor`. One cube per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's arguments")]
pub(super) fn tally_scores(
    scores: &Array<u32>,
    counts: &mut Array<Atomic<u32>>,
    digit: Digit,
    floor: Place,
    rows: u32,
    width: u32,
    first: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let tally = SharedMemory::<Atomic<u32>>::new(2048usize);
    clear(&tally);
    let mut column = UNIT_POS;
    while column < width {
        let r = rank(scores[(row * width + column) as usize], false);
        let number = late(first + column);
        let (above, same) = (r > floor.rank, r == floor.rank);
        let tie = late(row) > floor.row || (late(row) == floor.row && number >= floor.latent);
        if r > 0u32 && (above || (same && tie)) {
            add(&tally, &digit, r, late(row), number);
        }
        column += UNITS;
    }
    pour(&tally, counts);
}

/// Counts the pairs of a list of `count`.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's arguments")]
pub(super) fn tally_list(
    rows: &Array<u32>,
    latents: &Array<u32>,
    words: &Array<u32>,
    counts: &mut Array<Atomic<u32>>,
    digit: Digit,
    count: u32,
) {
    let begin = CUBE_POS as u32 * 8192u32;
    if begin >= count {
        terminate!();
    }
    let end = min(begin + 8192u32, count);
    let tally = SharedMemory::<Atomic<u32>>::new(2048usize);
    clear(&tally);
    let mut i = begin + UNIT_POS;
    while i < end {
        let at = i as usize;
        add(&tally, &digit, rank(words[at], false), late(rows[at]), late(latents[at]));
        i += UNITS;
    }
    pour(&tally, counts);
}
