//! Short lists of floats, sixteen at a time: looking for the k-th largest, and dropping what is below.
//!
//! A closure inside `Iterator::fold` does not take the vector instructions of the function it is called
//! from, so these loops are written out.

/// Halvings of the interval in which the k-th largest is looked for: 2⁻¹⁶ of it is left.
const HALVINGS: usize = 16;

/// How many values reach `bound`, and the largest of them (`bound` if there is none).
#[inline(always)]
fn reaching(values: &[f32], bound: f32) -> (usize, f32) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        return unsafe { x86::reaching(values, bound) };
    }
    values.iter().fold((0, bound), |(n, m), &v| if v >= bound { (n + 1, v.max(m)) } else { (n, m) })
}

/// A bound at or below the k-th largest of `values` and at or above `floor`, which at most `enough`
/// values beyond `k` reach where bisection finds one; `None` if fewer than `k` values reach `floor`.
#[inline(always)]
pub(super) fn near_kth(values: &[f32], k: usize, enough: usize, floor: f32) -> Option<f32> {
    let (mut count, mut high) = reaching(values, floor);
    let mut bound = floor;
    if count < k {
        return None;
    }
    for _ in 0..HALVINGS {
        if count <= k + enough {
            break;
        }
        let middle = (high - bound).mul_add(0.5, bound);
        let (above, _) = reaching(values, middle);
        if above >= k {
            (bound, count) = (middle, above);
        } else {
            high = middle;
        }
    }
    Some(bound)
}

/// Moves to the front, in order, the entries of both lists whose `value` is not below `bound`, and those that are
/// not numbers; returns how many.
pub(super) fn retain_not_below(bound: f32, columns: &mut [u32], values: &mut [f32]) -> usize {
    let (mut kept, mut done) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        (kept, done) = unsafe { x86::retain_not_below(bound, columns, values) };
    }
    for at in done..columns.len() {
        let below = values[at] < bound;
        (columns[kept], values[kept]) = (columns[at], values[at]);
        kept += usize::from(!below);
    }
    kept
}

/// As [`retain_not_below`] by `uppers`, for three lists.
pub(super) fn retain_reaching(
    bound: f32,
    columns: &mut [u32],
    uppers: &mut [f32],
    guesses: &mut [f32],
) -> usize {
    let (mut kept, mut done) = (0, 0);
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the machine has the instructions, by the line above.
        (kept, done) = unsafe { x86::retain_reaching(bound, columns, uppers, guesses) };
    }
    for at in done..columns.len() {
        let upper = uppers[at];
        (columns[kept], uppers[kept], guesses[kept]) = (columns[at], upper, guesses[at]);
        kept += usize::from(upper >= bound);
    }
    kept
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::super::registers::{LANES, load, load_u32, store, store_u32};

    /// Overwrites the first entries.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put(values: __m512, to: &mut [f32]) {
        if let Some(to) = to.first_chunk_mut() {
            store(values, to);
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn put_columns(values: __m512i, to: &mut [u32]) {
        if let Some(to) = to.first_chunk_mut() {
            store_u32(values, to);
        }
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn reaching(values: &[f32], bound: f32) -> (usize, f32) {
        let (blocks, tail) = values.as_chunks::<LANES>();
        let (least, one) = (_mm512_set1_ps(bound), _mm512_set1_epi32(1));
        let (mut counts, mut largest) = (_mm512_setzero_si512(), least);
        for block in blocks {
            let v = load(block);
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(v, least);
            counts = _mm512_mask_add_epi32(counts, mask, counts, one);
            // The second operand is returned where the first is not a number.
            largest = _mm512_max_ps(v, largest);
        }
        let mut rest = [f32::NEG_INFINITY; LANES];
        rest[..tail.len()].copy_from_slice(tail);
        let v = load(&rest);
        let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(v, least) & (((1u32 << tail.len()) - 1) as u16);
        counts = _mm512_mask_add_epi32(counts, mask, counts, one);
        let largest = _mm512_reduce_max_ps(_mm512_max_ps(v, largest));
        (_mm512_reduce_add_epi32(counts) as usize, largest)
    }

    /// Whole registers; what is stored beyond the entries kept lies before the next ones to be read.
    #[target_feature(enable = "avx512f")]
    pub(super) fn retain_not_below(bound: f32, columns: &mut [u32], values: &mut [f32]) -> (usize, usize) {
        let (mut kept, mut done) = (0, 0);
        while let (Some(column), Some(value)) = (
            columns.get(done..).and_then(<[u32]>::first_chunk),
            values.get(done..).and_then(<[f32]>::first_chunk),
        ) {
            let (column, value) = (load_u32(column), load(value));
            let mask = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(value, _mm512_set1_ps(bound));
            put_columns(_mm512_maskz_compress_epi32(mask, column), &mut columns[kept..]);
            put(_mm512_maskz_compress_ps(mask, value), &mut values[kept..]);
            kept += mask.count_ones() as usize;
            done += LANES;
        }
        (kept, done)
    }

    /// As above.
    #[target_feature(enable = "avx512f")]
    pub(super) fn retain_reaching(
        bound: f32,
        columns: &mut [u32],
        uppers: &mut [f32],
        guesses: &mut [f32],
    ) -> (usize, usize) {
        let (mut kept, mut done) = (0, 0);
        while let (Some(column), Some(upper), Some(guess)) = (
            columns.get(done..).and_then(<[u32]>::first_chunk),
            uppers.get(done..).and_then(<[f32]>::first_chunk),
            guesses.get(done..).and_then(<[f32]>::first_chunk),
        ) {
            let (column, upper, guess) = (load_u32(column), load(upper), load(guess));
            let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(upper, _mm512_set1_ps(bound));
            put_columns(_mm512_maskz_compress_epi32(mask, column), &mut columns[kept..]);
            put(_mm512_maskz_compress_ps(mask, upper), &mut uppers[kept..]);
            put(_mm512_maskz_compress_ps(mask, guess), &mut guesses[kept..]);
            kept += mask.count_ones() as usize;
            done += LANES;
        }
        (kept, done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| if i % 50 == 49 { f32::NAN } else { ((i * 7919) % 1009) as f32 }).collect()
    }

    #[test]
    fn the_bound_lies_just_below_the_kth() {
        for n in [1, 15, 16, 17, 40, 200, 513] {
            let values = values(n);
            let mut numbers: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
            numbers.sort_by(|a, b| b.total_cmp(a));
            for k in 1..=n {
                let near = near_kth(&values, k, 0, 0.0);
                assert_eq!(near.is_some(), k <= numbers.len(), "{n} {k}");
                if let Some(bound) = near {
                    assert_eq!(numbers.iter().filter(|&&v| v >= bound).count(), k, "{n} {k}");
                }
            }
        }
    }

    #[test]
    fn entries_stay_together_and_in_order() {
        for n in [0, 1, 15, 16, 17, 40, 200] {
            let (values, columns) = (values(n), (0..n as u32).collect::<Vec<u32>>());
            let kept = |keep: fn(f32) -> bool| -> Vec<u32> {
                columns.iter().copied().filter(|&c| keep(values[c as usize])).collect()
            };
            let (mut c, mut v) = (columns.clone(), values.clone());
            let length = retain_not_below(500.0, &mut c, &mut v);
            assert_eq!(c[..length], kept(|v| v >= 500.0 || v.is_nan()));
            let (mut c, mut u, mut g) = (columns.clone(), values.clone(), values.clone());
            let length = retain_reaching(500.0, &mut c, &mut u, &mut g);
            assert_eq!(c[..length], kept(|v| v >= 500.0));
            assert_eq!(u[..length], g[..length]);
        }
    }
}
