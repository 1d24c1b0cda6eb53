//! The order of long lists of pairs: a bitmap of rows tells how many smaller rows there are.

use cubecl::prelude::*;

use super::{
    by_latent::{ByLatent, SHORT, clear, threads},
    scan::{THREADS, inclusive},
};
use crate::{
    Runtime,
    card::{Card, Ints, cubes},
};

/// Rows of a bitmap; more rows are taken bitmap by bitmap.
const WINDOW: usize = 32_768;
const WORDS: usize = WINDOW / 32;
/// Words of a bitmap per thread.
const EACH: usize = WORDS / THREADS;

/// Puts the pairs of long lists in order, given pairs and rows of all lists in any order inside a list.
pub(super) fn order<R: Runtime>(
    card: &Card<R>,
    lists: &ByLatent,
    loose_pairs: &Ints,
    loose_rows: &Ints,
    rows: usize,
) {
    let most = loose_pairs.len() / (SHORT + 1);
    if most == 0 {
        return;
    }
    let long = long_lists(card, &lists.starts, most);
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

/// How many lists are long, and which, in any order, `[1 + most]`.
fn long_lists<R: Runtime>(card: &Card<R>, starts: &Ints, most: usize) -> Ints {
    let n = starts.len() - 1;
    let long: Ints = card.room(1 + most);
    clear::launch::<R>(card.client(), cubes(1), threads(), long.arg(), 1);
    find_long::launch::<R>(card.client(), cubes(n.div_ceil(THREADS)), threads(), starts.arg(), long.arg(), n);
    long
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
