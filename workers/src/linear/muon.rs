//! Steps of equal size in every direction: Muon (Jordan et al. 2024,
//! <https://kellerjordan.github.io/posts/muon>).
//!
//! The sum of past gradients, `b ← 0.95·b + g`, is replaced by a matrix of the same singular vectors whose
//! singular values are near 1, and a step goes that way. Five rounds of a quintic Newton–Schulz iteration
//! make it: products alone. They stop short of the polar factor, values end between 0.7 and 1.2, which is
//! as good for a step and much cheaper.

use rayon::prelude::*;

use super::product::{self, Panels, transpose};
use crate::kernels::{Path, Real, vector};

/// Of past gradients.
const MOMENTUM: f64 = 0.95;
/// Rounds of the iteration, and its coefficients.
const ROUNDS: usize = 5;
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
/// Elements one task works on.
const BLOCK: usize = 1 << 14;

/// One step of `value`, `[rows, columns]`, with gradient `g`; `sum` is that of past gradients. The step has
/// spectral norm `lr`, times `√(rows/columns)` for tall matrices. Runs on the current rayon pool.
pub fn step<R: Real>(path: Path, lr: f64, g: &[R], columns: usize, value: &mut [R], sum: &mut [R]) {
    let momentum = R::of(MOMENTUM);
    sum.par_chunks_mut(BLOCK).zip(g.par_chunks(BLOCK)).for_each(|(sum, g)| {
        vector::scale(momentum, sum);
        vector::add(g, sum);
    });
    let direction = evened(path, sum, columns);
    let rows = value.len() / columns.max(1);
    let rate = R::of(-lr * (rows as f64 / columns.max(1) as f64).max(1.0).sqrt());
    vector::axpy_on(path, rate, &direction, value);
}

/// `UVᵀ` of `m = UΣVᵀ`, `[rows, columns]`, nearly; zeros stay.
fn evened<R: Real>(path: Path, m: &[R], columns: usize) -> Vec<R> {
    let rows = m.len() / columns.max(1);
    let (tall, wide) = (rows > columns, rows.max(columns));
    let mut x = if tall { transpose(m, columns) } else { m.to_vec() };
    let small = rows.min(columns);
    let squares: f64 = x.chunks(BLOCK).map(|part| part.iter().map(|v| v.f64() * v.f64()).sum::<f64>()).sum();
    if squares > 0.0 {
        vector::scale(R::of(1.0 / squares.sqrt()), &mut x);
    }
    let [a, b, c] = QUINTIC.map(R::of);
    for _ in 0..ROUNDS {
        let gram = product::gram(path, &x, wide);
        let mut bracket = product::square(path, &gram, &gram, small);
        bracket.par_iter_mut().zip(&gram).for_each(|(v, &gram)| *v = c * *v + b * gram);
        (0..small).for_each(|i| bracket[i * (small + 1)] += a);
        x = product::product(path, &bracket, &Panels::of_columns(&x, wide));
    }
    if tall { transpose(&x, wide) } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{linear::eigen, toys::golden};

    /// Singular values that were 1 to 12 times apart are near each other, and its direction is that of `m`.
    #[test]
    fn singular_values_are_evened() {
        for (rows, columns) in [(6, 20), (20, 6), (8, 8)] {
            let m = golden(3, (rows * columns) as u64);
            let out = evened(Path::best(), &m, columns);
            let flat = if rows > columns { transpose(&out, columns) } else { out.clone() };
            let small = rows.min(columns);
            let gram = product::gram(Path::best(), &flat, rows.max(columns));
            for (value, _) in eigen::symmetric(&gram, small) {
                assert!((0.4..1.3).contains(&value.sqrt()), "{rows} by {columns}: {}", value.sqrt());
            }
            // M·outᵀ is symmetric, as M·(UVᵀ)ᵀ = UΣUᵀ is, and positive.
            let [m, out] = [m, out].map(|of| if rows > columns { transpose(&of, columns) } else { of });
            let with = product::product(Path::best(), &m, &Panels::of_rows(&out, rows.max(columns)));
            let back = transpose(&with, small);
            assert!(with.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-10));
            assert!((0..small).all(|i| with[i * (small + 1)] > 0.0));
        }
    }

    #[test]
    fn a_step_goes_down_by_the_same_length_whatever_the_gradient() {
        let g: Vec<f64> = golden(4, 30);
        let by = |factor: f64| {
            let (mut value, mut sum) = (vec![0.0; 30], vec![0.0; 30]);
            let g: Vec<f64> = g.iter().map(|v| v * factor).collect();
            step(Path::best(), 0.1, &g, 6, &mut value, &mut sum);
            value
        };
        let (small, large) = (by(1e-3), by(1e3));
        assert!(small.iter().zip(&large).all(|(a, b)| (a - b).abs() < 1e-9));
        assert!(small.iter().zip(&g).map(|(step, g)| step * g).sum::<f64>() < 0.0);
        let (mut value, mut sum) = (vec![1.0; 6], vec![0.0; 6]);
        step(Path::best(), 0.1, &[0.0; 6], 3, &mut value, &mut sum);
        assert_eq!((value, sum), (vec![1.0; 6], vec![0.0; 6]));
    }
}
