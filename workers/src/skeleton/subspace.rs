//! The subspace that activations really use: principal directions of a sample.

use rayon::prelude::*;

use crate::linear::eigen;

/// Share of the variance that the directions hold together, where no dimension is given.
const VARIANCE: f64 = 0.99;
/// Rows of the sample that are looked at: eight per dimension of a wide model are plenty.
const ROWS_MAX: usize = 16_384;
/// Rows of a task; their sums are added in block order.
const BLOCK_ROWS: usize = 512;

/// Orthonormal principal directions of `sample`, `[rows, d]`, strongest first: `d_active` of them, or as
/// many as hold 99 % of the variance. At least one.
pub fn active_subspace(sample: &[f32], d: usize, d_active: Option<usize>) -> Vec<Vec<f32>> {
    let sample = &sample[..sample.len().min(ROWS_MAX * d)];
    let pairs = eigen::symmetric(&covariance(sample, d), d);
    let total: f64 = pairs.iter().map(|(value, _)| value.max(0.0)).sum();
    let mut held = 0.0;
    let enough = |(value, _): &&eigen::Pair| {
        let more = held < VARIANCE * total;
        held += value.max(0.0);
        more
    };
    let by_variance = pairs.iter().take_while(enough).count();
    let dimension = d_active.unwrap_or(by_variance).clamp(1, d);
    #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
    let narrow = |(_, vector): eigen::Pair| vector.into_iter().map(|v| v as f32).collect();
    pairs.into_iter().take(dimension).map(narrow).collect()
}

/// `Σ (x − x̄)(x − x̄)ᵀ`, `[d, d]`.
fn covariance(sample: &[f32], d: usize) -> Vec<f64> {
    let rows = (sample.len() / d.max(1)).max(1) as f64;
    let blocks: Vec<(Vec<f64>, Vec<f64>)> =
        sample.par_chunks(BLOCK_ROWS * d).map(|rows| sums(rows, d)).collect();
    let (mut mean, mut products) = (vec![0f64; d], vec![0f64; d * d]);
    for (sum, product) in blocks {
        mean.iter_mut().zip(sum).for_each(|(total, v)| *total += v);
        products.iter_mut().zip(product).for_each(|(total, v)| *total += v);
    }
    for (i, row) in products.chunks_mut(d).enumerate() {
        row.iter_mut().zip(&mean).for_each(|(product, sum)| *product -= mean[i] * sum / rows);
    }
    products
}

/// `Σ x` and `Σ xxᵀ` of some rows.
fn sums(rows: &[f32], d: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut sum, mut products) = (vec![0f64; d], vec![0f64; d * d]);
    for row in rows.chunks_exact(d) {
        let row: Vec<f64> = row.iter().map(|&v| f64::from(v)).collect();
        sum.iter_mut().zip(&row).for_each(|(sum, v)| *sum += v);
        for (products, a) in products.chunks_mut(d).zip(&row) {
            products.iter_mut().zip(&row).for_each(|(product, b)| *product += a * b);
        }
    }
    (sum, products)
}
