//! Row operations. Element-wise ones have one rounding per element; sums run in fixed lanes.

use super::real::Real;

/// Partial sums of a dot product. Fixed, so that 8-wide and 16-wide machines add in the same order.
pub const LANES: usize = 16;

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

/// Adds lane `i + half` to lane `i`, halving until one is left.
#[inline(always)]
fn fold<R: Real>(mut sums: [R; LANES]) -> R {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            sums[lane] += sums[lane + half];
        }
        half /= 2;
    }
    sums[0]
}

/// `y += s·x`.
#[inline(always)]
pub fn axpy<R: Real>(s: R, x: &[R], y: &mut [R]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = s.fma(x, *y);
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
    fn normalize_keeps_zero_rows() {
        let mut zero = [0.0f32; 5];
        normalize(&mut zero);
        assert_eq!(zero, [0.0; 5]);
        let mut row = [3.0f32, 4.0];
        normalize(&mut row);
        assert_eq!(row, [0.6, 0.8]);
    }
}
