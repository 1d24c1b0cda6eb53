//! Random rotations: the same vectors without an axis that is special.

use crate::{
    kernels::{Path, product::Panels, vector},
    random::{hash, unit},
};

/// Stream of the random numbers used here.
const STREAM: u64 = 0x524f_5441;

/// Gaussian rows made orthonormal one after the other (Gram–Schmidt, twice), `[d, d]`.
pub fn random(d: usize, seed: u64) -> Vec<f32> {
    let mut axes: Vec<f64> = (0..d * d)
        .map(|i| (0..12).map(|t| unit(hash(&[seed, STREAM, 1, t, i as u64]))).sum::<f64>() - 6.0)
        .collect();
    for at in 0..2 * d {
        let (done, rest) = axes.split_at_mut(at / 2 * d);
        let Some(axis) = rest.get_mut(..d) else { break };
        for other in done.chunks_exact(d) {
            vector::axpy(-vector::dot(other, axis), other, axis);
        }
        vector::normalize(axis);
    }
    #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
    axes.into_iter().map(|v| v as f32).collect()
}

/// `x·rotationᵀ`, `[rows, d]`; `x` itself without a rotation. Runs on the current rayon pool.
pub fn apply(path: Path, rotation: Option<&[f32]>, d: usize, x: Vec<f32>) -> Vec<f32> {
    let Some(rotation) = rotation else { return x };
    let mut out = vec![0f32; x.len()];
    Panels::of_rows(rotation, d).times(path, &x, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_lengths() {
        let (d, x) = (20, vec![0.5f32; 40]);
        let rotation = random(d, 3);
        let turned = apply(Path::best(), Some(&rotation), d, x.clone());
        assert!((vector::dot(&turned[..d], &turned[..d]) - vector::dot(&x[..d], &x[..d])).abs() < 1e-5);
        for (i, a) in rotation.chunks(d).enumerate() {
            for (j, b) in rotation.chunks(d).enumerate() {
                assert!((vector::dot(a, b) - f32::from(u8::from(i == j))).abs() < 1e-5);
            }
        }
    }
}
