//! Directions of rows and how far they are from their reconstructions.

use rayon::prelude::*;

/// Rows over their lengths; rows of zeros stay.
pub(super) fn unit_rows(x: &[f32], d: usize) -> Vec<f32> {
    let mut y = x.to_vec();
    y.par_chunks_exact_mut(d).for_each(|row| {
        let length = square(row).sqrt();
        #[allow(clippy::cast_possible_truncation, reason = "activations are f32")]
        row.iter_mut().for_each(|v| *v = if length > 0.0 { (f64::from(*v) / length) as f32 } else { 0.0 });
    });
    y
}

/// `‖row‖²`, in f64.
pub(super) fn square(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum()
}

/// Mean over d_in of `(y − y_hat/‖y_hat‖)²`, `y_hat = y − residual`. What is not reconstructed at all
/// counts as opposite, 4/d_in; a row of zeros is no direction and has no error.
pub(super) fn direction_error(y: &[f32], residual: &[f32]) -> f64 {
    let y_hat = || y.iter().zip(residual).map(|(y, r)| f64::from(*y) - f64::from(*r));
    let length = y_hat().map(|v| v * v).sum::<f64>().sqrt();
    let d = y.len() as f64;
    match (length > 0.0, square(y) > 0.0) {
        (_, false) => 0.0,
        (false, _) => 4.0 / d,
        _ => y.iter().zip(y_hat()).map(|(y, v)| (f64::from(*y) - v / length).powi(2)).sum::<f64>() / d,
    }
}
