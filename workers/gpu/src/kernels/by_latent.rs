//! A code by latent instead of by row: every latent's pairs in ascending order of rows, whatever the timing.
//!
//! Pairs are counted and put into the lists by integer atomics, in any order inside a list. Rows inside a
//! list are distinct, so a pair's place is the number of smaller ones: counted pair by pair in short lists,
//! and from a bitmap of rows in long ones.

use cubecl::prelude::*;

use super::{
    codes::CodesOnCard,
    scan::{self, THREADS, inclusive},
};
use crate::{
    Runtime,
    card::{Card, Ints, cubes, units},
};

/// The longest list in which a pair is compared with every other.
const SHORT: usize = 256;
/// Rows of a bitmap; more rows are taken bitmap by bitmap.
const WINDOW: usize = 32_768;
const WORDS: usize = WINDOW / 32;
/// Words of a bitmap per thread.
const EACH: usize = WORDS / THREADS;

/// Threads that share the pairs of a row.
const SHARE: usize = 64;

/// Lists by latent.
#[derive(Debug, Clone)]
pub struct ByLatent {
    /// Where each latent's list begins, and how many pairs there are, `[n + 1]`.
    pub starts: Ints,
    /// Positions of the pairs in the code, `[nnz]`.
    pub pairs: Ints,
    /// Rows of the pairs, ascending inside a list, `[nnz]`.
    pub rows: Ints,
    /// Latent of every pair, by position in the code, `[nnz]`.
    pub latents: Ints,
}

/// The lists of `codes` for `n` latents.
pub fn by_latent<R: Runtime>(card: &Card<R>, codes: &CodesOnCard, n: usize) -> ByLatent {
    let (rows, nnz) = (codes.rows(), codes.nnz());
    let counts: Ints = card.room(n);
    clear::launch::<R>(card.client(), cubes(n.div_ceil(THREADS)), threads(), counts.arg(), n);
    let at_pairs = || (card.client(), cubes(nnz.div_ceil(THREADS)), threads());
    if nnz > 0 {
        let (client, count, dim) = at_pairs();
        count_pairs::launch::<R>(client, count, dim, codes.latents.arg(), counts.arg(), nnz);
    }
    let starts = scan::starts(card, &counts);
    let lists =
        ByLatent { starts, pairs: card.room(nnz), rows: card.room(nnz), latents: codes.latents.clone() };
    if nnz == 0 {
        return lists;
    }
    let (loose_pairs, loose_rows): (Ints, Ints) = (card.room(nnz), card.room(nnz));
    place::launch::<R>(
        card.client(),
        cubes(rows),
        units(SHARE as u32),
        codes.offsets.arg(),
        codes.latents.arg(),
        lists.starts.arg(),
        counts.arg(),
        loose_pairs.arg(),
        loose_rows.arg(),
        rows,
    );
    let (client, count, dim) = at_pairs();
    order_short::launch::<R>(
        client,
        count,
        dim,
        codes.latents.arg(),
        lists.starts.arg(),
        loose_pairs.arg(),
        loose_rows.arg(),
        lists.pairs.arg(),
        lists.rows.arg(),
        nnz,
    );
    let most = nnz / (SHORT + 1);
    if most > 0 {
        let long = long_lists(card, &lists.starts, n, most);
        order_long::launch::<R>(
            card.client(),
            cubes(most),
            threads(),
            long.arg(),
            lists.starts.arg(),
            loose_pairs.arg(),
            loose_rows.arg(),
            lists.pairs.arg(),
            lists.rows.arg(),
            rows.div_ceil(WINDOW),
        );
    }
    lists
}

/// How many lists are long, and which, in any order, `[1 + most]`.
fn long_lists<R: Runtime>(card: &Card<R>, starts: &Ints, n: usize, most: usize) -> Ints {
    let long: Ints = card.room(1 + most);
    clear::launch::<R>(card.client(), cubes(1), threads(), long.arg(), 1);
    find_long::launch::<R>(card.client(), cubes(n.div_ceil(THREADS)), threads(), starts.arg(), long.arg(), n);
    long
}

fn threads() -> CubeDim {
    units(THREADS as u32)
}

#[cube(launch)]
fn clear(counts: &mut Array<u32>, n: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < n {
        counts[i] = 0u32;
    }
}

#[cube(launch)]
fn count_pairs(latents: &Array<u32>, counts: &mut Array<Atomic<u32>>, nnz: usize) {
    let p = CUBE_POS * THREADS + UNIT_POS as usize;
    if p < nnz {
        counts[latents[p] as usize].fetch_add(1u32);
    }
}

/// Every pair into a free place of its list.
#[cube(launch)]
fn place(
    offsets: &Array<u32>,
    latents: &Array<u32>,
    starts: &Array<u32>,
    counts: &mut Array<Atomic<u32>>,
    loose_pairs: &mut Array<u32>,
    loose_rows: &mut Array<u32>,
    rows: usize,
) {
    let row = CUBE_POS;
    if row >= rows {
        terminate!();
    }
    let end = offsets[row + 1] as usize;
    let mut p = offsets[row] as usize + UNIT_POS as usize;
    while p < end {
        let latent = latents[p] as usize;
        let free = counts[latent].fetch_sub(1u32) - 1u32;
        let at = (starts[latent] + free) as usize;
        loose_pairs[at] = p as u32;
        loose_rows[at] = row as u32;
        p += SHARE;
    }
}

/// One thread per pair.
#[cube(launch)]
fn order_short(
    latents: &Array<u32>,
    starts: &Array<u32>,
    loose_pairs: &Array<u32>,
    loose_rows: &Array<u32>,
    pairs: &mut Array<u32>,
    rows: &mut Array<u32>,
    nnz: usize,
) {
    let at = CUBE_POS * THREADS + UNIT_POS as usize;
    if at < nnz {
        let (pair, row) = (loose_pairs[at], loose_rows[at]);
        let latent = latents[pair as usize] as usize;
        let start = starts[latent] as usize;
        let end = starts[latent + 1] as usize;
        if end - start <= SHORT {
            let mut place = start;
            for other in start..end {
                if loose_rows[other] < row {
                    place += 1usize;
                }
            }
            pairs[place] = pair;
            rows[place] = row;
        }
    }
}

#[cube(launch)]
fn find_long(starts: &Array<u32>, long: &mut Array<Atomic<u32>>, n: usize) {
    let latent = CUBE_POS * THREADS + UNIT_POS as usize;
    if latent < n && (starts[latent + 1] - starts[latent]) as usize > SHORT {
        let place = long[0].fetch_add(1u32);
        long[place as usize + 1].store(latent as u32);
    }
}

/// One cube per list.
#[cube(launch)]
fn order_long(
    long: &Array<u32>,
    starts: &Array<u32>,
    loose_pairs: &Array<u32>,
    loose_rows: &Array<u32>,
    pairs: &mut Array<u32>,
    rows: &mut Array<u32>,
    windows: usize,
) {
    if CUBE_POS >= long[0] as usize {
        terminate!();
    }
    let latent = long[CUBE_POS + 1] as usize;
    let (start, end) = (starts[latent] as usize, starts[latent + 1] as usize);
    let bits = SharedMemory::<Atomic<u32>>::new(WORDS);
    let mut before = SharedMemory::<u32>::new(WORDS);
    let mut part = SharedMemory::<u32>::new(THREADS);
    let unit = UNIT_POS as usize;
    let mut first = start;
    for window in 0..windows {
        #[unroll]
        for i in 0..EACH {
            bits[unit * EACH + i].store(0u32);
        }
        sync_cube();
        let mut at = start + unit;
        while at < end {
            let row = loose_rows[at] as usize;
            if row / WINDOW == window {
                bits[row % WINDOW / 32].fetch_or(1u32 << (row % 32) as u32);
            }
            at += THREADS;
        }
        sync_cube();
        let mut sum = 0u32;
        #[unroll]
        for i in 0..EACH {
            before[unit * EACH + i] = sum;
            sum += bits[unit * EACH + i].load().count_ones();
        }
        let through = inclusive(sum, &mut part);
        #[unroll]
        for i in 0..EACH {
            before[unit * EACH + i] = before[unit * EACH + i] + through - sum;
        }
        sync_cube();
        at = start + unit;
        while at < end {
            let row = loose_rows[at] as usize;
            if row / WINDOW == window {
                let word = row % WINDOW / 32;
                let smaller = bits[word].load() & ((1u32 << (row % 32) as u32) - 1u32);
                let place = first + (before[word] + smaller.count_ones()) as usize;
                pairs[place] = loose_pairs[at];
                rows[place] = row as u32;
            }
            at += THREADS;
        }
        first += part[comptime!(THREADS - 1)] as usize;
        sync_cube();
    }
}
