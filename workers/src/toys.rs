//! Data that tests of learners are made of: golden numbers, normal numbers, planted dictionaries.

use crate::{
    kernels::vector,
    random::{hash, unit},
};

/// methods.md §0.7: `u_t`, the first `len` numbers.
pub(crate) fn golden(t: u64, len: u64) -> Vec<f64> {
    let of = |n: u64| {
        let m = n + 1000 * t;
        ((m * m * 7919 + m * 104_729 + 12_345) % 65_537) as f64 / 32_768.5 - 1.0
    };
    (0..len).map(of).collect()
}

/// A standard normal number, a function of `words`.
pub(crate) fn normal(words: &[u64]) -> f64 {
    let (u, v) = (unit(hash(&[words, &[0]].concat())), unit(hash(&[words, &[1]].concat())));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// `n` unit-norm Gaussian atoms, `[n, d]`.
pub(crate) fn atoms(n: usize, d: usize, seed: u64) -> Vec<f32> {
    let mut atoms: Vec<f32> = (0..n * d).map(|i| normal(&[seed, i as u64]) as f32).collect();
    atoms.chunks_mut(d).for_each(vector::normalize);
    atoms
}

/// Rows of `k` of the atoms with coefficients in (0.5, 1.5), a random sign if `signed`, and `noise`.
pub(crate) fn mixed(
    atoms: &[f32],
    d: usize,
    (rows, k): (usize, usize),
    signed: bool,
    noise: f64,
    seed: u64,
) -> Vec<f32> {
    let n = atoms.len() / d;
    let mut x: Vec<f32> = (0..rows * d).map(|i| (noise * normal(&[2, seed, i as u64])) as f32).collect();
    for (r, row) in x.chunks_mut(d).enumerate() {
        let mut order: Vec<usize> = (0..n).collect();
        for i in 0..k {
            let word = |stream| hash(&[stream, seed, r as u64, i as u64]);
            order.swap(i, i + (word(3) % (n - i) as u64) as usize);
            let sign = if signed && word(5) % 2 == 0 { -1.0 } else { 1.0 };
            vector::axpy((sign * (0.5 + unit(word(4)))) as f32, &atoms[order[i] * d..][..d], row);
        }
    }
    x
}

/// Mean over planted atoms of the largest cosine (its magnitude, if `signed`) to a learned one.
pub(crate) fn mmcs(planted: &[f32], learned: &[f32], d: usize, signed: bool) -> f32 {
    let cosine = |a: &[f32], b: &[f32]| {
        let dot = vector::dot(a, b);
        if signed { dot.abs() } else { dot }
    };
    let best = |a: &[f32]| learned.chunks(d).map(|l| cosine(a, l)).fold(-1.0, f32::max);
    planted.chunks(d).map(best).sum::<f32>() / (planted.len() / d) as f32
}
