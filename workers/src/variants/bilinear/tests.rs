//! The bilinear loss against golden numbers, the direct form and differences, in f64.

use super::*;
use crate::{kernels::vector::dot, toys::golden};

const D: usize = 6;

fn setting() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut x: Vec<f64> = golden(1, 30).iter().map(|v| 1.5 * v).collect();
    x.chunks_mut(D).for_each(vector::normalize);
    let half = |t| golden(t, 72).iter().map(|v| 0.5 * v).collect();
    (x, half(15), half(16))
}

fn evaluate(x: &[f64], left: &[f64], right: &[f64], alpha: f64) -> gradient::Gradient<f64> {
    let features = Features::of(Path::best(), x, D, (left, right));
    let problem = Problem { path: Path::best(), lanes: &[0, 2, 5], x, d: D, left, right, alpha };
    problem.gradient(&features)
}

#[test]
fn golden_numbers() {
    let (x, left, right) = setting();
    let found = evaluate(&x, &left, &right, 0.0);
    let close = |found: f64, golden: f64, within: f64| {
        assert!((found - golden).abs() <= within, "{found:.10} is not {golden}");
    };
    close(found.loss, 0.883_761_015_1, 6e-11);
    close(dot(&found.left, &found.left).sqrt(), 0.179_650_51, 6e-9);
    close(found.left[0], 0.003_037_59, 6e-9);
    close(dot(&found.right, &found.right).sqrt(), 0.161_191_01, 6e-9);
    close(found.right[0], 0.006_397_33, 6e-9);
}

/// `‖xxᵀ − Σ f·l·rᵀ‖²` written down with d² numbers.
#[test]
fn the_kernel_form_is_the_direct_form() {
    let (x, left, right) = setting();
    let direct = |row: &[f64]| {
        let mut error: Vec<f64> = (0..D * D).map(|i| row[i / D] * row[i % D]).collect();
        for (l, r) in left.chunks(D).zip(right.chunks(D)) {
            let f = dot(row, l) * dot(row, r);
            error.iter_mut().enumerate().for_each(|(i, e)| *e -= f * l[i / D] * r[i % D]);
        }
        dot(&error, &error)
    };
    let mean = x.chunks(D).map(direct).sum::<f64>() / 5.0;
    let found = evaluate(&x, &left, &right, 0.0).loss;
    assert!((found - mean).abs() < 1e-12, "{found} is not {mean}");
}

#[test]
fn gradients_are_central_differences_with_the_density() {
    let (x, left, right) = setting();
    let found = evaluate(&x, &left, &right, 0.3);
    let moved = |values: &[f64], i: usize, by: f64| {
        let mut values = values.to_vec();
        values[i] += by;
        values
    };
    for i in 0..72 {
        let slope = |of: &dyn Fn(f64) -> f64| (of(1e-6) - of(-1e-6)) / 2e-6;
        let by_left = slope(&|by| evaluate(&x, &moved(&left, i, by), &right, 0.3).loss);
        let by_right = slope(&|by| evaluate(&x, &left, &moved(&right, i, by), 0.3).loss);
        assert!((by_left - found.left[i]).abs() < 1e-7, "left {i}: {} is not {by_left}", found.left[i]);
        assert!((by_right - found.right[i]).abs() < 1e-7, "right {i}: {} is not {by_right}", found.right[i]);
    }
}

/// One orthonormal basis on both sides: features are squared projections, and what is lost is what
/// lies between different directions.
#[test]
fn an_orthonormal_basis_loses_what_is_off_the_diagonal() {
    let (x, _, _) = setting();
    let basis = crate::linear::polar::polar(Path::best(), &golden(7, 36), D);
    let found = evaluate(&x, &basis, &basis, 0.0).loss;
    let features = Features::of(Path::best(), &x, D, (&basis, &basis));
    let off_diagonal = |row: &[f64]| {
        let squares: Vec<f64> = basis.chunks(D).map(|l| dot(row, l).powi(2)).collect();
        squares.iter().sum::<f64>().powi(2) - dot(&squares, &squares)
    };
    assert!((found - x.chunks(D).map(off_diagonal).sum::<f64>() / 5.0).abs() < 1e-12);
    assert!((features.f[3] - dot(&x[..D], &basis[3 * D..][..D]).powi(2)).abs() < 1e-14);
}

/// A direction that is a latent comes back from its code alone, up to sign, and with x exactly.
#[test]
fn a_row_along_one_latent_is_reconstructed() {
    let mut left = vec![0f32; 2 * 4];
    (left[0], left[5]) = (1.0, 1.0);
    let frozen = FrozenBilinear {
        d: 4,
        k: 1,
        left: left.clone(),
        right: left.clone(),
        atoms: left,
        threads: Threads::new(1).unwrap(),
    };
    let x = [-3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0];
    let codes = frozen.encode(&x);
    assert_eq!((codes.latents.clone(), codes.values.clone()), (vec![0, 1], vec![3.0, 2.0]));
    let mut x_hat = [0f32; 8];
    frozen.decode(&codes, &mut x_hat);
    assert_eq!(x_hat, [3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    frozen.reconstruct(&x, &codes, &mut x_hat);
    assert_eq!(x_hat, x);
}
