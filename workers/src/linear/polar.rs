//! Polar factors and square roots of `[n, n]` matrices in f64, by Newton–Schulz iterations: products
//! alone, so they run at the speed of products (Higham, *Functions of Matrices*, 2008, §5.3 and §8.3).

use super::product::{gram, square, transpose};
use crate::kernels::Path;

/// `1.5ᵗ` after this many rounds brings up singular values 1e-10 times the largest.
const MOST_ROUNDS: usize = 80;
/// Largest deviation from the identity that counts as rounding.
const TOLERANCE: f64 = 1e-13;

/// The orthogonal polar factor `UVᵀ` of `g = UΣVᵀ`: the orthogonal matrix with the largest product
/// with `g`. Directions in which `g` is singular stay unfinished; a matrix of zeros stays zero.
pub fn polar(path: Path, g: &[f64], n: usize) -> Vec<f64> {
    let mut x = divided(g, spectral_norm(g, n));
    for _ in 0..MOST_ROUNDS {
        let xx = gram(path, &x, n);
        if off_identity(&xx, n) <= TOLERANCE * n as f64 {
            break;
        }
        x = square(path, &three_minus(&xx, n), &x, n);
    }
    x
}

/// `c^{1/2}` and `c^{−1/2}` of a symmetric positive definite `c`.
pub fn roots(path: Path, c: &[f64], n: usize) -> (Vec<f64>, Vec<f64>) {
    let norm = spectral_norm(c, n);
    let (mut y, mut z) = (divided(c, norm), identity(n));
    for _ in 0..MOST_ROUNDS {
        let zy = square(path, &z, &y, n);
        if off_identity(&zy, n) <= TOLERANCE * n as f64 {
            break;
        }
        let t = three_minus(&zy, n);
        (y, z) = (square(path, &y, &t, n), square(path, &t, &z, n));
    }
    let root = norm.sqrt();
    (y.iter().map(|v| v * root).collect(), divided(&z, root))
}

/// The identity, `[n, n]`.
pub fn identity(n: usize) -> Vec<f64> {
    (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect()
}

/// `(3·I − m)/2`.
fn three_minus(m: &[f64], n: usize) -> Vec<f64> {
    m.iter().enumerate().map(|(i, v)| if i % (n + 1) == 0 { 1.5 - 0.5 * v } else { -0.5 * v }).collect()
}

fn divided(m: &[f64], by: f64) -> Vec<f64> {
    m.iter().map(|v| if by > 0.0 { v / by } else { 0.0 }).collect()
}

fn off_identity(m: &[f64], n: usize) -> f64 {
    let off = |(i, v): (usize, &f64)| (v - f64::from(u8::from(i % (n + 1) == 0))).abs();
    m.iter().enumerate().map(off).fold(0.0, f64::max)
}

/// By 16 power iterations from the longest row: a little too small, which the iterations forgive, as
/// they converge from anything below `√3`.
fn spectral_norm(g: &[f64], n: usize) -> f64 {
    let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
    let longest = |a: &&[f64], b: &&[f64]| norm(a).total_cmp(&norm(b));
    let mut v = g.chunks(n.max(1)).max_by(longest).unwrap_or_default().to_vec();
    let (turned, mut size) = (transpose(g, n), 0.0);
    for _ in 0..16 {
        let length = norm(&v);
        v.iter_mut().for_each(|v| *v /= length.max(f64::MIN_POSITIVE));
        let u = times(g, &v, n);
        size = norm(&u);
        v = times(&turned, &u, n);
    }
    size
}

fn times(m: &[f64], v: &[f64], n: usize) -> Vec<f64> {
    m.chunks(n.max(1)).map(|row| row.iter().zip(v).map(|(a, b)| a * b).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    fn random(n: usize, seed: u64) -> Vec<f64> {
        (0..n * n).map(|i| unit(hash(&[seed, i as u64])) - 0.5).collect()
    }

    fn close(a: &[f64], b: &[f64], within: f64) {
        let off = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < within, "off by {off}");
    }

    #[test]
    fn the_polar_factor_is_orthogonal_and_leaves_a_positive_root() {
        for n in [1, 5, 40] {
            let g = random(n, 1);
            let u = polar(Path::best(), &g, n);
            close(&gram(Path::best(), &u, n), &identity(n), 1e-12);
            // g = H·u with H symmetric positive definite.
            let h = square(Path::best(), &g, &transpose(&u, n), n);
            close(&h, &transpose(&h, n), 1e-9);
            assert!((0..n).all(|i| h[i * n + i] > 0.0));
        }
        assert_eq!(polar(Path::best(), &[0.0; 4], 2), [0.0; 4]);
    }

    #[test]
    fn roots_multiply_back() {
        let n = 12;
        let mut c = gram(Path::best(), &random(n, 2), n);
        (0..n).for_each(|i| c[i * n + i] += 1e-3);
        let (root, inverse) = roots(Path::best(), &c, n);
        close(&square(Path::best(), &root, &root, n), &c, 1e-11);
        close(&square(Path::best(), &root, &inverse, n), &identity(n), 1e-8);
    }
}
