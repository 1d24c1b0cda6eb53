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

/// `bias[j] + ⟨x, rows[j]⟩` as one chain of fused multiply-adds each, ascending. `next` is asked for
/// meanwhile: rows that will be needed.
pub(super) fn chains(
    x: &[f32],
    rows: [&[f32]; SIDE],
    bias: [f32; SIDE],
    next: [&[f32]; SIDE],
) -> [f32; SIDE] {
    let (mut sums, mut done) = (bias, 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        (sums, done) = unsafe { x86::chains(x, rows, bias, next) };
    }
    for (sum, row) in sums.iter_mut().zip(rows) {
        *sum = x[done..].iter().zip(&row[done..]).fold(*sum, |sum, (x, w)| x.mul_add(*w, sum));
    }
    sums
}

/// `⟨xs[i], w⟩`, in any order: who asks leaves room for rounding. `next` as above.
pub(super) fn dots(xs: [&[f32]; 4], w: &[f32], next: [&[f32]; 5]) -> [f32; 4] {
    let (mut sums, mut done) = ([0f32; 4], 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        (sums, done) = unsafe { x86::dots(xs, w, next) };
    }
    let _unused = next;
    if done < w.len() {
        for (sum, x) in sums.iter_mut().zip(xs) {
            *sum = x[done..].iter().zip(&w[done..]).fold(*sum, |sum, (x, w)| x.mul_add(*w, sum));
        }
    }
    sums
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

    use super::{
        super::registers::{load, soon, store},
        SIDE,
    };

    #[target_feature(enable = "avx512f")]
    pub(super) fn interleave<const COLS: usize>(
        rows: [&[f32]; SIDE],
        panel: &mut [[f32; COLS]],
        first: usize,
    ) -> usize {
        let squares = rows.map(|row| row.as_chunks::<SIDE>().0);
        let n = squares.iter().fold(panel.len() / SIDE, |n, row| n.min(row.len()));
        for (b, out) in panel.as_chunks_mut::<SIDE>().0.iter_mut().enumerate().take(n) {
            for (out, column) in out.iter_mut().zip(columns::<COLS>(&squares, b)) {
                if let Some(out) = out[first..].first_chunk_mut() {
                    store(column, out);
                }
            }
        }
        n * SIDE
    }

    /// Whole blocks of the first `length` values of each row: all the same number, so that one check
    /// serves for all.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn blocks<const N: usize, const B: usize>(rows: [&[f32]; N], length: usize) -> [&[[f32; B]]; N] {
        let mut blocks: [&[[f32; B]]; N] = [&[]; N];
        for i in 0..N {
            blocks[i] = &rows[i].as_chunks().0[..length / B];
        }
        blocks
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn halves(pair: &[f32; 2 * SIDE]) -> [__m512; 2] {
        let (halves, _) = pair.as_chunks::<SIDE>();
        [load(&halves[0]), load(&halves[1])]
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn chains(
        x: &[f32],
        rows: [&[f32]; SIDE],
        bias: [f32; SIDE],
        next: [&[f32]; SIDE],
    ) -> ([f32; SIDE], usize) {
        let (squares, next) = (blocks::<SIDE, SIDE>(rows, x.len()), blocks::<SIDE, SIDE>(next, x.len()));
        let (xs, _) = x.as_chunks::<SIDE>();
        let mut sums = load(&bias);
        for (b, x) in xs.iter().enumerate() {
            for next in next {
                soon(&next[b][0]);
            }
            for (x, column) in x.iter().zip(columns::<0>(&squares, b)) {
                sums = _mm512_fmadd_ps(_mm512_set1_ps(*x), column, sums);
            }
        }
        let mut out = [0f32; SIDE];
        store(sums, &mut out);
        (out, xs.len() * SIDE)
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
    pub(super) fn dots(xs: [&[f32]; 4], w: &[f32], next: [&[f32]; 5]) -> ([f32; 4], usize) {
        let (xs, next) = (blocks::<4, { 2 * SIDE }>(xs, w.len()), blocks::<5, { 2 * SIDE }>(next, w.len()));
        let (w, _) = w.as_chunks::<{ 2 * SIDE }>();
        let mut sums = [[_mm512_setzero_ps(); 2]; 4];
        for (b, w) in w.iter().enumerate() {
            for next in next {
                soon(&next[b][0]);
                soon(&next[b][SIDE]);
            }
            let w = halves(w);
            for i in 0..4 {
                let x = halves(&xs[i][b]);
                sums[i][0] = _mm512_fmadd_ps(x[0], w[0], sums[i][0]);
                sums[i][1] = _mm512_fmadd_ps(x[1], w[1], sums[i][1]);
            }
        }
        (across(sums.map(|s| _mm512_add_ps(s[0], s[1]))), w.len() * 2 * SIDE)
    }

    /// The sum of each register.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn across(sums: [__m512; 4]) -> [f32; 4] {
        let half = |s: __m512| {
            let high =
                _mm512_castpd_ps(_mm512_shuffle_f64x2::<0x4e>(_mm512_castps_pd(s), _mm512_castps_pd(s)));
            _mm512_castps512_ps256(_mm512_add_ps(s, high))
        };
        let [a, b, c, d] = sums.map(half);
        let four = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
        let sums = _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps::<1>(four));
        let mut out = [0f32; SIDE];
        store(_mm512_castps128_ps512(sums), &mut out);
        [out[0], out[1], out[2], out[3]]
    }

    /// Square `b` of sixteen rows, column by column: pairs, quads, then quarters of registers change places.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn columns<const CALLER: usize>(rows: &[&[[f32; SIDE]]; SIDE], b: usize) -> [__m512; SIDE] {
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
