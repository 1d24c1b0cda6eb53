//! A code by latent instead of by row: every latent's pairs in ascending order of rows, whatever the timing.
//!
//! Pairs are counted and put into the lists by integer atomics, in any order inside a list. Rows inside a
//! list are distinct, so a pair's place is the number of smaller ones.

use cubecl::prelude::*;

use super::{
    codes::CodesOnCard,
    long,
    scan::{self, THREADS},
};
use crate::{
    Runtime,
    card::{Card, Ints, cubes, units},
};

/// The longest list in which a pair is compared with every other.
pub(super) const SHORT: usize = 256;
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
    long::order(card, &lists, &loose_pairs, &loose_rows, rows);
    lists
}

pub(super) fn threads() -> CubeDim {
    units(THREADS as u32)
}

#[cube(launch)]
pub(super) fn clear(counts: &mut Array<u32>, n: usize) {
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
