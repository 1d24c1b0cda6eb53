//! Ridge regression of one number on vectors, in closed form, the penalty by cross-validation.
//!
//! Everything comes from sums over rows (`XᵀX`, `Xᵀy`, …): a fold is left out by subtraction.

use rayon::prelude::*;

use crate::kernels::{Path, simd::Kernel, vector};

/// Folds of the cross-validation: row `i` is in fold `i mod 5`.
const FOLDS: usize = 5;
/// Penalties to choose from (`hiyukie/adaptiveK`).
const PENALTIES: [f64; 6] = [0.01, 0.1, 1.0, 10.0, 100.0, 1000.0];

/// `y ≈ ⟨weights, x⟩ + intercept`.
#[derive(Debug, Clone, PartialEq)]
pub struct Ridge {
    /// `[d]`.
    pub weights: Vec<f64>,
    /// The constant.
    pub intercept: f64,
    /// What was chosen: the minimum is of `Σ(y − ŷ)² + penalty·‖weights‖²`.
    pub penalty: f64,
}

impl Ridge {
    /// Fits rows `x`, `[rows, d]`, to `y`, `[rows]`; the penalty with the least squared error on rows left
    /// out, the smallest of equals. `None` without rows. Runs on the current rayon pool.
    pub fn fit(path: Path, x: &[f32], d: usize, y: &[f32]) -> Option<Ridge> {
        if y.is_empty() {
            return None;
        }
        let folds: Vec<Sums> = (0..FOLDS).map(|fold| Sums::of(path, x, d, y, fold)).collect();
        let total = folds.iter().fold(Sums::zero(d), |total, fold| total.plus(fold, 1.0));
        let trials: Vec<(usize, f64)> =
            (0..FOLDS).flat_map(|fold| PENALTIES.map(|penalty| (fold, penalty))).collect();
        let error = |&(fold, penalty): &(usize, f64)| {
            let rest = total.plus(&folds[fold], -1.0);
            folds[fold].error(&rest.solve(path, penalty))
        };
        let errors: Vec<f64> = trials.par_iter().map(error).collect();
        let of = |i: usize| (0..FOLDS).map(|fold| errors[fold * PENALTIES.len() + i]).sum::<f64>();
        let best = (0..PENALTIES.len()).min_by(|&a, &b| of(a).total_cmp(&of(b)))?;
        Some(total.solve(path, PENALTIES[best]))
    }
}

/// Sums over rows that the closed form needs.
#[derive(Debug, Clone)]
struct Sums {
    rows: f64,
    x: Vec<f64>,
    y: f64,
    /// `[d, d]`, on and below the diagonal.
    xx: Vec<f64>,
    xy: Vec<f64>,
    yy: f64,
}

impl Sums {
    fn zero(d: usize) -> Self {
        Sums { rows: 0.0, x: vec![0.0; d], y: 0.0, xx: vec![0.0; d * d], xy: vec![0.0; d], yy: 0.0 }
    }

    fn of(path: Path, x: &[f32], d: usize, y: &[f32], fold: usize) -> Self {
        let mut sums = Sums::zero(d);
        let (mut rows, mut targets) = (Vec::new(), Vec::new());
        for (row, &y) in x.chunks_exact(d).zip(y).skip(fold).step_by(FOLDS) {
            rows.extend(row.iter().map(|&v| f64::from(v)));
            targets.push(f64::from(y));
        }
        for (row, &y) in rows.chunks_exact(d).zip(&targets) {
            vector::add(row, &mut sums.x);
            vector::axpy(y, row, &mut sums.xy);
            (sums.rows, sums.y, sums.yy) = (sums.rows + 1.0, sums.y + y, y.mul_add(y, sums.yy));
        }
        let gram = sums.xx.par_chunks_mut(d).enumerate();
        gram.for_each(|(i, out)| path.run(GramRow { rows: &rows, d, out: &mut out[..=i] }));
        sums
    }

    fn plus(&self, other: &Sums, sign: f64) -> Sums {
        let add = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| sign.mul_add(*b, *a)).collect();
        Sums {
            rows: sign.mul_add(other.rows, self.rows),
            x: add(&self.x, &other.x),
            y: sign.mul_add(other.y, self.y),
            xx: add(&self.xx, &other.xx),
            xy: add(&self.xy, &other.xy),
            yy: sign.mul_add(other.yy, self.yy),
        }
    }

    /// The minimum, about the mean of the rows.
    fn solve(&self, path: Path, penalty: f64) -> Ridge {
        let (d, rows) = (self.x.len(), self.rows.max(1.0));
        let mut gram = self.xx.clone();
        for i in 0..d {
            for j in 0..=i {
                gram[i * d + j] -= self.x[i] * self.x[j] / rows;
            }
            gram[i * d + i] += penalty;
        }
        let centred = |i: usize| self.xy[i] - self.x[i] * self.y / rows;
        let mut weights: Vec<f64> = (0..d).map(centred).collect();
        path.run(Solve { gram: &mut gram, b: &mut weights });
        let intercept = (self.y - vector::dot(&weights, &self.x)) / rows;
        Ridge { weights, intercept, penalty }
    }

    /// `Σ(y − ŷ)²` over these rows.
    fn error(&self, of: &Ridge) -> f64 {
        let (w, c, d) = (&of.weights, of.intercept, self.x.len());
        let quadratic: f64 = (0..d)
            .map(|i| w[i] * (2.0 * vector::dot(&self.xx[i * d..][..i], &w[..i]) + self.xx[i * d + i] * w[i]))
            .sum();
        let linear = c * vector::dot(w, &self.x) - vector::dot(w, &self.xy) - c * self.y;
        self.yy + quadratic + 2.0 * linear + c * c * self.rows
    }
}

/// `out[j] = Σ_rows x[i]·x[j]` for `j ≤ i`, i the last.
struct GramRow<'a> {
    rows: &'a [f64],
    d: usize,
    out: &'a mut [f64],
}

impl Kernel for GramRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let upto = self.out.len();
        for row in self.rows.chunks_exact(self.d) {
            vector::axpy(row[upto - 1], &row[..upto], self.out);
        }
    }
}

/// Solves `gram·w = b` for a positive definite matrix, of which the lower half is read: Cholesky in place.
struct Solve<'a> {
    gram: &'a mut [f64],
    b: &'a mut [f64],
}

impl Kernel for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let d = self.b.len();
        for i in 0..d {
            let (above, row) = self.gram.split_at_mut(i * d);
            for j in 0..i {
                let of_j = &above[j * d..][..=j];
                row[j] = (row[j] - vector::dot(&row[..j], &of_j[..j])) / of_j[j];
            }
            row[i] = (row[i] - vector::dot(&row[..i], &row[..i])).sqrt();
            self.b[i] = (self.b[i] - vector::dot(&row[..i], &self.b[..i])) / row[i];
        }
        for i in (0..d).rev() {
            self.b[i] /= self.gram[i * d + i];
            let (before, here) = self.b.split_at_mut(i);
            vector::axpy(-here[0], &self.gram[i * d..][..i], before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::normal;

    fn data(rows: usize, d: usize) -> (Vec<f32>, Vec<f32>) {
        let x: Vec<f32> = (0..rows * d).map(|i| normal(&[1, i as u64]) as f32).collect();
        let y = x.chunks(d).enumerate().map(|(r, row)| {
            let signal: f64 = row.iter().enumerate().map(|(c, &v)| f64::from(v) * (c as f64 - 3.0)).sum();
            (signal + 4.0 + 0.5 * normal(&[2, r as u64])) as f32
        });
        let y = y.collect();
        (x, y)
    }

    /// The normal equations hold: `Xᵀ(y − ŷ) = penalty·w`, `Σ(y − ŷ) = 0`.
    #[test]
    fn it_is_the_closed_form() {
        let (d, rows) = (17, 203);
        let (x, y) = data(rows, d);
        for path in Path::available() {
            let fit = Ridge::fit(path, &x, d, &y).unwrap();
            let residual = |r: usize| {
                let row = &x[r * d..][..d];
                let hat: f64 = row.iter().zip(&fit.weights).map(|(&x, w)| f64::from(x) * w).sum();
                f64::from(y[r]) - hat - fit.intercept
            };
            for c in 0..d {
                let pull: f64 = (0..rows).map(|r| f64::from(x[r * d + c]) * residual(r)).sum();
                assert!((pull - fit.penalty * fit.weights[c]).abs() < 1e-10, "{path:?} {c}: {pull}");
            }
            assert!((0..rows).map(residual).sum::<f64>().abs() < 1e-10);
            assert!((fit.intercept - 4.0).abs() < 0.2 && (fit.weights[16] - 13.0).abs() < 0.2);
        }
    }

    /// The error from sums equals the error row by row; noise in many directions asks for a large penalty.
    #[test]
    fn the_penalty_has_the_least_error_on_rows_left_out() {
        let (d, rows) = (40, 60);
        let x: Vec<f32> = (0..rows * d).map(|i| normal(&[3, i as u64]) as f32).collect();
        let y: Vec<f32> = (0..rows).map(|r| 0.1 * x[r * d] + normal(&[4, r as u64]) as f32).collect();
        let path = Path::best();
        let folds: Vec<Sums> = (0..FOLDS).map(|fold| Sums::of(path, &x, d, &y, fold)).collect();
        let total = folds.iter().fold(Sums::zero(d), |total, fold| total.plus(fold, 1.0));
        let slow = |penalty: f64| -> f64 {
            let of = |r: usize| {
                let fit = total.plus(&folds[r % FOLDS], -1.0).solve(path, penalty);
                let row = x[r * d..][..d].iter().zip(&fit.weights);
                let hat: f64 = row.map(|(&x, w)| f64::from(x) * w).sum();
                (f64::from(y[r]) - hat - fit.intercept).powi(2)
            };
            (0..rows).map(of).sum()
        };
        let best = Ridge::fit(path, &x, d, &y).unwrap().penalty;
        assert!(PENALTIES.iter().all(|&penalty| slow(best) <= slow(penalty) + 1e-9), "{best}");
        assert!(best >= 10.0, "{best}");
        assert!(Ridge::fit(path, &[], 4, &[]).is_none());
    }
}
