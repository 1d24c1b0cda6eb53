//! Which latents should be offered which contexts: the pairs of those that some list may take.
//!
//! The pairs of one latent in one context lie one after the other in its list. The first of them looks at all,
//! so that each run is one thread's work; what passes is put together by sums over what passes before it.

use atomflow_workers::card::digest::{
    Bound, Bounds, Candidate, IMPORTANCE_STREAM, Mark, Offered, UNIFORM_STREAM,
};
use cubecl::prelude::*;

use super::{
    by_latent::ByLatent,
    count::Counts,
    scan::{self, THREADS},
};
use crate::{
    Runtime,
    card::{Buffer, Card, Floats, Ints, Lost, cubes, units},
};

/// The contexts of some rows, and what the lists of the latents may still take.
#[derive(Debug, Clone)]
pub struct Offers {
    hashes: Buffer<u64>,
    /// Which half of the bounds applies to each context.
    splits: Ints,
    /// Three of each half, `[n, 6]`.
    bounds: Ints,
}

impl Offers {
    /// Copies them to the card.
    pub fn upload<R: Runtime>(card: &Card<R>, contexts: &[Offered], bounds: &[Bounds]) -> Self {
        let (mut hashes, mut splits): (Vec<u64>, Vec<u32>) =
            contexts.iter().map(|c| (c.hash, c.split)).unzip();
        // A buffer of nothing is none that a kernel could be given.
        hashes.resize(hashes.len().max(1), 0);
        splits.resize(splits.len().max(1), 0);
        let words = |&Bound { top, uniform, importance }: &Bound| [top, uniform, importance];
        let bounds: Vec<u32> = bounds.as_flattened().iter().flat_map(words).collect();
        Offers { hashes: card.upload(&hashes), splits: card.upload(&splits), bounds: card.upload(&bounds) }
    }

    /// The pairs in contexts that some list of theirs may take, by latent, then row. Counts contexts in which latents
    /// fire.
    ///
    /// # Errors
    /// The card is lost.
    pub fn candidates<R: Runtime>(
        &self,
        card: &Card<R>,
        lists: &ByLatent,
        values: &Floats,
        marks: &Ints,
        counts: &Counts,
    ) -> Result<Vec<Candidate>, Lost> {
        let nnz = values.len();
        if nnz == 0 {
            return Ok(Vec::new());
        }
        let passes: Ints = card.room(nnz);
        let (each, dim) = (cubes(nnz.div_ceil(THREADS)), units(THREADS as u32));
        look_at_runs::launch::<R>(
            card.client(),
            each.clone(),
            dim,
            lists.starts.arg(),
            lists.pairs.arg(),
            lists.rows.arg(),
            lists.latents.arg(),
            values.words(),
            marks.arg(),
            self.hashes.arg(),
            self.splits.arg(),
            self.bounds.arg(),
            passes.arg(),
            counts.contexts.arg(),
            nnz,
        );
        let before = scan::starts(card, &passes);
        // No more than that can pass, and nearly always far fewer do.
        let found: [Ints; 3] = [0; 3].map(|_| card.room(nnz));
        let [latents, rows, words] = &found;
        put_together::launch::<R>(
            card.client(),
            each,
            dim,
            lists.pairs.arg(),
            lists.rows.arg(),
            lists.latents.arg(),
            values.words(),
            before.arg(),
            latents.arg(),
            rows.arg(),
            words.arg(),
            nnz,
        );
        let count = card.download(&before.part(nnz, 1))?.first().map_or(0, |&count| count as usize);
        if count == 0 {
            return Ok(Vec::new());
        }
        let [latents, rows, words] = found.map(|found| card.download(&found.part(0, count)));
        let parts = latents?.into_iter().zip(rows?).zip(words?);
        Ok(parts
            .map(|((latent, row), word)| Candidate { latent, row, value: f32::from_bits(word) })
            .collect())
    }
}

/// One thread per place in the lists. A run is the pairs of a latent in one context; rows that are not kept lie in
/// it, too, and count for nothing.
#[cube(launch)]
fn look_at_runs(
    starts: &Array<u32>,
    pairs: &Array<u32>,
    rows: &Array<u32>,
    latents: &Array<u32>,
    values: &Array<u32>,
    marks: &Array<u32>,
    hashes: &Array<u64>,
    splits: &Array<u32>,
    bounds: &Array<u32>,
    passes: &mut Array<u32>,
    contexts: &mut Array<Atomic<u32>>,
    nnz: usize,
) {
    let at = CUBE_POS * THREADS + UNIT_POS as usize;
    if at >= nnz {
        terminate!();
    }
    let latent = latents[pairs[at] as usize];
    let context = marks[rows[at] as usize] >> comptime!(Mark::CONTEXT);
    let mut first = context != 0u32;
    if at > starts[latent as usize] as usize {
        first = first && marks[rows[at - 1] as usize] >> comptime!(Mark::CONTEXT) != context;
    }
    if context == 0u32 {
        passes[at] = 0u32;
    }
    if first {
        let end = starts[latent as usize + 1] as usize;
        let mut to = at;
        let mut peak = 0u32;
        let mut kept = 0u32;
        let mut inside = true;
        while inside {
            let own = marks[rows[to] as usize] & comptime!(Mark::KEPT);
            kept = kept | own;
            if own != 0u32 {
                peak = max(peak, values[pairs[to] as usize] & 0x7fff_ffffu32);
            }
            to += 1;
            inside = false;
            if to < end {
                inside = marks[rows[to] as usize] >> comptime!(Mark::CONTEXT) == context;
            }
        }
        let mut pass = 0u32;
        if kept > 0u32 {
            contexts[latent as usize].fetch_add(1u32);
            let place = context as usize - 1;
            let bound = (latent * 2u32 + splits[place]) as usize * 3;
            pass = may_take(bounds, bound, hashes[place], latent, peak);
        }
        for p in at..to {
            let mark = marks[rows[p] as usize];
            passes[p] = select(mark & comptime!(Mark::KEPT) != 0u32, pass, 0u32);
        }
    }
}

/// As [`Bound::may_take`], number by number.
#[cube]
fn may_take(bounds: &Array<u32>, at: usize, hash: u64, latent: u32, peak: u32) -> u32 {
    let importance = bounds[at + 2];
    let uniform = u32::cast_from(draw(hash, latent, UNIFORM_STREAM) >> 33u64);
    let u = u32::cast_from(draw(hash, latent, IMPORTANCE_STREAM) >> 40u64);
    let least = f32::cast_from(0xff_ffffu32 - u) * 5.960_464_5e-8f32 * 0.99999f32;
    // Bits of an f32 below the smallest normal one.
    let open = importance == 0xffff_ffffu32 || peak < 0x80_0000u32;
    let weighted = least <= f32::reinterpret(importance) * f32::reinterpret(peak);
    let listed = peak >= bounds[at] || uniform <= bounds[at + 1];
    select(listed || open || weighted, 1u32, 0u32)
}

#[cube]
fn draw(hash: u64, latent: u32, #[comptime] stream: u64) -> u64 {
    mix(hash ^ mix(u64::cast_from(latent) ^ stream))
}

/// As `atomflow_workers::random::mix`.
#[cube]
fn mix(word: u64) -> u64 {
    let a = (word ^ (word >> 30u64)) * 0xbf58_476d_1ce4_e5b9u64;
    let b = (a ^ (a >> 27u64)) * 0x94d0_49bb_1331_11ebu64;
    b ^ (b >> 31u64)
}

/// One thread per place in the lists: `before` says how many pass before each.
#[cube(launch)]
fn put_together(
    pairs: &Array<u32>,
    rows: &Array<u32>,
    latents: &Array<u32>,
    values: &Array<u32>,
    before: &Array<u32>,
    into_latents: &mut Array<u32>,
    into_rows: &mut Array<u32>,
    into_words: &mut Array<u32>,
    nnz: usize,
) {
    let at = CUBE_POS * THREADS + UNIT_POS as usize;
    if at < nnz {
        let to = before[at];
        if before[at + 1] != to {
            let pair = pairs[at] as usize;
            into_latents[to as usize] = latents[pair];
            into_rows[to as usize] = rows[at];
            into_words[to as usize] = values[pair];
        }
    }
}
