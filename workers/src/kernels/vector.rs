//! Row operations. Element-wise ones have one rounding per element; sums run in fixed lanes.

use rayon::prelude::*;

use super::{
    real::Real,
    simd::{Kernel, Path},
};

/// Partial sums of a dot product. Fixed, so that 8-wide and 16-wide machines add in the same order.
pub const LANES: usize = 16;

/// Numbers of a long vector that one task looks at.
const LONG: usize = 16_384;

/// `Σ aᵢ·bᵢ` in [`LANES`] interleaved sums, folded by halves, then the tail in order.
#[inline(always)]
pub fn dot<R: Real>(a: &[R], b: &[R]) -> R {
    let mut sums = [R::ZERO; LANES];
    let (a_blocks, a_tail) = a.as_chunks::<LANES>();
    let (b_blocks, b_tail) = b.as_chunks::<LANES>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..LANES {
            sums[lane] = x[lane].fma(y[lane], sums[lane]);
        }
    }
    let mut total = fold(sums);
    for (&x, &y) in a_tail.iter().zip(b_tail) {
        total = x.fma(y, total);
    }
    total
}

/// Four dot products with one `a`, each with the bits of [`dot`]: `a` is loaded once, and no sum
/// waits for another. All rows have the length of `a`.
#[inline(always)]
pub fn dot4<R: Real>(a: &[R], rows: [&[R]; 4]) -> [R; 4] {
    let [mut s0, mut s1, mut s2, mut s3] = [[R::ZERO; LANES]; 4];
    let [y0, y1, y2, y3] = [blocks(rows[0]), blocks(rows[1]), blocks(rows[2]), blocks(rows[3])];
    for ((((x, y0), y1), y2), y3) in blocks(a).iter().zip(y0).zip(y1).zip(y2).zip(y3) {
        fma_lanes(x, y0, &mut s0);
        fma_lanes(x, y1, &mut s1);
        fma_lanes(x, y2, &mut s2);
        fma_lanes(x, y3, &mut s3);
    }
    let tail = a.len() / LANES * LANES;
    let mut totals = fold_apart(&[s0, s1, s2, s3]);
    for (total, row) in totals.iter_mut().zip(rows) {
        for (&x, &y) in a[tail..].iter().zip(&row[tail..]) {
            *total = x.fma(y, *total);
        }
    }
    totals
}

#[inline(always)]
fn blocks<R>(row: &[R]) -> &[[R; LANES]] {
    row.as_chunks().0
}

#[inline(always)]
fn fma_lanes<R: Real>(x: &[R; LANES], y: &[R; LANES], sums: &mut [R; LANES]) {
    for lane in 0..LANES {
        sums[lane] = x[lane].fma(y[lane], sums[lane]);
    }
}

/// Adds lane `i + half` to lane `i`, halving until one is left.
#[inline(always)]
fn fold<R: Real>(sums: [R; LANES]) -> R {
    let eight: [R; 8] = halve(&sums);
    let four: [R; 4] = halve(&eight);
    let two: [R; 2] = halve(&four);
    two[0] + two[1]
}

/// [`fold`] out of line: inlined four times, LLVM sees four equal sums, turns the loop before them by
/// 90 degrees and gathers floats one by one (2.5 times slower in all, rustc 1.95). All four in one array,
/// copied for the call: a sum whose own address is given away is stored in every turn of the loop.
#[inline(never)]
fn fold_apart<R: Real>(sums: &[[R; LANES]; 4]) -> [R; 4] {
    sums.map(fold)
}

/// The upper half on the lower one. Fixed lengths, so that each halving is one vector operation.
#[inline(always)]
fn halve<R: Real, const HALF: usize>(sums: &[R]) -> [R; HALF] {
    let mut out = [R::ZERO; HALF];
    for lane in 0..HALF {
        out[lane] = sums[lane] + sums[lane + HALF];
    }
    out
}

/// `y += s·x`.
#[inline(always)]
pub fn axpy<R: Real>(s: R, x: &[R], y: &mut [R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = s.fma(x, *y);
    }
}

/// `y += s·x` of long vectors. Runs on the current rayon pool.
pub fn axpy_on<R: Real>(path: Path, s: R, x: &[R], y: &mut [R]) {
    x.par_chunks(LONG).zip(y.par_chunks_mut(LONG)).for_each(|(x, y)| path.run(Axpy { s, x, y }));
}

struct Axpy<'a, R> {
    s: R,
    x: &'a [R],
    y: &'a mut [R],
}

impl<R: Real> Kernel for Axpy<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        axpy(self.s, self.x, self.y);
    }
}

/// Euclidean lengths of the rows of `x`, each of width `d`. Runs on the current rayon pool.
pub fn norms_on<R: Real>(path: Path, x: &[R], d: usize) -> Vec<R> {
    norms_in_parts(path, x, &[d])
}

/// The sum of the lengths of the parts of every row of `x`, which is cut into parts of `widths`. Runs on the current
/// rayon pool.
pub fn norms_in_parts<R: Real>(path: Path, x: &[R], widths: &[usize]) -> Vec<R> {
    let d = widths.iter().sum::<usize>();
    let blocks = x.par_chunks((LONG / d).max(1) * d);
    blocks.flat_map_iter(|rows| path.run(Norms { rows, widths, d })).collect()
}

struct Norms<'a, R> {
    rows: &'a [R],
    widths: &'a [usize],
    d: usize,
}

impl<R: Real> Kernel for Norms<'_, R> {
    type Output = Vec<R>;

    #[inline(always)]
    fn run(self) -> Vec<R> {
        let mut norms = Vec::with_capacity(self.rows.len() / self.d);
        for row in self.rows.chunks_exact(self.d) {
            let (mut at, mut norm) = (0, R::ZERO);
            // A loop: a closure that is not inlined loses the instructions of the path.
            for &width in self.widths {
                let part = &row[at..at + width];
                at += width;
                norm += dot(part, part).sqrt();
            }
            norms.push(norm);
        }
        norms
    }
}

/// `y += x`.
#[inline(always)]
pub fn add<R: Real>(x: &[R], y: &mut [R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

/// `x *= s`.
#[inline(always)]
pub fn scale<R: Real>(s: R, x: &mut [R]) {
    for x in x {
        *x = *x * s;
    }
}

/// Scales `x` to unit norm; a zero row stays zero.
#[inline(always)]
pub fn normalize<R: Real>(x: &mut [R]) {
    let norm = dot(x, x).sqrt();
    if norm > R::ZERO {
        scale(R::ONE / norm, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_is_the_sum_of_products() {
        for n in [0, 1, 15, 16, 17, 100] {
            let a: Vec<f64> = (0..n).map(|i| f64::from(i) * 0.5 - 3.0).collect();
            let b: Vec<f64> = (0..n).map(|i| 1.0 / (1.0 + f64::from(i))).collect();
            let slow: f64 = a.iter().zip(&b).map(|(x, y)| x * y).sum();
            assert!((dot(&a, &b) - slow).abs() < 1e-12);
        }
    }

    #[test]
    fn four_at_once_have_the_bits_of_one() {
        for n in [0, 1, 15, 16, 17, 100] {
            let row = |s: usize| (0..n).map(|i| ((i * s + 5) % 23) as f32 * 0.37 - 3.0).collect::<Vec<f32>>();
            let (a, rows) = (row(7), [row(3), row(5), row(11), row(13)]);
            let four = dot4(&a, [&rows[0], &rows[1], &rows[2], &rows[3]]);
            assert_eq!(four, [0, 1, 2, 3].map(|i| dot(&a, &rows[i])));
        }
    }

    #[test]
    fn normalize_keeps_zero_rows() {
        let mut zero = [0.0f32; 5];
        normalize(&mut zero);
        assert_eq!(zero, [0.0; 5]);
        let mut row = [3.0f32, 4.0];
        normalize(&mut row);
        assert_eq!(row, [0.6, 0.8]);
    }
}
