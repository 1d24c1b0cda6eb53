//! The codes of some rows out of those of all.

use atomflow_workers::codes::Codes;
use cubecl::prelude::*;

use crate::{
    Runtime,
    card::{Card, Floats, Ints, Lost, cubes, units},
    pairs::PairsOnCard,
};

const THREADS: usize = 64;

/// Codes of the rows that `wanted` says yes to, `[rows]`; the others are there without pairs. Of `n_latents` latents.
///
/// # Errors
/// The card is lost.
pub fn some<R: Runtime>(
    card: &Card<R>,
    pairs: &PairsOnCard,
    wanted: impl Fn(usize) -> bool,
    n_latents: usize,
) -> Result<Codes, Lost> {
    let mut codes = Codes::new(n_latents);
    let (mut rows, mut places, mut count) = (Vec::new(), Vec::new(), 0);
    for (row, span) in pairs.offsets.windows(2).enumerate() {
        let pairs = span[1].saturating_sub(span[0]);
        if pairs > 0 && wanted(row) {
            rows.push(row as u32);
            places.push(count as u32);
            count += pairs;
        }
        codes.offsets.push(count);
    }
    if rows.is_empty() {
        return Ok(codes);
    }
    let (latents, values): (Ints, Floats) = (card.room(count), card.room(count));
    copy_rows::launch::<R>(
        card.client(),
        cubes(rows.len()),
        units(THREADS as u32),
        card.upload(&rows).arg(),
        card.upload(&places).arg(),
        pairs.codes.offsets.arg(),
        pairs.codes.latents.arg(),
        pairs.values.words(),
        latents.arg(),
        values.words(),
        rows.len(),
    );
    (codes.latents, codes.values) = (card.download(&latents)?, card.download(&values)?);
    Ok(codes)
}

/// One cube per row that is wanted.
#[cube(launch)]
fn copy_rows(
    rows: &Array<u32>,
    places: &Array<u32>,
    offsets: &Array<u32>,
    latents: &Array<u32>,
    words: &Array<u32>,
    into_latents: &mut Array<u32>,
    into_words: &mut Array<u32>,
    count: usize,
) {
    if CUBE_POS >= count {
        terminate!();
    }
    let row = rows[CUBE_POS] as usize;
    let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
    let to = places[CUBE_POS] as usize;
    let mut i = UNIT_POS as usize;
    while start + i < end {
        into_latents[to + i] = latents[start + i];
        into_words[to + i] = words[start + i];
        i += THREADS;
    }
}
