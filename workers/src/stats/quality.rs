//! Integer sums that give FVU, L0, cosine and reconstruction bias exactly, however rows are grouped.

use super::fixed::{COSINE_LOG2, FixedPoint, beyond, pow2, real, round_small, round_wide};

/// Rows whose coordinates fit into an i64 beside each other: 2^43 per coordinate, 2^20 rows.
const PENDING_ROWS_MAX: u32 = 1 << 19;

/// Sums over the rows of one split. `+` on all fields makes it a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QualitySums {
    /// Rows.
    pub rows: i64,
    /// Code pairs.
    pub nnz: i64,
    /// Fixed-point Σ‖x − x̂‖².
    pub sum_error_sq: i64,
    /// Fixed-point Σ‖x‖².
    pub sum_x_sq: i64,
    /// Fixed-point Σ x·x̂.
    pub sum_x_dot_x_hat: i64,
    /// Fixed-point Σ‖x̂‖².
    pub sum_x_hat_sq: i64,
    /// Fixed-point Σ cos(x, x̂), at [`COSINE_LOG2`].
    pub sum_cosine: i64,
    /// Fixed-point Σx, `[d_in]`.
    pub sum_x: Vec<i64>,
}

/// What the sums say, in f64. `None` where a figure is undefined (no rows, no variance).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean over exactly these rows
    /// (SAELens `ExplainedVarianceCalculator`; not the mean of per-batch ratios).
    pub fvu: Option<f64>,
    /// Mean code pairs per row.
    pub l0: Option<f64>,
    /// Mean cos(x, x̂).
    pub cosine: Option<f64>,
    /// E‖x̂‖² / E[x·x̂] (arXiv 2404.16014, Eq. 10): below 1 where reconstructions shrink.
    pub relative_reconstruction_bias: Option<f64>,
}

impl QualitySums {
    /// The sums of no rows.
    pub fn zero(d_in: usize) -> Self {
        QualitySums { sum_x: vec![0; d_in], ..QualitySums::default() }
    }

    /// Both together; `None` if a sum leaves 64 bits.
    pub fn checked_add(&self, other: &QualitySums) -> Option<QualitySums> {
        let sum_x =
            self.sum_x.iter().zip(&other.sum_x).map(|(a, b)| a.checked_add(*b)).collect::<Option<_>>()?;
        Some(QualitySums {
            rows: self.rows.checked_add(other.rows)?,
            nnz: self.nnz.checked_add(other.nnz)?,
            sum_error_sq: self.sum_error_sq.checked_add(other.sum_error_sq)?,
            sum_x_sq: self.sum_x_sq.checked_add(other.sum_x_sq)?,
            sum_x_dot_x_hat: self.sum_x_dot_x_hat.checked_add(other.sum_x_dot_x_hat)?,
            sum_x_hat_sq: self.sum_x_hat_sq.checked_add(other.sum_x_hat_sq)?,
            sum_cosine: self.sum_cosine.checked_add(other.sum_cosine)?,
            sum_x,
        })
    }

    /// Σ‖x − x̄‖² = Σ‖x‖² − ‖Σx‖²/n, in input units.
    pub fn variance(&self, fixed: FixedPoint) -> f64 {
        let norm_of_sum: f64 = self.sum_x.iter().map(|&q| real(q, fixed.value_log2).powi(2)).sum();
        real(self.sum_x_sq, fixed.row_square_log2()) - norm_of_sum / self.rows.max(1) as f64
    }

    /// The figures these sums give.
    pub fn figures(&self, fixed: FixedPoint) -> Figures {
        let rows = (self.rows > 0).then_some(self.rows as f64);
        let variance = self.variance(fixed);
        let error = real(self.sum_error_sq, fixed.row_square_log2());
        let dot = self.sum_x_dot_x_hat as f64;
        Figures {
            fvu: (rows.is_some() && variance > 0.0).then(|| error / variance),
            l0: rows.map(|n| self.nnz as f64 / n),
            cosine: rows.map(|n| real(self.sum_cosine, COSINE_LOG2) / n),
            relative_reconstruction_bias: (dot != 0.0).then(|| self.sum_x_hat_sq as f64 / dot),
        }
    }
}

/// Adds rows up in wider integers than the result has, so that only the result can overflow.
#[derive(Debug)]
pub(crate) struct QualityAccumulator {
    value_scale: f64,
    square_scale: f64,
    rows: i64,
    nnz: i64,
    wide: [i128; 5],
    sum_x: Vec<i128>,
    /// Sums since the last flush: i64, because that vectorises.
    pending: Vec<i64>,
    pending_rows: u32,
    overflow: bool,
}

impl QualityAccumulator {
    pub(crate) fn new(d_in: usize, fixed: FixedPoint) -> Self {
        QualityAccumulator {
            value_scale: pow2(fixed.value_log2),
            square_scale: pow2(fixed.row_square_log2()),
            rows: 0,
            nnz: 0,
            wide: [0; 5],
            sum_x: vec![0; d_in],
            pending: vec![0; d_in],
            pending_rows: 0,
            overflow: false,
        }
    }

    /// One row: `x` and `x_hat` are `[d_in]`.
    pub(crate) fn add_row(&mut self, x: &[f32], x_hat: &[f32], nnz: usize) {
        self.add_products(products(x, x_hat), nnz);
        self.add_coordinates(x);
    }

    /// ‖x−x̂‖², ‖x‖², x·x̂ and ‖x̂‖² of one row, in input units.
    pub(crate) fn add_products(&mut self, [error, xx, dot, yy]: [f64; 4], nnz: usize) {
        let norms = (xx * yy).sqrt();
        let cosine = if norms > 0.0 { dot / norms } else { 0.0 };
        self.rows += 1;
        self.nnz += nnz as i64;
        for (wide, value) in self.wide.iter_mut().zip([error, xx, dot, yy]) {
            *wide += round_wide(value * self.square_scale);
        }
        self.wide[4] += round_wide(cosine * pow2(COSINE_LOG2));
        self.overflow |= beyond(xx.sqrt() * self.value_scale);
    }

    /// Fixed-point Σx over some rows.
    pub(crate) fn add_sum_x(&mut self, sum_x: &[i64]) {
        self.sum_x.iter_mut().zip(sum_x).for_each(|(total, &sum)| *total += i128::from(sum));
    }

    fn add_coordinates(&mut self, x: &[f32]) {
        for (sum, &coordinate) in self.pending.iter_mut().zip(x) {
            *sum = sum.wrapping_add(round_small(f64::from(coordinate) * self.value_scale));
        }
        self.pending_rows += 1;
        if self.pending_rows == PENDING_ROWS_MAX {
            self.flush();
        }
    }

    fn flush(&mut self) {
        for (total, pending) in self.sum_x.iter_mut().zip(&mut self.pending) {
            *total += i128::from(std::mem::take(pending));
        }
        self.pending_rows = 0;
    }

    /// The sums; `None` if a row or a sum is out of range.
    pub(crate) fn finish(mut self) -> Option<QualitySums> {
        self.flush();
        let narrow = |wide: i128| i64::try_from(wide).ok();
        (!self.overflow).then_some(())?;
        Some(QualitySums {
            rows: self.rows,
            nnz: self.nnz,
            sum_error_sq: narrow(self.wide[0])?,
            sum_x_sq: narrow(self.wide[1])?,
            sum_x_dot_x_hat: narrow(self.wide[2])?,
            sum_x_hat_sq: narrow(self.wide[3])?,
            sum_cosine: narrow(self.wide[4])?,
            sum_x: self.sum_x.into_iter().map(narrow).collect::<Option<_>>()?,
        })
    }
}

/// ‖x−x̂‖², ‖x‖², x·x̂ and ‖x̂‖² of one row in f64. Four running sums each, added in a fixed order:
/// the result depends on the row alone, and the loop vectorises.
fn products(x: &[f32], x_hat: &[f32]) -> [f64; 4] {
    let mut lanes = [[0f64; 4]; 4];
    let (x4, x_rest) = x.as_chunks::<4>();
    let (y4, y_rest) = x_hat.as_chunks::<4>();
    for (x, y) in x4.iter().zip(y4) {
        for lane in 0..4 {
            add_product(&mut lanes, lane, x[lane], y[lane]);
        }
    }
    for (lane, (&x, &y)) in x_rest.iter().zip(y_rest).enumerate() {
        add_product(&mut lanes, lane, x, y);
    }
    lanes.map(|[a, b, c, d]| (a + b) + (c + d))
}

#[inline(always)]
fn add_product(lanes: &mut [[f64; 4]; 4], lane: usize, x: f32, y: f32) {
    let (x, y) = (f64::from(x), f64::from(y));
    let error = x - y;
    lanes[0][lane] += error * error;
    lanes[1][lane] += x * x;
    lanes[2][lane] += x * y;
    lanes[3][lane] += y * y;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    fn rows(n: usize, d: usize, seed: u64) -> Vec<f32> {
        (0..n * d).map(|i| (unit(hash(&[seed, i as u64])) * 2.0 - 0.8) as f32).collect()
    }

    fn accumulate(x: &[f32], y: &[f32], d: usize, fixed: FixedPoint) -> QualitySums {
        let mut sums = QualityAccumulator::new(d, fixed);
        for (x, y) in x.chunks(d).zip(y.chunks(d)) {
            sums.add_row(x, y, 3);
        }
        sums.finish().unwrap()
    }

    #[test]
    fn figures_equal_the_slow_definition() {
        let (n, d) = (500, 13);
        let (x, noise) = (rows(n, d, 1), rows(n, d, 2));
        let y: Vec<f32> = x.iter().zip(&noise).map(|(x, e)| 0.9 * x + 0.2 * e).collect();
        let fixed = FixedPoint::from_rms_norm(2.0);
        let figures = accumulate(&x, &y, d, fixed).figures(fixed);
        let at = |v: &[f32], r: usize, c: usize| f64::from(v[r * d + c]);
        let mean: Vec<f64> = (0..d).map(|c| (0..n).map(|r| at(&x, r, c)).sum::<f64>() / n as f64).collect();
        let sum = |f: &dyn Fn(usize, usize) -> f64| -> f64 {
            (0..n).map(|r| (0..d).map(|c| f(r, c)).sum::<f64>()).sum()
        };
        let fvu = sum(&|r, c| (at(&x, r, c) - at(&y, r, c)).powi(2))
            / sum(&|r, c| (at(&x, r, c) - mean[c]).powi(2));
        let bias = sum(&|r, c| at(&y, r, c).powi(2)) / sum(&|r, c| at(&x, r, c) * at(&y, r, c));
        let cosine = (0..n)
            .map(|r| {
                let dot = |a: &[f32], b: &[f32]| (0..d).map(|c| at(a, r, c) * at(b, r, c)).sum::<f64>();
                dot(&x, &y) / (dot(&x, &x) * dot(&y, &y)).sqrt()
            })
            .sum::<f64>()
            / n as f64;
        assert!((figures.fvu.unwrap() - fvu).abs() < 1e-6 * fvu);
        assert!((figures.relative_reconstruction_bias.unwrap() - bias).abs() < 1e-6);
        assert!((figures.cosine.unwrap() - cosine).abs() < 1e-8);
        assert_eq!(figures.l0, Some(3.0));
    }

    #[test]
    fn halves_add_up_to_the_whole() {
        let (d, fixed) = (7, FixedPoint::from_rms_norm(1.0));
        let (x, y) = (rows(100, d, 3), rows(100, d, 4));
        let whole = accumulate(&x, &y, d, fixed);
        let first = accumulate(&x[..33 * d], &y[..33 * d], d, fixed);
        let rest = accumulate(&x[33 * d..], &y[33 * d..], d, fixed);
        assert_eq!(first.checked_add(&rest), Some(whole));
    }

    #[test]
    fn perfect_and_empty_cases() {
        let fixed = FixedPoint::from_rms_norm(1.0);
        assert_eq!(QualitySums::zero(3).figures(fixed), Figures::default());
        let x = rows(50, 3, 5);
        let figures = accumulate(&x, &x, 3, fixed).figures(fixed);
        assert_eq!(figures.fvu, Some(0.0));
        let zero = vec![0.0; 150];
        let none = accumulate(&x, &zero, 3, fixed).figures(fixed);
        assert!(none.fvu.unwrap() > 1.0 && none.relative_reconstruction_bias.is_none());
        let mut huge = QualityAccumulator::new(1, fixed);
        huge.add_row(&[1e38], &[0.0], 0);
        assert!(huge.finish().is_none());
    }
}
