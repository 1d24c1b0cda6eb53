//! What is done to rows before they are coded.

/// `x − centre`, `[rows, d]`.
pub fn centred(x: &[f32], centre: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    for row in out.chunks_exact_mut(centre.len().max(1)) {
        row.iter_mut().zip(centre).for_each(|(x, c)| *x -= c);
    }
    out
}

/// Root mean square norm of the rows of `x`, `[rows, d]`; 1 without rows.
#[allow(clippy::cast_possible_truncation, reason = "rows are f32")]
pub fn rms(x: &[f32], d: usize) -> f32 {
    let total: f64 = x.iter().map(|&v| f64::from(v).powi(2)).sum();
    let norm = (total * d as f64 / x.len() as f64).sqrt() as f32;
    if norm > 0.0 && norm.is_finite() { norm } else { 1.0 }
}
