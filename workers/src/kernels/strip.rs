//! Weighted sums of gathered rows, a strip of columns at a time, so that the sums stay in registers.
//!
//! Adding whole rows to a sum in memory loads and stores the sum once per row. A strip of 128 columns
//! fits the registers of AVX-512. The chain of fused multiply-adds of each column is the same as with
//! whole rows: strips change the speed and no bit.

use super::real::Real;

/// `N` groups of `L` columns.
pub type Strip<R, const N: usize, const L: usize> = [[R; L]; N];

/// Work that treats all columns alike, whatever the width of a strip.
pub trait Columns {
    /// Columns `at..at + N·L`.
    fn strip<const N: usize, const L: usize>(&mut self, at: usize);
}

/// Runs `work` over `d` columns: wide strips, then groups of 16, then single columns.
#[inline(always)]
pub fn walk<const WIDE: usize>(d: usize, work: &mut impl Columns) {
    let mut at = 0;
    while at + WIDE * 16 <= d {
        work.strip::<WIDE, 16>(at);
        at += WIDE * 16;
    }
    while at + 16 <= d {
        work.strip::<1, 16>(at);
        at += 16;
    }
    while at < d {
        work.strip::<1, 1>(at);
        at += 1;
    }
}

/// Zeros.
#[inline(always)]
pub fn zero<R: Real, const N: usize, const L: usize>() -> Strip<R, N, L> {
    [[R::ZERO; L]; N]
}

/// The strip of `row` that starts at column `at`.
#[inline(always)]
pub fn load<R: Real, const N: usize, const L: usize>(row: &[R], at: usize) -> Strip<R, N, L> {
    let mut strip = zero::<R, N, L>();
    strip.as_flattened_mut().copy_from_slice(&row[at..at + N * L]);
    strip
}

/// Writes `strip` to `row` at column `at`.
#[inline(always)]
pub fn store<R: Real, const N: usize, const L: usize>(strip: &Strip<R, N, L>, row: &mut [R], at: usize) {
    row[at..at + N * L].copy_from_slice(strip.as_flattened());
}

/// `sum += weight · row`, at the columns of the strip.
#[inline(always)]
pub fn fma<R: Real, const N: usize, const L: usize>(
    weight: R,
    row: &[R],
    at: usize,
    sum: &mut Strip<R, N, L>,
) {
    let (groups, _) = row[at..at + N * L].as_chunks::<L>();
    for n in 0..N {
        for i in 0..L {
            sum[n][i] = weight.fma(groups[n][i], sum[n][i]);
        }
    }
}

/// `sum += weight · (row − centre)`, at the columns of the strip.
#[inline(always)]
pub fn fma_centred<R: Real, const N: usize, const L: usize>(
    weight: R,
    row: &[R],
    centre: &Strip<R, N, L>,
    at: usize,
    sum: &mut Strip<R, N, L>,
) {
    let (groups, _) = row[at..at + N * L].as_chunks::<L>();
    for n in 0..N {
        for i in 0..L {
            sum[n][i] = weight.fma(groups[n][i] - centre[n][i], sum[n][i]);
        }
    }
}

/// `sum += part`.
#[inline(always)]
pub fn add<R: Real, const N: usize, const L: usize>(part: &Strip<R, N, L>, sum: &mut Strip<R, N, L>) {
    for n in 0..N {
        for i in 0..L {
            sum[n][i] += part[n][i];
        }
    }
}
