//! One list for a whole batch: (row, latent, score) of whatever passes, in any order.
//!
//! A cube asks for room for all it found at once, with one addition to the list's length. That goes on counting
//! where the list is full, so that whoever reads it knows how much room would have been enough.

use cubecl::prelude::*;

use super::cut::{UNITS, late, rank};

/// Columns, or pairs, that a cube looks at.
pub(super) const PIECE: usize = 1024;
/// Those that a thread looks at.
const OWN: u32 = 4;

/// Scores as integers in the order of the numbers; both zeros are one.
#[cube]
fn in_order(word: u32) -> u32 {
    let word = select(word == 0x8000_0000u32, 0u32, word);
    select(word >> 31u32 == 1u32, !word, word | 0x8000_0000u32)
}

#[cube]
fn is_number(word: u32) -> bool {
    word & 0x7fff_ffffu32 <= 0x7f80_0000u32
}

/// (rank, row counted downwards, latent counted downwards): pairs ascend from worse to better.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Place {
    pub rank: u32,
    pub row: u32,
    pub latent: u32,
}

#[cube]
fn reaches(cut: &Place, rank: u32, row: u32, latent: u32) -> bool {
    let tie = row > cut.row || (row == cut.row && latent >= cut.latent);
    rank > cut.rank || (rank == cut.rank && tie)
}

/// Room in a list for what the threads of a cube found: where this thread's starts.
#[cube]
fn reserve(length: &mut Array<Atomic<u32>>, own: u32) -> u32 {
    let inside = SharedMemory::<Atomic<u32>>::new(1usize);
    let mut base = SharedMemory::<u32>::new(1usize);
    if UNIT_POS == 0u32 {
        inside[0usize].store(0u32);
    }
    sync_cube();
    let mut slot = 0u32;
    if own > 0u32 {
        slot = inside[0usize].fetch_add(own);
    }
    sync_cube();
    if UNIT_POS == 0u32 {
        let all = inside[0usize].load();
        let mut begin = 0u32;
        if all > 0u32 {
            begin = length[0usize].fetch_add(all);
        }
        base[0usize] = begin;
    }
    sync_cube();
    base[0usize] + slot
}

/// Appends the scores of a chunk, `[rows, width]`, that are above their latent's threshold (`above`), or
/// positive and not below `cut`. `pieces` cubes per row.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's arguments")]
pub(super) fn gather(
    scores: &Array<u32>,
    thresholds: &Array<u32>,
    list_rows: &mut Array<u32>,
    list_latents: &mut Array<u32>,
    list_words: &mut Array<u32>,
    length: &mut Array<Atomic<u32>>,
    cut: Place,
    rows: u32,
    width: u32,
    pieces: u32,
    first: u32,
    #[comptime] above: bool,
) {
    let row = CUBE_POS as u32 / pieces;
    if row >= rows {
        terminate!();
    }
    let from = (CUBE_POS as u32 % pieces) * (OWN * UNITS) + UNIT_POS;
    let mut found = Array::<u32>::new(4usize);
    let mut mask = 0u32;
    #[unroll]
    for j in 0..OWN {
        let column = from + j * UNITS;
        let mut word = 0x7fff_ffffu32;
        if column < width {
            word = scores[(row * width + column) as usize];
        }
        found[j as usize] = word;
    }
    #[unroll]
    for j in 0..OWN {
        let column = from + j * UNITS;
        let word = found[j as usize];
        if comptime!(above) {
            if column < width {
                let which = select(thresholds.len() == 1usize, 0u32, first + column);
                let threshold = thresholds[which as usize];
                let higher = in_order(word) > in_order(threshold);
                if higher && is_number(word) && is_number(threshold) {
                    mask |= 1u32 << j;
                }
            }
        } else {
            let r = rank(word, false);
            if r > 0u32 && reaches(&cut, r, late(row), late(first + column)) {
                mask |= 1u32 << j;
            }
        }
    }
    let mut slot = reserve(length, mask.count_ones());
    let room = list_words.len() as u32;
    #[unroll]
    for j in 0..OWN {
        if (mask >> j) & 1u32 == 1u32 {
            if slot < room {
                list_rows[slot as usize] = row;
                list_latents[slot as usize] = first + from + j * UNITS;
                list_words[slot as usize] = found[j as usize];
            }
            slot += 1u32;
        }
    }
}

/// Appends the pairs of a list of `count` that are not below `cut` to another list.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's arguments")]
pub(super) fn sieve(
    rows: &Array<u32>,
    latents: &Array<u32>,
    words: &Array<u32>,
    kept_rows: &mut Array<u32>,
    kept_latents: &mut Array<u32>,
    kept_words: &mut Array<u32>,
    length: &mut Array<Atomic<u32>>,
    cut: Place,
    count: u32,
) {
    let from = CUBE_POS as u32 * (OWN * UNITS) + UNIT_POS;
    let mut mask = 0u32;
    #[unroll]
    for j in 0..OWN {
        let i = from + j * UNITS;
        if i < count {
            let r = rank(words[i as usize], false);
            if reaches(&cut, r, late(rows[i as usize]), late(latents[i as usize])) {
                mask |= 1u32 << j;
            }
        }
    }
    let mut slot = reserve(length, mask.count_ones());
    let room = kept_words.len() as u32;
    #[unroll]
    for j in 0..OWN {
        if (mask >> j) & 1u32 == 1u32 {
            let i = (from + j * UNITS) as usize;
            if slot < room {
                kept_rows[slot as usize] = rows[i];
                kept_latents[slot as usize] = latents[i];
                kept_words[slot as usize] = words[i];
            }
            slot += 1u32;
        }
    }
}

/// Adds up how many pairs of a list of `count` each row has.
#[cube(launch)]
pub(super) fn count_rows(rows: &Array<u32>, counts: &mut Array<Atomic<u32>>, count: u32) {
    let i = ABSOLUTE_POS as u32;
    if i < count {
        counts[rows[i as usize] as usize].fetch_add(1u32);
    }
}

/// Moves the pairs of a list of `count` to their rows, in any order inside of one. `next`: zeros, `[rows]`.
#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "a kernel's arguments")]
pub(super) fn to_rows(
    rows: &Array<u32>,
    latents: &Array<u32>,
    words: &Array<u32>,
    offsets: &Array<u32>,
    next: &mut Array<Atomic<u32>>,
    row_latents: &mut Array<u32>,
    row_words: &mut Array<u32>,
    count: u32,
) {
    let i = ABSOLUTE_POS;
    if i < count as usize {
        let row = rows[i] as usize;
        let at = (offsets[row] + next[row].fetch_add(1u32)) as usize;
        row_latents[at] = latents[i];
        row_words[at] = words[i];
    }
}
