//! Where the best `k` of a row end: exact, by digits, in shared memory.
//!
//! Scores are looked at as integers alone, so no card's opinion on subnormals or NaN matters. A score has a
//! rank below 2³¹, 0 where it can never be kept, and its latent counts downwards, so that pairs of (rank,
//! late) ascend from worse to better and no two are equal. A digit is 11 or 10 bits: 11 bits of an f32 are
//! its exponent and three bits of its fraction, and usually settle everything but a few neighbours.

use cubecl::prelude::*;

/// Threads of a cube here.
pub(super) const UNITS: u32 = 256;
/// Values of the longest digit.
pub(super) const BINS: usize = 2048;
/// Bins that a thread looks after.
const OWN: u32 = 8;

/// The rank of a score: its bits if it is above 0 (`signed`: of its magnitude), 0 for zeros and NaN.
#[cube]
pub(super) fn rank(word: u32, #[comptime] signed: bool) -> u32 {
    let mut size = word;
    if comptime!(signed) {
        size = word & 0x7fff_ffffu32;
    }
    select(size - 1u32 < 0x7f80_0000u32, size, 0u32)
}

/// Latents and rows, counted downwards: the lower wins a tie.
#[cube]
pub(super) fn late(number: u32) -> u32 {
    0x7fff_ffffu32 - number
}

/// What the threads of a cube share while they look for a cut.
#[derive(CubeType)]
pub(super) struct Board {
    /// How often each digit occurs.
    pub tally: SharedMemory<Atomic<u32>>,
    /// A number per thread, for sums over threads.
    pub sums: SharedMemory<u32>,
    /// Digit, how many have a larger one, how many have it.
    pub found: SharedMemory<u32>,
    /// The length of a list that threads append to.
    pub length: SharedMemory<Atomic<u32>>,
}

#[cube]
impl Board {
    /// One per cube.
    pub(super) fn new() -> Self {
        Board {
            tally: SharedMemory::<Atomic<u32>>::new(2048usize),
            sums: SharedMemory::<u32>::new(256usize),
            found: SharedMemory::<u32>::new(3usize),
            length: SharedMemory::<Atomic<u32>>::new(1usize),
        }
    }

    /// Counts from zero.
    pub(super) fn clear(&self) {
        let mut bin = UNIT_POS;
        while bin < 2048u32 {
            self.tally[bin as usize].store(0u32);
            bin += UNITS;
        }
    }

    /// Turns a number per thread into the sum over all threads from this one on.
    pub(super) fn sum_from(&mut self, own: u32) -> u32 {
        let unit = UNIT_POS;
        self.sums[unit as usize] = own;
        sync_cube();
        let mut step = 1u32;
        while step < UNITS {
            let mut other = 0u32;
            if unit + step < UNITS {
                other = self.sums[(unit + step) as usize];
            }
            sync_cube();
            self.sums[unit as usize] += other;
            sync_cube();
            step *= 2u32;
        }
        self.sums[unit as usize]
    }

    /// Finds the largest digit that `need` reach, or 0 if there are fewer in all; see `found`.
    pub(super) fn find(&mut self, need: u32) {
        let lowest = UNIT_POS * OWN;
        let mut own = 0u32;
        #[unroll]
        for j in 0..OWN {
            own += self.tally[(lowest + j) as usize].load();
        }
        let reach = self.sum_from(own);
        let mut beyond = reach - own;
        if beyond < need && (reach >= need || UNIT_POS == 0u32) {
            let mut bin = lowest + (OWN - 1u32);
            let mut inside = self.tally[bin as usize].load();
            while bin > lowest && beyond + inside < need {
                beyond += inside;
                bin -= 1u32;
                inside = self.tally[bin as usize].load();
            }
            self.found[0usize] = bin;
            self.found[1usize] = beyond;
            self.found[2usize] = inside;
        }
        sync_cube();
    }
}

/// How far digit `d` (0, 1, 2 of the rank, then 3, 4, 5 of the latent) lies from the right.
#[cube]
pub(super) fn shift(d: u32) -> u32 {
    20u32 - 10u32 * (d % 3u32)
}

/// The bits of digit `d`, at the right.
#[cube]
pub(super) fn bits(d: u32) -> u32 {
    select(d % 3u32 == 0u32, 2047u32, 1023u32)
}

/// The scores of a row of a chunk: `[rows, width]` and which latents they belong to.
#[derive(CubeType)]
pub(super) struct Chunk {
    /// Where the row starts.
    pub from: u32,
    /// Columns.
    pub width: u32,
    /// The first latent, where latents are not listed.
    pub first: u32,
    /// Only larger ranks count.
    pub floor: u32,
}

/// The latent of a column.
#[cube]
pub(super) fn latent(listed: &Array<u32>, first: u32, column: u32, #[comptime] is_listed: bool) -> u32 {
    let mut latent = first + column;
    if comptime!(is_listed) {
        latent = listed[column as usize];
    }
    latent
}

/// A list of pairs: where it starts and how long it is.
#[derive(CubeType)]
pub(super) struct Span {
    pub start: u32,
    pub count: u32,
}

/// The (rank, late) that at least `k` and at most `enough` reach, of the list and the chunk together; zeros if
/// there are no more than `enough`. `chunked`: whether there is a chunk.
#[cube]
#[allow(clippy::too_many_arguments, reason = "a kernel's buffers do not fit a struct")]
pub(super) fn find(
    board: &mut Board,
    latents: &Array<u32>,
    words: &Array<u32>,
    span: &Span,
    scores: &Array<u32>,
    listed: &Array<u32>,
    chunk: &Chunk,
    k: u32,
    enough: u32,
    #[comptime] signed: bool,
    #[comptime] is_listed: bool,
    #[comptime] chunked: bool,
) -> (u32, u32) {
    let mut cut = 0u32;
    let mut late_cut = 0u32;
    let mut mask = 0u32;
    let mut late_mask = 0u32;
    let mut beyond = 0u32;
    let mut reaching = enough + 1u32;
    let mut d = 0u32;
    while d < 6u32 && reaching > enough {
        board.clear();
        sync_cube();
        let mut i = UNIT_POS;
        while i < span.count {
            let at = (span.start + i) as usize;
            let (r, l) = (rank(words[at], signed), late(latents[at]));
            if (r & mask) == cut && (l & late_mask) == late_cut {
                let digit = (select(d < 3u32, r, l) >> shift(d)) & bits(d);
                board.tally[digit as usize].fetch_add(1u32);
            }
            i += UNITS;
        }
        if comptime!(chunked) {
            let mut c = UNIT_POS;
            while c < chunk.width {
                let r = rank(scores[(chunk.from + c) as usize], signed);
                if r > chunk.floor && (r & mask) == cut {
                    let l = late(latent(listed, chunk.first, c, is_listed));
                    if (l & late_mask) == late_cut {
                        let digit = (select(d < 3u32, r, l) >> shift(d)) & bits(d);
                        board.tally[digit as usize].fetch_add(1u32);
                    }
                }
                c += UNITS;
            }
        }
        sync_cube();
        board.find(k - beyond);
        let place = board.found[0usize] << shift(d);
        let part = bits(d) << shift(d);
        if d < 3u32 {
            cut |= place;
            mask |= part;
        } else {
            late_cut |= place;
            late_mask |= part;
        }
        beyond += board.found[1usize];
        reaching = beyond + board.found[2usize];
        d += 1u32;
        sync_cube();
    }
    (cut, late_cut)
}

/// Keeps of a list what reaches the cut, in any order; returns how many. A tile is read as a whole before
/// its room is written to.
#[cube]
pub(super) fn keep(
    board: &Board,
    latents: &mut Array<u32>,
    words: &mut Array<u32>,
    span: &Span,
    cut: u32,
    late_cut: u32,
    #[comptime] signed: bool,
) -> u32 {
    if UNIT_POS == 0u32 {
        board.length[0usize].store(0u32);
    }
    sync_cube();
    let mut base = 0u32;
    while base < span.count {
        let i = base + UNIT_POS;
        let mut word = 0u32;
        let mut latent = 0u32;
        if i < span.count {
            word = words[(span.start + i) as usize];
            latent = latents[(span.start + i) as usize];
        }
        sync_cube();
        sync_storage();
        let r = rank(word, signed);
        if i < span.count && (r > cut || (r == cut && late(latent) >= late_cut)) {
            let slot = board.length[0usize].fetch_add(1u32);
            words[(span.start + slot) as usize] = word;
            latents[(span.start + slot) as usize] = latent;
        }
        base += UNITS;
    }
    sync_cube();
    sync_storage();
    let count = board.length[0usize].load();
    sync_cube();
    count
}
