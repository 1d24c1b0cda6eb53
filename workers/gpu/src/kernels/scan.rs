//! Where lists begin, given how long they are: sums of everything before.

use cubecl::prelude::*;

use crate::{
    Runtime,
    card::{Card, Ints, cubes, units},
};

/// Threads of a cube, and numbers of each.
pub(super) const THREADS: usize = 256;
const EACH: usize = 4;
const BLOCK: usize = THREADS * EACH;

/// The sum of all counts before each, and of all, `[n + 1]`.
pub(super) fn starts<R: Runtime>(card: &Card<R>, counts: &Ints) -> Ints {
    let n = counts.len();
    let blocks = n.div_ceil(BLOCK).max(1);
    let (starts, totals) = (card.room(n + 1), card.room(blocks));
    scan_blocks::launch::<R>(
        card.client(),
        cubes(blocks),
        units(THREADS as u32),
        counts.arg(),
        starts.arg(),
        totals.arg(),
        n,
        blocks,
    );
    if blocks > 1 {
        let before = self::starts(card, &totals);
        add_before::launch::<R>(
            card.client(),
            cubes(blocks),
            units(THREADS as u32),
            before.arg(),
            starts.arg(),
            n,
            blocks,
        );
    }
    starts
}

/// Inside each block alone; the last place, of the sum of all, is right if there is one block.
#[cube(launch)]
fn scan_blocks(
    counts: &Array<u32>,
    starts: &mut Array<u32>,
    totals: &mut Array<u32>,
    n: usize,
    blocks: usize,
) {
    if CUBE_POS >= blocks {
        terminate!();
    }
    let first = CUBE_POS * BLOCK + UNIT_POS as usize * EACH;
    let mut mine = Array::<u32>::new(EACH);
    let mut sum = 0u32;
    #[unroll]
    for i in 0..EACH {
        mine[i] = sum;
        if first + i < n {
            sum += counts[first + i];
        }
    }
    let mut part = SharedMemory::<u32>::new(THREADS);
    let through = inclusive(sum, &mut part);
    #[unroll]
    for i in 0..EACH {
        if first + i < n {
            starts[first + i] = through - sum + mine[i];
        }
    }
    if UNIT_POS as usize == comptime!(THREADS - 1) {
        totals[CUBE_POS] = through;
        if CUBE_POS + 1 == blocks {
            starts[n] = through;
        }
    }
}

#[cube(launch)]
fn add_before(before: &Array<u32>, starts: &mut Array<u32>, n: usize, blocks: usize) {
    if CUBE_POS >= blocks {
        terminate!();
    }
    #[unroll]
    for i in 0..EACH {
        let at = CUBE_POS * BLOCK + UNIT_POS as usize + comptime!(i * THREADS);
        if at < n {
            starts[at] = starts[at] + before[CUBE_POS];
        }
    }
    if CUBE_POS + 1 == blocks && UNIT_POS == 0 {
        starts[n] = before[blocks];
    }
}

/// The sum of the numbers of this thread and those before it. `part` has one number per thread, and holds
/// the sums of all threads afterwards.
#[cube]
pub(super) fn inclusive(number: u32, part: &mut SharedMemory<u32>) -> u32 {
    let unit = UNIT_POS as usize;
    let mut sum = number;
    part[unit] = sum;
    sync_cube();
    #[unroll]
    for level in 0..8usize {
        let reach = comptime!(1usize << level);
        if unit >= reach {
            sum += part[unit - reach];
        }
        sync_cube();
        part[unit] = sum;
        sync_cube();
    }
    sum
}
