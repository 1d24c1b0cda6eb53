//! What a shard's codes come to, latent by latent, in whole numbers: the same bytes in any order.
//!
//! One cube per latent: its pairs lie one after the other. The counts of the whole shard stay on the card.

use atomflow_workers::card::digest::{HISTOGRAM_BINS, HISTOGRAM_LOW_LOG2, LatentSums, Mark};
use cubecl::prelude::*;

use super::{by_latent::ByLatent, fixed};
use crate::{
    Runtime,
    card::{Buffer, Card, Floats, Ints, Lost, cubes, units},
};

const THREADS: usize = 64;
/// Places of the words of a latent; its histogram comes behind.
const FIRES: usize = 0;
const SAMPLED: usize = 1;
const MAX: usize = 2;
const OVERFLOW: usize = 3;
const BINS: usize = 4;
const WORDS: usize = BINS + HISTOGRAM_BINS;

/// Counts of the latents of one shard.
#[derive(Debug, Clone)]
pub struct Counts {
    /// `[n, WORDS]`.
    words: Ints,
    /// Sum and sum of squares of each latent, in fixed point, `[n, 2]`.
    sums: Buffer<u64>,
    /// Contexts in which each latent fires, `[n]`.
    pub(super) contexts: Ints,
    value_log2: i32,
}

impl Counts {
    /// Nothing yet, of `n` latents; values are at `2^value_log2`.
    pub fn new<R: Runtime>(card: &Card<R>, n: usize, value_log2: i32) -> Self {
        Counts {
            words: card.upload(&vec![0; n * WORDS]),
            sums: card.upload(&vec![0; n * 2]),
            contexts: card.upload(&vec![0; n]),
            value_log2,
        }
    }

    /// Adds pairs with `values` (`[nnz]`) in rows with `marks` (`[rows]`): fewer than 2¹⁹ rows at a time, whose
    /// sums then fit into 64 bits.
    pub fn add<R: Runtime>(&self, card: &Card<R>, lists: &ByLatent, values: &Floats, marks: &Ints) {
        let n = self.contexts.len();
        if values.is_empty() {
            return;
        }
        count_latents::launch::<R>(
            card.client(),
            cubes(n),
            units(THREADS as u32),
            lists.starts.arg(),
            lists.pairs.arg(),
            lists.rows.arg(),
            values.words(),
            marks.arg(),
            self.words.arg(),
            self.sums.arg(),
            n,
            self.value_log2,
        );
    }

    /// All of it on this side, `[n]`.
    ///
    /// # Errors
    /// The card is lost.
    pub fn download<R: Runtime>(&self, card: &Card<R>) -> Result<Vec<LatentSums>, Lost> {
        let (words, sums) = (card.download(&self.words)?, card.download(&self.sums)?);
        let contexts = card.download(&self.contexts)?;
        let latents = words.as_chunks::<WORDS>().0.iter().zip(sums.as_chunks::<2>().0).zip(contexts);
        Ok(latents.map(|((words, sums), contexts)| latent(words, *sums, contexts)).collect())
    }
}

fn latent(words: &[u32; WORDS], [sum, sum_sq]: [u64; 2], contexts: u32) -> LatentSums {
    let mut histogram = [0; HISTOGRAM_BINS];
    histogram.copy_from_slice(&words[BINS..]);
    LatentSums {
        fires: i64::from(words[FIRES]),
        contexts_with_fire: i64::from(contexts),
        sum: sum.cast_signed(),
        sum_sq: sum_sq.cast_signed(),
        fires_sampled: i64::from(words[SAMPLED]),
        max: f32::from_bits(words[MAX]),
        histogram,
        overflow: words[OVERFLOW] > 0,
    }
}

#[cube(launch)]
fn count_latents(
    starts: &Array<u32>,
    pairs: &Array<u32>,
    rows: &Array<u32>,
    values: &Array<u32>,
    marks: &Array<u32>,
    words: &mut Array<u32>,
    sums: &mut Array<u64>,
    n: usize,
    value_log2: i32,
) {
    let latent = CUBE_POS;
    if latent >= n {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let (start, end) = (starts[latent] as usize, starts[latent + 1] as usize);
    if start == end {
        terminate!();
    }
    let tally = SharedMemory::<Atomic<u32>>::new(WORDS);
    if unit < WORDS {
        tally[unit].store(0u32);
    }
    sync_cube();
    let mut sum = 0u64;
    let mut squares = 0u64;
    let mut at = start + unit;
    while at < end {
        let mark = marks[rows[at] as usize];
        if mark & comptime!(Mark::KEPT) != 0u32 {
            let bits = values[pairs[at] as usize];
            let mantissa = fixed::mantissa(bits);
            let exponent = fixed::exponent(bits, value_log2);
            // Squares are at 2^30 where values are at 2^20.
            let (square, twice) = (mantissa * mantissa, exponent * 2i32 - 10i32);
            sum += fixed::signed(fixed::rounded(mantissa, exponent), bits);
            squares += fixed::rounded(square, twice);
            let over = squares >> 63u64 == 1u64 || fixed::too_wide(square, twice);
            if over || fixed::beyond(mantissa, exponent) {
                tally[OVERFLOW].store(1u32);
            }
            tally[FIRES].fetch_add(1u32);
            if mark & comptime!(Mark::SAMPLED) != 0u32 {
                tally[SAMPLED].fetch_add(1u32);
            }
            tally[MAX].fetch_max(bits & 0x7fff_ffffu32);
            let bin = fixed::bin(bits, value_log2, HISTOGRAM_LOW_LOG2, comptime!(HISTOGRAM_BINS as i32));
            tally[BINS + bin as usize].fetch_add(1u32);
        }
        at += THREADS;
    }
    let mut part = SharedMemory::<u64>::new(comptime!(THREADS * 2));
    part[unit] = sum;
    part[unit + THREADS] = squares;
    sync_cube();
    #[unroll]
    for level in 1..7usize {
        let reach = comptime!(THREADS >> level);
        if unit < reach {
            part[unit] = part[unit] + part[unit + reach];
            let both = part[unit + THREADS] + part[unit + THREADS + reach];
            part[unit + THREADS] = both;
            if both >> 63u64 == 1u64 {
                tally[OVERFLOW].store(1u32);
            }
        }
        sync_cube();
    }
    if unit == 0usize {
        let (before, more) = (sums[latent * 2], part[0]);
        let after = before + more;
        sums[latent * 2] = after;
        let squares = sums[latent * 2 + 1] + part[THREADS];
        sums[latent * 2 + 1] = squares;
        if ((before ^ after) & (more ^ after)) >> 63u64 == 1u64 || squares >> 63u64 == 1u64 {
            tally[OVERFLOW].store(1u32);
        }
    }
    sync_cube();
    if unit < WORDS {
        let own = tally[unit].load();
        let before = words[latent * WORDS + unit];
        words[latent * WORDS + unit] = select(unit == MAX, max(before, own), before + own);
    }
}
