//! What the compiler does not find by itself on AVX-512: sixteen rows as sixteen columns.
//!
//! Element by element a panel took 9 % of the encoder's time at d_in 384, and the exact chains of
//! the pre-screen three times as long as its integer products.

use crate::kernels::Path;

/// Rows and columns of a square.
pub(super) const SIDE: usize = 16;

/// `panel[i][first + j] = rows[j][i]` for whole squares. Returns how many `i` are done; 0 where the
/// instructions are missing.
pub(super) fn interleave<const COLS: usize>(
    rows: [&[f32]; SIDE],
    panel: &mut [[f32; COLS]],
    first: usize,
) -> usize {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        return unsafe { x86::interleave(rows, panel, first) };
    }
    let _unused = (rows, panel, first);
    0
}

/// `bias[j] + ⟨x, rows[j]⟩` as one chain of fused multiply-adds each, ascending. `None` where the
/// instructions are missing.
pub(super) fn chains(x: &[f32], rows: [&[f32]; SIDE], bias: [f32; SIDE]) -> Option<[f32; SIDE]> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        let (mut sums, done) = unsafe { x86::chains(x, rows, bias) };
        for (sum, row) in sums.iter_mut().zip(rows) {
            *sum = x[done..].iter().zip(&row[done..]).fold(*sum, |sum, (x, w)| x.mul_add(*w, sum));
        }
        return Some(sums);
    }
    let _unused = (x, rows, bias);
    None
}

/// `⟨xs[i], w⟩`, in any order: who asks leaves room for rounding.
pub(super) fn dots<const N: usize>(xs: [&[f32]; N], w: &[f32]) -> [f32; N] {
    let (mut sums, mut done) = ([0f32; N], 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        (sums, done) = unsafe { x86::dots(xs, w) };
    }
    for (sum, x) in sums.iter_mut().zip(xs) {
        *sum = x[done..].iter().zip(&w[done..]).fold(*sum, |sum, (x, w)| x.mul_add(*w, sum));
    }
    sums
}

/// Moves to the front, in order, the entries whose upper bound reaches `threshold`; returns how many.
pub(super) fn retain_reaching(
    threshold: f32,
    columns: &mut [u32],
    uppers: &mut [f32],
    guesses: &mut [f32],
) -> usize {
    let (mut kept, mut done) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        (kept, done) = unsafe { x86::retain_reaching(threshold, columns, uppers, guesses) };
    }
    for at in done..columns.len() {
        let upper = uppers[at];
        (columns[kept], uppers[kept], guesses[kept]) = (columns[at], upper, guesses[at]);
        kept += usize::from(upper >= threshold);
    }
    kept
}

/// Multiply-adds in registers, 12 chains of 16 floats a round: every sum grows by an eighth.
pub(super) fn peak(path: Path, rounds: u64) -> Option<f32> {
    #[cfg(target_arch = "x86_64")]
    {
        if path == Path::Avx512 && is_x86_feature_detected!("avx512f") {
            // SAFETY: the machine has the instructions, by the line above.
            return Some(unsafe { x86::peak(rounds) });
        }
        if path == Path::Avx2 && is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the machine has the instructions, by the line above.
            return Some(unsafe { x86::peak_of_avx2(rounds) });
        }
    }
    let _unused = (path, rounds);
    None
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{arch::x86_64::*, hint::black_box};

    use super::SIDE;

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(values: &[f32; SIDE]) -> __m512 {
        // SAFETY: the reference covers the 64 bytes that are read.
        unsafe { _mm512_loadu_ps(values.as_ptr()) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store(values: __m512, to: &mut [f32; SIDE]) {
        // SAFETY: the reference covers the 64 bytes that are written.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), values) }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn interleave<const COLS: usize>(
        rows: [&[f32]; SIDE],
        panel: &mut [[f32; COLS]],
        first: usize,
    ) -> usize {
        let squares = rows.map(|row| row.as_chunks::<SIDE>().0);
        let n = squares.iter().fold(panel.len() / SIDE, |n, row| n.min(row.len()));
        for (b, out) in panel.as_chunks_mut::<SIDE>().0.iter_mut().enumerate().take(n) {
            for (out, column) in out.iter_mut().zip(columns(&squares, b)) {
                if let Some(out) = out[first..].first_chunk_mut() {
                    store(column, out);
                }
            }
        }
        n * SIDE
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn chains(x: &[f32], rows: [&[f32]; SIDE], bias: [f32; SIDE]) -> ([f32; SIDE], usize) {
        let (xs, _) = x.as_chunks::<SIDE>();
        let squares = rows.map(|row| row.as_chunks::<SIDE>().0);
        let n = squares.iter().fold(xs.len(), |n, row| n.min(row.len()));
        let mut sums = load(&bias);
        for (b, x) in xs.iter().enumerate().take(n) {
            for (x, column) in x.iter().zip(columns(&squares, b)) {
                sums = _mm512_fmadd_ps(_mm512_set1_ps(*x), column, sums);
            }
        }
        let mut out = [0f32; SIDE];
        store(sums, &mut out);
        (out, n * SIDE)
    }

    /// Whole registers; what is stored beyond the entries kept lies before the next ones to be read.
    #[target_feature(enable = "avx512f")]
    pub(super) fn retain_reaching(
        threshold: f32,
        columns: &mut [u32],
        uppers: &mut [f32],
        guesses: &mut [f32],
    ) -> (usize, usize) {
        let (mut kept, mut done) = (0, 0);
        while let (Some(column), Some(upper), Some(guess)) = (
            columns.get(done..).and_then(<[u32]>::first_chunk::<SIDE>),
            uppers.get(done..).and_then(<[f32]>::first_chunk::<SIDE>),
            guesses.get(done..).and_then(<[f32]>::first_chunk::<SIDE>),
        ) {
            let (column, upper, guess) = (load(&column.map(f32::from_bits)), load(upper), load(guess));
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, _mm512_set1_ps(threshold));
            let mut packed = [0f32; SIDE];
            store(_mm512_maskz_compress_ps(mask, column), &mut packed);
            columns[kept..kept + SIDE].copy_from_slice(&packed.map(f32::to_bits));
            store(_mm512_maskz_compress_ps(mask, upper), &mut packed);
            uppers[kept..kept + SIDE].copy_from_slice(&packed);
            store(_mm512_maskz_compress_ps(mask, guess), &mut packed);
            guesses[kept..kept + SIDE].copy_from_slice(&packed);
            kept += mask.count_ones() as usize;
            done += SIDE;
        }
        (kept, done)
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn peak(rounds: u64) -> f32 {
        let (x, w) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(0.25)));
        let mut sums = [_mm512_setzero_ps(); 12];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(x, w, *sum);
            }
        }
        sums.iter().map(|&sum| _mm512_reduce_add_ps(sum)).sum()
    }

    /// Twice the rounds of half the width: 12 sums and two factors fill 14 of the 16 registers.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn peak_of_avx2(rounds: u64) -> f32 {
        let (x, w) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(0.25)));
        let mut sums = [_mm256_setzero_ps(); 12];
        for _ in 0..2 * rounds {
            for sum in &mut sums {
                *sum = _mm256_fmadd_ps(x, w, *sum);
            }
        }
        let mut total = sums.iter().fold(_mm256_setzero_ps(), |total, &sum| _mm256_add_ps(total, sum));
        for _ in 0..3 {
            total = _mm256_hadd_ps(total, _mm256_permute2f128_ps::<1>(total, total));
        }
        _mm256_cvtss_f32(total)
    }

    /// Two sums for each, to hide the latency of the additions. Returns how many dimensions are done.
    #[target_feature(enable = "avx512f")]
    pub(super) fn dots<const N: usize>(xs: [&[f32]; N], w: &[f32]) -> ([f32; N], usize) {
        let pairs = |x| <[f32]>::as_chunks::<{ 2 * SIDE }>(x).0;
        let blocks = xs.map(pairs);
        let n = blocks.iter().fold(w.len() / (2 * SIDE), |n, x| n.min(x.len()));
        let halves = |pair: &[f32; 2 * SIDE]| {
            let (halves, _) = pair.as_chunks::<SIDE>();
            [load(&halves[0]), load(&halves[1])]
        };
        let mut sums = [[_mm512_setzero_ps(); 2]; N];
        for (b, w) in pairs(w)[..n].iter().enumerate() {
            let w = halves(w);
            for i in 0..N {
                let x = halves(&blocks[i][b]);
                sums[i][0] = _mm512_fmadd_ps(x[0], w[0], sums[i][0]);
                sums[i][1] = _mm512_fmadd_ps(x[1], w[1], sums[i][1]);
            }
        }
        (sums.map(|s| _mm512_reduce_add_ps(_mm512_add_ps(s[0], s[1]))), n * 2 * SIDE)
    }

    /// Square `b` of sixteen rows, column by column: pairs, quads, then quarters of registers change places.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns(rows: &[&[[f32; SIDE]]; SIDE], b: usize) -> [__m512; SIDE] {
        let mut r = [_mm512_setzero_ps(); SIDE];
        for i in 0..SIDE {
            r[i] = load(&rows[i][b]);
        }
        let mut t = r;
        for i in (0..SIDE).step_by(2) {
            t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
            t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
        }
        for i in (0..SIDE).step_by(4) {
            let pd = |x: __m512| _mm512_castps_pd(x);
            let ps = |x: __m512d| _mm512_castpd_ps(x);
            r[i] = ps(_mm512_unpacklo_pd(pd(t[i]), pd(t[i + 2])));
            r[i + 1] = ps(_mm512_unpackhi_pd(pd(t[i]), pd(t[i + 2])));
            r[i + 2] = ps(_mm512_unpacklo_pd(pd(t[i + 1]), pd(t[i + 3])));
            r[i + 3] = ps(_mm512_unpackhi_pd(pd(t[i + 1]), pd(t[i + 3])));
        }
        // r[4q + j] holds, in quarter p, elements 4p + j of rows 4q..4q + 4.
        for j in 0..4 {
            let low = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
            let high = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
            let low2 = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
            let high2 = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
            t[j] = _mm512_shuffle_f32x4::<0x88>(low, low2);
            t[8 + j] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
            t[4 + j] = _mm512_shuffle_f32x4::<0x88>(high, high2);
            t[12 + j] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
        }
        t
    }
}
