//! Rows to measure with: from shards, or made up.

use atomflow_pipeline::{Error, Result, run};
use atomflow_workers::random::{hash, unit};

use super::Shape;

/// Rows of several batches, scaled to a mean squared norm of 1.
pub(super) struct Rows {
    /// Width of the vectors.
    pub(super) d_in: usize,
    /// `[rows, d_in]`.
    pub(super) x: Vec<f32>,
    batch: usize,
}

/// Batches that are told apart; steps go round them.
const BATCHES: usize = 4;

impl Rows {
    /// What the shape asks for.
    pub(super) fn new(shape: &Shape) -> Result<Rows> {
        let wanted = shape.batch.max(1) * BATCHES;
        let (d_in, mut x) = match &shape.data {
            Some(url) => run::rows(url, wanted)?,
            None => (shape.d, planted(wanted, shape.d)),
        };
        if x.len() < shape.batch * d_in {
            let there = x.len() / d_in.max(1);
            return Err(Error::spec(format!(
                "the shards hold {there} rows, less than one batch of {}",
                shape.batch
            ))
            .field("--batch"));
        }
        unit_rms(&mut x, d_in);
        Ok(Rows { d_in, x, batch: shape.batch })
    }

    /// Batch `number`, round and round.
    pub(super) fn batch(&self, number: usize) -> &[f32] {
        let len = self.batch * self.d_in;
        let batches = self.x.len() / len;
        &self.x[number % batches * len..][..len]
    }
}

fn unit_rms(x: &mut [f32], d_in: usize) {
    let squares: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    let rms = (squares / (x.len() / d_in.max(1)).max(1) as f64).sqrt();
    #[allow(clippy::cast_possible_truncation, reason = "activations are f32")]
    let scale = if rms > 0.0 { (1.0 / rms) as f32 } else { 1.0 };
    x.iter_mut().for_each(|v| *v *= scale);
}

/// Directions a made-up row is put together from, per dimension.
const DIRECTIONS_PER_DIMENSION: usize = 2;
/// Directions in one row.
const ACTIVE: usize = 16;

/// Sums of a few of many directions, with noise: what a dictionary can learn.
fn planted(rows: usize, d: usize) -> Vec<f32> {
    let directions: Vec<f32> =
        (0..d * d * DIRECTIONS_PER_DIMENSION).map(|i| signed(&[1, i as u64])).collect();
    let mut x = Vec::with_capacity(rows * d);
    for row in 0..rows as u64 {
        let first = x.len();
        x.extend((0..d as u64).map(|i| 0.3 * signed(&[2, row, i])));
        for active in 0..ACTIVE as u64 {
            let draw = hash(&[3, row, active]);
            // Squared: some directions are common, most are rare.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let which = (unit(draw).powi(2) * (d * DIRECTIONS_PER_DIMENSION) as f64) as usize;
            #[allow(clippy::cast_possible_truncation, reason = "activations are f32")]
            let size = (0.5 + unit(hash(&[4, row, active]))) as f32;
            let direction = &directions[which * d..][..d];
            x[first..].iter_mut().zip(direction).for_each(|(x, &v)| *x += size * v);
        }
    }
    x
}

/// Uniform in [−1, 1).
fn signed(words: &[u64]) -> f32 {
    #[allow(clippy::cast_possible_truncation, reason = "activations are f32")]
    let value = (2.0 * unit(hash(words)) - 1.0) as f32;
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_rows_have_unit_mean_square_norm_and_go_round() {
        let shape = Shape { d: 12, n: 24, k: 2, batch: 10, threads: 1, data: None, warmup: 0, rounds: 1 };
        let rows = Rows::new(&shape).unwrap();
        let squares: f32 = rows.x.iter().map(|v| v * v).sum();
        assert!((squares / (10 * BATCHES) as f32 - 1.0).abs() < 1e-3);
        assert_eq!(rows.batch(1), rows.batch(1 + BATCHES));
        assert_ne!(rows.batch(0), rows.batch(1));
    }
}
