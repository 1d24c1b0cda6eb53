//! The integer products on AVX-512 VNNI: 64 multiply-adds an instruction, four times those of f32.

use super::{
    candidates::Candidates,
    quantise::{Quantised, QuantisedRows},
};

/// Whether this machine has the instructions.
pub(super) fn available() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Offers all latents to the candidates of every row of the block; without the instructions nothing
/// happens and `false` is returned.
pub(super) fn screen(rows: &QuantisedRows, weights: &Quantised, candidates: &mut Candidates) -> bool {
    #[cfg(target_arch = "x86_64")]
    if available() {
        // SAFETY: the machine has the instructions, by the line above.
        unsafe {
            match candidates.are_dense() {
                true => x86::screen::<true>(rows, weights, candidates),
                false => x86::screen::<false>(rows, weights, candidates),
            }
        }
        return true;
    }
    let _unused = (rows, weights, candidates);
    false
}

/// Multiply-adds in registers, 12 chains of 64 a round; `None` without the instructions.
pub(super) fn peak(rounds: u64) -> Option<i32> {
    #[cfg(target_arch = "x86_64")]
    if available() {
        // SAFETY: the machine has the instructions, by the line above.
        return Some(unsafe { x86::peak(rounds) });
    }
    let _unused = rounds;
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::{
        candidates::Candidates,
        offer::{Row, offer},
        quantise::{COLS, GROUP, Quantised, QuantisedRows, ROWS},
        registers::{LANES, load_i8, load_i32, store},
        walk::{SAMPLED, Walk},
    };

    /// Tiles whose sums over the sampled panels are held at once: they stay in L2.
    const SAMPLE_TILES: usize = 4;

    /// Sums of a tile.
    type Sums = [[__m512i; 2]; ROWS];

    /// `ALWAYS`: most panels have something to keep, and a branch would be mispredicted half of the time.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
    pub(super) fn screen<const ALWAYS: bool>(
        rows: &QuantisedRows,
        weights: &Quantised,
        candidates: &mut Candidates,
    ) {
        let (tile, walk) = (weights.groups() * ROWS, candidates.walk);
        sample(rows, weights, walk, candidates);
        for step in walk.sampled()..walk.len() {
            let (panel, bounds) = weights.panel(walk.panel(step));
            for (t, tile) in rows.tiles.chunks_exact(tile).enumerate() {
                let sums = multiply(tile, panel, &bounds.start);
                for (r, sums) in sums.iter().enumerate().take(rows.step.len() - t * ROWS) {
                    let row = Row::of(rows, t * ROWS + r);
                    offer::<ALWAYS>(&row, bounds, sums, candidates);
                    candidates.prune_if_full(row.row, step + 1);
                }
            }
        }
    }

    /// Offers the first panels of the walk, once they have given every row a threshold.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
    fn sample(rows: &QuantisedRows, weights: &Quantised, walk: Walk, candidates: &mut Candidates) {
        let tile = weights.groups() * ROWS;
        let mut sums: Vec<Sums> = vec![[[_mm512_setzero_si512(); 2]; ROWS]; SAMPLE_TILES * walk.sampled()];
        for (c, tiles) in rows.tiles.chunks(SAMPLE_TILES * tile).enumerate() {
            for step in 0..walk.sampled() {
                let (panel, bounds) = weights.panel(walk.panel(step));
                for (t, tile) in tiles.chunks_exact(tile).enumerate() {
                    sums[t * walk.sampled() + step] = multiply(tile, panel, &bounds.start);
                }
            }
            let first = c * SAMPLE_TILES * ROWS;
            for row in first..rows.step.len().min(first + SAMPLE_TILES * ROWS) {
                let (t, r) = ((row - first) / ROWS, (row - first) % ROWS);
                begin(&Row::of(rows, row), weights, walk, &sums[t * walk.sampled()..], r, candidates);
            }
        }
    }

    /// Finds the first threshold of a row and offers it the panels that it was found in.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,fma")]
    fn begin(
        row: &Row,
        weights: &Quantised,
        walk: Walk,
        sums: &[Sums],
        r: usize,
        candidates: &mut Candidates,
    ) {
        let mut guesses = [[0f32; LANES]; 2 * SAMPLED];
        for (step, (out, sums)) in guesses.chunks_exact_mut(2).zip(sums).enumerate().take(walk.sampled()) {
            let (_, bounds) = weights.panel(walk.panel(step));
            for (h, out) in out.iter_mut().enumerate() {
                let (upper, error) = (row.upper(bounds, &sums[r], h), row.error(bounds, h));
                store(candidates.guess(upper, error), out);
            }
        }
        candidates.begin(row.row, guesses[..2 * walk.sampled()].as_flattened(), walk.sampled());
        for (step, sums) in sums.iter().enumerate().take(walk.sampled()) {
            let (_, bounds) = weights.panel(walk.panel(step));
            offer::<true>(row, bounds, &sums[r], candidates);
            candidates.prune_if_full(row.row, walk.sampled());
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn peak(rounds: u64) -> i32 {
        let x = _mm512_set1_epi8(std::hint::black_box(3));
        let w = _mm512_set1_epi8(std::hint::black_box(-2));
        let mut sums = [_mm512_setzero_si512(); ROWS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, x, w);
            }
        }
        sums.iter().map(|&sum| _mm512_reduce_add_epi32(sum)).fold(0, i32::wrapping_add)
    }

    /// One register tile of integer sums.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn multiply(tile: &[[u8; GROUP]], panel: &[[i8; GROUP]], start: &[i32; COLS]) -> Sums {
        let (start, _) = start.as_chunks::<LANES>();
        let mut sums = [[load_i32(&start[0]), load_i32(&start[1])]; ROWS];
        let (xs, _) = tile.as_chunks::<ROWS>();
        let (ws, _) = panel.as_chunks::<COLS>();
        for (x, w) in xs.iter().zip(ws) {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load_i8(&w[0]), load_i8(&w[1])];
            for r in 0..ROWS {
                let x = _mm512_set1_epi32(i32::from_ne_bytes(x[r]));
                sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], x, w[0]);
                sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], x, w[1]);
            }
        }
        sums
    }
}
