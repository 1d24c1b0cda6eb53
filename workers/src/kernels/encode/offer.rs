//! From integer sums to candidates: upper bounds, and what reaches a row's threshold.

use std::arch::x86_64::*;

use super::{
    candidates::Candidates,
    quantise::{Bounds, COLS, QuantisedRows},
    registers::{LANES, load, load_u32, store, store_u32},
};

/// What bounds the products of one row.
pub(super) struct Row {
    /// Its number in the block.
    pub(super) row: usize,
    step: __m512,
    per_norm: __m512,
    per_error: __m512,
}

impl Row {
    #[inline]
    #[target_feature(enable = "avx512f")]
    pub(super) fn of(rows: &QuantisedRows, row: usize) -> Self {
        let all = |values: &[f32]| _mm512_set1_ps(values[row]);
        Row { row, step: all(&rows.step), per_norm: all(&rows.per_norm), per_error: all(&rows.per_error) }
    }

    /// Upper bounds of half a panel.
    #[inline]
    #[target_feature(enable = "avx512f,fma")]
    pub(super) fn upper(&self, bounds: &Bounds, sums: &[__m512i; 2], h: usize) -> __m512 {
        let product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[h]), half(&bounds.step, h));
        let slack = _mm512_fmadd_ps(self.per_error, half(&bounds.error, h), half(&bounds.bias, h));
        _mm512_fmadd_ps(self.step, product, _mm512_fmadd_ps(self.per_norm, half(&bounds.norm, h), slack))
    }

    /// How far they may lie above the truth, and the truth above the estimates.
    #[inline]
    #[target_feature(enable = "avx512f,fma")]
    pub(super) fn error(&self, bounds: &Bounds, h: usize) -> __m512 {
        let of_weights = _mm512_mul_ps(self.per_error, half(&bounds.error, h));
        _mm512_fmadd_ps(self.per_norm, half(&bounds.norm, h), of_weights)
    }
}

impl Candidates {
    #[inline]
    #[target_feature(enable = "avx512f,fma")]
    pub(super) fn guess(&self, upper: __m512, error: __m512) -> __m512 {
        _mm512_fnmadd_ps(error, _mm512_set1_ps(self.below_upper), upper)
    }
}

/// Half a panel's bounds.
#[inline]
#[target_feature(enable = "avx512f")]
fn half(values: &[f32; COLS], h: usize) -> __m512 {
    load(&values.as_chunks::<LANES>().0[h])
}

/// Keeps the latents of a panel whose upper bound reaches the row's threshold.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,fma")]
pub(super) fn offer<const ALWAYS: bool>(
    row: &Row,
    bounds: &Bounds,
    sums: &[__m512i; 2],
    candidates: &mut Candidates,
) {
    let threshold = _mm512_set1_ps(candidates.thresholds[row.row]);
    let uppers = [row.upper(bounds, sums, 0), row.upper(bounds, sums, 1)];
    let masks = uppers.map(|upper| _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, threshold));
    if ALWAYS || (masks[0] | masks[1]) != 0 {
        for h in 0..2 {
            let columns = load_u32(&bounds.columns.as_chunks().0[h]);
            keep(candidates, row.row, columns, uppers[h], row.error(bounds, h), masks[h]);
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,fma")]
fn keep(
    candidates: &mut Candidates,
    row: usize,
    column: __m512i,
    upper: __m512,
    error: __m512,
    mask: __mmask16,
) {
    let guess = candidates.guess(upper, error);
    // Compressed in registers and stored whole: compressing stores are microcoded on Zen 4.
    let Some((columns, uppers, guesses)) = candidates.room(row) else { return };
    store_u32(_mm512_maskz_compress_epi32(mask, column), columns);
    store(_mm512_maskz_compress_ps(mask, upper), uppers);
    store(_mm512_maskz_compress_ps(mask, guess), guesses);
    candidates.lengths[row] += mask.count_ones() as usize;
}
