//! Lists of pairs per row become CSR, ascending by latent: whatever order threads appended in is gone.
//!
//! No comparison sort: the latents of a row are distinct, so a bitmap of them tells each its place, as the
//! number of bits below its own. Rows of any length, in a few passes over each.

use cubecl::prelude::*;

use super::{codes::CodesOnCard, cut::UNITS};
use crate::{
    card::{Card, Floats, Ints, Lost, cubes, units},
    pairs::PairsOnCard,
};

/// Words of the bitmap: 65,536 latents at a time.
const WORDS: u32 = 2048;
/// Words that a thread looks after.
const OWN: u32 = 8;

/// Sum over the threads below this one, and over all.
#[cube]
fn sum_below(sums: &mut SharedMemory<u32>, own: u32) -> (u32, u32) {
    let unit = UNIT_POS;
    sums[unit as usize] = own;
    sync_cube();
    let mut step = 1u32;
    while step < UNITS {
        let mut other = 0u32;
        if unit >= step {
            other = sums[(unit - step) as usize];
        }
        sync_cube();
        sums[unit as usize] += other;
        sync_cube();
        step *= 2u32;
    }
    (sums[unit as usize] - own, sums[255usize])
}

/// `offsets[i]` = Σ of `counts` before `i`, `[rows + 1]`. One cube.
#[cube(launch)]
fn add_up(counts: &Array<u32>, offsets: &mut Array<u32>, rows: u32) {
    let mut sums = SharedMemory::<u32>::new(256usize);
    let each = (rows + (UNITS - 1u32)) / UNITS;
    let begin = min(UNIT_POS * each, rows);
    let end = min(begin + each, rows);
    let mut own = 0u32;
    for row in begin..end {
        own += counts[row as usize];
    }
    let (below, all) = sum_below(&mut sums, own);
    let mut next = below;
    for row in begin..end {
        offsets[row as usize] = next;
        next += counts[row as usize];
    }
    if UNIT_POS == 0u32 {
        offsets[rows as usize] = all;
    }
}

/// Writes each row's pairs to its place. A row's list starts at `row·stride`, or where it goes if that is 0.
#[cube(launch)]
fn put_in_order(
    latents: &Array<u32>,
    words: &Array<u32>,
    offsets: &Array<u32>,
    ordered_latents: &mut Array<u32>,
    ordered_words: &mut Array<u32>,
    rows: u32,
    stride: u32,
) {
    let row = CUBE_POS as u32;
    if row >= rows {
        terminate!();
    }
    let bitmap = SharedMemory::<Atomic<u32>>::new(2048usize);
    let mut sums = SharedMemory::<u32>::new(256usize);
    let ends = SharedMemory::<Atomic<u32>>::new(2usize);
    let begin = offsets[row as usize];
    let length = offsets[row as usize + 1usize] - begin;
    let from = select(stride > 0u32, row * stride, begin);
    if UNIT_POS == 0u32 {
        ends[0usize].store(0xffff_ffffu32);
        ends[1usize].store(0u32);
    }
    sync_cube();
    let mut i = UNIT_POS;
    let mut low = 0xffff_ffffu32;
    let mut high = 0u32;
    while i < length {
        let latent = latents[(from + i) as usize];
        low = min(low, latent);
        high = max(high, latent);
        i += UNITS;
    }
    if low <= high {
        ends[0usize].fetch_min(low);
        ends[1usize].fetch_max(high);
    }
    sync_cube();
    low = ends[0usize].load();
    high = ends[1usize].load();
    let mut done = 0u32;
    while done < length && low <= high {
        let mut own_words = UNIT_POS;
        while own_words < WORDS {
            bitmap[own_words as usize].store(0u32);
            own_words += UNITS;
        }
        sync_cube();
        i = UNIT_POS;
        while i < length {
            let bit = latents[(from + i) as usize] - low;
            if bit < WORDS * 32u32 {
                bitmap[(bit / 32u32) as usize].fetch_or(1u32 << (bit % 32u32));
            }
            i += UNITS;
        }
        sync_cube();
        let mut own = 0u32;
        #[unroll]
        for j in 0..OWN {
            own += bitmap[(UNIT_POS * OWN + j) as usize].load().count_ones();
        }
        let (below, all) = sum_below(&mut sums, own);
        sync_cube();
        sums[UNIT_POS as usize] = below;
        sync_cube();
        i = UNIT_POS;
        while i < length {
            let bit = latents[(from + i) as usize] - low;
            if bit < WORDS * 32u32 {
                let word = bit / 32u32;
                let mut place = done + sums[(word / OWN) as usize];
                for w in (word / OWN) * OWN..word {
                    place += bitmap[w as usize].load().count_ones();
                }
                place += (bitmap[word as usize].load() & ((1u32 << (bit % 32u32)) - 1u32)).count_ones();
                ordered_latents[(begin + place) as usize] = low + bit;
                ordered_words[(begin + place) as usize] = words[(from + i) as usize];
            }
            i += UNITS;
        }
        done += all;
        low += WORDS * 32u32;
        sync_cube();
    }
}

/// Where each row starts, `[rows + 1]`, from how many pairs each has, `[rows]`.
pub(super) fn offsets<R: Runtime>(card: &Card<R>, counts: &Ints) -> Ints {
    let rows = counts.len();
    let offsets = card.room::<u32>(rows + 1);
    add_up::launch::<R>(card.client(), cubes(1), units(UNITS), counts.arg(), offsets.arg(), rows as u32);
    offsets
}

/// The lists of latents and values (as bits), in order. Row `i` has `offsets[i + 1] − offsets[i]` pairs at
/// `i·stride`, or at `offsets[i]` if `stride` is 0; `most`: no more pairs than that in all.
///
/// # Errors
/// The card is lost.
pub(super) fn pairs<R: Runtime>(
    card: &Card<R>,
    latents: &Ints,
    words: &Ints,
    offsets: &Ints,
    stride: usize,
    most: usize,
) -> Result<PairsOnCard, Lost> {
    let rows = offsets.len() - 1;
    let (ordered, values): (Ints, Floats) = (card.room(most), card.room(most));
    put_in_order::launch::<R>(
        card.client(),
        cubes(rows),
        units(UNITS),
        latents.arg(),
        words.arg(),
        offsets.arg(),
        ordered.arg(),
        values.arg(),
        rows as u32,
        stride as u32,
    );
    let ends: Vec<usize> = card.download(offsets)?.into_iter().map(|offset| offset as usize).collect();
    let all = ends.last().copied().unwrap_or(0).min(most);
    if all == 0 {
        return Ok(PairsOnCard::none(card, rows));
    }
    let codes = CodesOnCard { offsets: offsets.clone(), latents: ordered.part(0, all) };
    Ok(PairsOnCard { offsets: ends, codes, values: values.part(0, all) })
}
