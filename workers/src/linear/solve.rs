//! Solves with a symmetric positive definite matrix, by Cholesky's factorisation in f64.

use rayon::prelude::*;

use crate::kernels::{Path, simd::Kernel, vector};

/// Columns of the right side one task solves for.
const BLOCK_COLUMNS: usize = 64;

/// `a = l·lᵀ`.
#[derive(Debug, Clone)]
pub struct Factor {
    n: usize,
    l: Vec<f64>,
}

impl Factor {
    /// Of `a`, `[n, n]`, symmetric; `None` if a pivot is not positive.
    pub fn of(path: Path, a: &[f64], n: usize) -> Option<Self> {
        path.run(Factorise { l: a.to_vec(), n })
    }

    /// `log det a`.
    pub fn log_det(&self) -> f64 {
        2.0 * (0..self.n).map(|i| self.l[i * self.n + i].ln()).sum::<f64>()
    }

    /// `a⁻¹·b` into `b`, `[n, m]`.
    pub fn solve(&self, path: Path, b: &[f64], m: usize) -> Vec<f64> {
        let starts: Vec<usize> = (0..m).step_by(BLOCK_COLUMNS).collect();
        let part = |&at: &usize| {
            let width = BLOCK_COLUMNS.min(m - at);
            let columns = b.chunks_exact(m).flat_map(|row| &row[at..at + width]).copied().collect();
            path.run(Substitute { factor: self, b: columns, m: width })
        };
        let parts: Vec<Vec<f64>> = starts.par_iter().map(part).collect();
        let row = |i: usize| parts.iter().flat_map(move |p| &p[p.len() / self.n * i..][..p.len() / self.n]);
        (0..self.n).flat_map(row).copied().collect()
    }
}

struct Factorise {
    l: Vec<f64>,
    n: usize,
}

impl Kernel for Factorise {
    type Output = Option<Factor>;

    #[inline(always)]
    fn run(mut self) -> Option<Factor> {
        let n = self.n;
        for i in 0..n {
            let (above, row) = self.l.split_at_mut(i * n);
            for j in 0..i {
                let other = &above[j * n..][..n];
                row[j] = (row[j] - vector::dot(&row[..j], &other[..j])) / other[j];
            }
            let pivot = row[i] - vector::dot(&row[..i], &row[..i]);
            if pivot.is_nan() || pivot <= 0.0 {
                return None;
            }
            row[i] = pivot.sqrt();
            row[i + 1..n].fill(0.0);
        }
        Some(Factor { n, l: self.l })
    }
}

struct Substitute<'a> {
    factor: &'a Factor,
    b: Vec<f64>,
    m: usize,
}

impl Kernel for Substitute<'_> {
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(mut self) -> Vec<f64> {
        let (n, m, l) = (self.factor.n, self.m, &self.factor.l);
        for i in 0..n {
            let (done, rest) = self.b.split_at_mut(i * m);
            for j in 0..i {
                vector::axpy(-l[i * n + j], &done[j * m..][..m], &mut rest[..m]);
            }
            vector::scale(1.0 / l[i * n + i], &mut rest[..m]);
        }
        for i in (0..n).rev() {
            let (rest, done) = self.b.split_at_mut((i + 1) * m);
            let row = &mut rest[i * m..];
            for j in i + 1..n {
                vector::axpy(-l[j * n + i], &done[(j - i - 1) * m..][..m], row);
            }
            vector::scale(1.0 / l[i * n + i], row);
        }
        self.b
    }
}

/// `(a + εI)⁻¹(b + ε·old)`, `[n, m]`, with ε a billionth of the mean diagonal of `a`: rows nothing is
/// known about keep their old values.
pub fn ridge_solve(path: Path, a: &[f64], b: &[f64], old: &[f64], n: usize) -> Vec<f64> {
    let trace: f64 = (0..n).map(|i| a[i * n + i]).sum();
    let mut epsilon = 1e-9 * (trace / n.max(1) as f64).max(f64::MIN_POSITIVE);
    // Rounding can leave a singular sum of squares slightly indefinite: then a little more.
    for _ in 0..6 {
        let mut damped = a.to_vec();
        (0..n).for_each(|i| damped[i * n + i] += epsilon);
        if let Some(factor) = Factor::of(path, &damped, n) {
            let right: Vec<f64> = b.iter().zip(old).map(|(b, old)| b + epsilon * old).collect();
            return factor.solve(path, &right, b.len() / n.max(1));
        }
        epsilon *= 10.0;
    }
    old.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linear::product::{gram, square};

    #[test]
    fn solves_and_knows_the_determinant() {
        let (n, m) = (9, 70);
        let rows: Vec<f64> = (0..n * 12).map(|i| ((i * i * 7 + 3 * i) % 23) as f64 / 7.0 - 1.5).collect();
        let a = gram(Path::best(), &rows, 12);
        let x: Vec<f64> = (0..n * m).map(|i| (i % 13) as f64 - 6.0).collect();
        let b = crate::linear::product::product(
            Path::best(),
            &a,
            &crate::linear::product::Panels::of_columns(&x, m),
        );
        let factor = Factor::of(Path::best(), &a, n).unwrap();
        let found = factor.solve(Path::best(), &b, m);
        assert!(found.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-9));
        let l_lt = square(Path::best(), &factor.l, &crate::linear::product::transpose(&factor.l, n), n);
        assert!(l_lt.iter().zip(&a).all(|(p, q)| (p - q).abs() < 1e-10));
        assert!(Factor::of(Path::best(), &[1.0, 2.0, 2.0, 1.0], 2).is_none());
        let small = Factor::of(Path::best(), &[4.0, 1.0, 1.0, 3.0], 2).unwrap();
        assert!((small.log_det() - 11f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn what_nothing_is_known_about_stays() {
        let found = ridge_solve(Path::best(), &[2.0, 0.0, 0.0, 0.0], &[4.0, 0.0], &[9.0, 5.0], 2);
        assert!((found[0] - 2.0).abs() < 1e-6 && (found[1] - 5.0).abs() < 1e-9, "{found:?}");
    }
}
