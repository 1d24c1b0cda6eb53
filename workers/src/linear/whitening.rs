//! The mean of a sample and the roots of its covariance: what makes rows white, and undoes it.

use super::{
    polar::{identity, roots},
    product,
};
use crate::kernels::Path;

/// Mean of the sample, `[d]`, and the roots `C^{1/2}` and `C^{−1/2}` of its covariance, `[d, d]`, to whose
/// diagonal `ridge` times its mean is added. A sample without variance gives identities.
pub fn whitening(path: Path, sample: &[f32], d: usize, ridge: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let rows = sample.len() / d;
    let mut mean = vec![0f64; d];
    sample.chunks_exact(d).for_each(|row| mean.iter_mut().zip(row).for_each(|(m, &v)| *m += f64::from(v)));
    mean.iter_mut().for_each(|m| *m /= rows.max(1) as f64);
    let centred = centred(sample, &mean);
    let mut covariance = product::cross(path, &[0, rows], (&centred, d), (&centred, d));
    let variance = (0..d).map(|i| covariance[i * d + i]).sum::<f64>() / d as f64;
    if variance.is_nan() || variance <= 0.0 {
        return (mean, identity(d), identity(d));
    }
    (0..d).for_each(|i| covariance[i * d + i] += ridge * variance);
    covariance.iter_mut().for_each(|v| *v /= rows as f64);
    let (root, inverse) = roots(path, &covariance, d);
    (mean, root, inverse)
}

/// `x − mean`, row by row, in f64; `x` is `[rows, d]`, `mean` `[d]`.
pub fn centred(x: &[f32], mean: &[f64]) -> Vec<f64> {
    x.iter().zip(mean.iter().cycle()).map(|(&x, m)| f64::from(x) - m).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{linear::product::Panels, toys::normal};

    #[test]
    fn white_rows_have_the_identity_as_their_covariance() {
        let (rows, d) = (400, 5);
        let x: Vec<f32> =
            (0..rows * d).map(|i| (normal(&[i as u64]) * (1.0 + (i % d) as f64) + 3.0) as f32).collect();
        let (mean, root, inverse) = whitening(Path::best(), &x, d, 1e-12);
        let white = product::product(Path::best(), &centred(&x, &mean), &Panels::of_columns(&inverse, d));
        let covariance = product::cross(Path::best(), &[0, rows], (&white, d), (&white, d));
        for (i, v) in covariance.iter().enumerate() {
            let expected = if i % (d + 1) == 0 { rows as f64 } else { 0.0 };
            assert!((v - expected).abs() < 1e-6, "{i}: {v}");
        }
        let back = product::product(Path::best(), &white, &Panels::of_columns(&root, d));
        assert!(back.iter().zip(centred(&x, &mean)).all(|(a, b)| (a - b).abs() < 1e-9));
        assert_eq!(whitening(Path::best(), &[], 2, 1e-3).1, identity(2));
    }
}
