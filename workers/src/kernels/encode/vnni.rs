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
        unsafe { x86::screen(rows, weights, candidates) };
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
        candidates::{Candidates, LANES},
        quantise::{Bounds, COLS, GROUP, Quantised, QuantisedRows, ROWS},
    };

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(values: &[f32; LANES]) -> __m512 {
        // SAFETY: the reference covers the 64 bytes that are read.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_integers(values: &[i32; LANES]) -> __m512i {
        // SAFETY: the reference covers the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load_codes(values: &[[i8; GROUP]; LANES]) -> __m512i {
        // SAFETY: the reference covers the 64 bytes that are read.
        unsafe { _mm512_loadu_si512(values.as_ptr().cast()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(values: __m512, to: &mut [f32; LANES]) {
        // SAFETY: the reference covers the 64 bytes that are written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store_integers(values: __m512i, to: &mut [u32; LANES]) {
        // SAFETY: the reference covers the 64 bytes that are written.
        unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), values) }
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vnni,fma")]
    pub(super) fn screen(rows: &QuantisedRows, weights: &Quantised, candidates: &mut Candidates) {
        let groups = weights.groups();
        for (p, bounds) in weights.bounds.iter().enumerate() {
            let panel = &weights.panels[p * groups * COLS..][..groups * COLS];
            for (t, tile) in rows.tiles.chunks_exact(groups * ROWS).enumerate() {
                let sums = multiply(tile, panel, &bounds.start);
                for (r, sums) in sums.iter().enumerate().take(rows.step.len() - t * ROWS) {
                    offer(rows, t * ROWS + r, p * COLS, bounds, sums, candidates);
                }
            }
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
    fn multiply(tile: &[[u8; GROUP]], panel: &[[i8; GROUP]], start: &[i32; COLS]) -> [[__m512i; 2]; ROWS] {
        let (start, _) = start.as_chunks::<LANES>();
        let mut sums = [[load_integers(&start[0]), load_integers(&start[1])]; ROWS];
        let (xs, _) = tile.as_chunks::<ROWS>();
        let (ws, _) = panel.as_chunks::<COLS>();
        for (x, w) in xs.iter().zip(ws) {
            let (w, _) = w.as_chunks::<LANES>();
            let w = [load_codes(&w[0]), load_codes(&w[1])];
            for r in 0..ROWS {
                let x = _mm512_set1_epi32(i32::from_ne_bytes(x[r]));
                sums[r][0] = _mm512_dpbusd_epi32(sums[r][0], x, w[0]);
                sums[r][1] = _mm512_dpbusd_epi32(sums[r][1], x, w[1]);
            }
        }
        sums
    }

    /// Keeps the latents of a panel whose upper bound reaches the row's threshold.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,fma")]
    fn offer(
        rows: &QuantisedRows,
        row: usize,
        first: usize,
        bounds: &Bounds,
        sums: &[__m512i; 2],
        candidates: &mut Candidates,
    ) {
        let threshold = _mm512_set1_ps(candidates.thresholds[row]);
        let step = _mm512_set1_ps(rows.step[row]);
        let per_norm = _mm512_set1_ps(rows.per_norm[row]);
        let per_error = _mm512_set1_ps(rows.per_error[row]);
        let half = |h: usize| -> (__m512, __mmask16) {
            let at = |values: &[f32; COLS]| load(&values.as_chunks::<LANES>().0[h]);
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[h]), at(&bounds.step));
            let slack = _mm512_fmadd_ps(per_error, at(&bounds.error), at(&bounds.bias));
            let upper = _mm512_fmadd_ps(step, product, _mm512_fmadd_ps(per_norm, at(&bounds.norm), slack));
            (upper, _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, threshold))
        };
        let halves = [half(0), half(1)];
        if (halves[0].1 | halves[1].1) != 0 {
            for (h, &(upper, mask)) in halves.iter().enumerate() {
                let at = |values: &[f32; COLS]| load(&values.as_chunks::<LANES>().0[h]);
                let error =
                    _mm512_fmadd_ps(per_norm, at(&bounds.norm), _mm512_mul_ps(per_error, at(&bounds.error)));
                keep(candidates, row, first + h * LANES, upper, error, mask);
            }
            candidates.prune_if_full(row);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,fma")]
    fn keep(
        candidates: &mut Candidates,
        row: usize,
        first: usize,
        upper: __m512,
        error: __m512,
        mask: __mmask16,
    ) {
        let guess = _mm512_fnmadd_ps(error, _mm512_set1_ps(candidates.below_upper), upper);
        let lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        let column = _mm512_add_epi32(lane, _mm512_set1_epi32(first as i32));
        // Compressed in registers and stored whole: compressing stores are microcoded on Zen 4.
        let Some((columns, uppers, guesses)) = candidates.room(row) else { return };
        store_integers(_mm512_maskz_compress_epi32(mask, column), columns);
        store(_mm512_maskz_compress_ps(mask, upper), uppers);
        store(_mm512_maskz_compress_ps(mask, guess), guesses);
        candidates.lengths[row] += mask.count_ones() as usize;
    }
}
