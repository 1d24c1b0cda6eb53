//! Constants estimated once from a first sample and then kept: the norm bound, the scale, the median.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `[normalize]`: how vectors are scaled before learning. The constant is estimated on a first
/// sample of kept rows, stored with the run and folded into the exported weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NormalizeSpec {
    /// Which scale.
    pub method: Normalize,
    /// Rows of the sample.
    pub sample_rows: usize,
}

impl Default for NormalizeSpec {
    fn default() -> Self {
        NormalizeSpec { method: Normalize::UnitRms, sample_rows: 32_768 }
    }
}

/// The scale that vectors are brought to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalize {
    /// Mean squared norm 1 (Gemma Scope; saprmarks `normalize_activations`). The default.
    #[default]
    UnitRms,
    /// Mean norm √d_in (SAELens `expected_average_only_in`; Anthropic April 2024).
    SqrtD,
    /// As they are.
    None,
}

/// What calibration found. Stored with the run; every later process uses these numbers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Rows of the sample, before the norm rule.
    pub sample_rows: usize,
    /// Median norm of the sample.
    pub norm_median: f64,
    /// Rows with a larger norm are left out; absent without a norm rule.
    pub norm_max: Option<f32>,
    /// Root mean square norm of the kept rows.
    pub norm_rms: f64,
    /// Vectors are multiplied by this before learning.
    pub scale: f32,
}

/// Estimates the constants from `sample` (`[rows, d_in]`, rows that pass all other filters) and
/// returns with them the kept rows, scaled: what the learner starts from.
///
/// Robust on purpose: one attention sink (norm 22,709 against a median of 152 in the shipped sample)
/// would move a plain mean a hundredfold.
///
/// # Errors
/// No row can be used.
pub fn calibrate(
    spec: &NormalizeSpec,
    norm_over_median_max: Option<f64>,
    sample: &[f32],
    d_in: usize,
) -> Result<(Calibration, Vec<f32>)> {
    let norms: Vec<f64> = sample.chunks_exact(d_in).map(norm).collect();
    let norm_median = median(norms.clone())?;
    #[allow(clippy::cast_possible_truncation, reason = "the bound is compared with f32 data")]
    let norm_max = norm_over_median_max.map(|factor| (factor * norm_median) as f32);
    let keep = |norm: f64| norm_max.is_none_or(|max| norm <= f64::from(max));
    let kept: Vec<&[f32]> =
        sample.chunks_exact(d_in).zip(&norms).filter(|&(_, &n)| keep(n)).map(|(row, _)| row).collect();
    let squares: f64 = norms.iter().filter(|&&n| keep(n)).map(|n| n * n).sum();
    let norm_rms = (squares / kept.len().max(1) as f64).sqrt();
    if norm_rms <= 0.0 || !norm_rms.is_finite() {
        return Err(Error::data(format!(
            "the {} rows of the calibration sample have no length to learn from (root mean square {norm_rms})",
            kept.len()
        ))
        .hint("are the activations all zero, or is the filter dropping everything?"));
    }
    let scale = scale_of(spec.method, norm_rms, d_in);
    let scaled = kept.concat().into_iter().map(|v| v * scale).collect();
    Ok((Calibration { sample_rows: norms.len(), norm_median, norm_max, norm_rms, scale }, scaled))
}

#[allow(clippy::cast_possible_truncation, reason = "activations are f32")]
fn scale_of(method: Normalize, norm_rms: f64, d_in: usize) -> f32 {
    match method {
        Normalize::UnitRms => (1.0 / norm_rms) as f32,
        Normalize::SqrtD => ((d_in as f64).sqrt() / norm_rms) as f32,
        Normalize::None => 1.0,
    }
}

fn norm(row: &[f32]) -> f64 {
    row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// The upper median.
fn median(mut values: Vec<f64>) -> Result<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().ok_or_else(|| {
        Error::data("no row of the first window may be trained on, so nothing can be calibrated")
            .hint("check `source.filter` and `plan.heldout`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sink_does_not_move_the_scale() {
        let mut sample: Vec<f32> = (0..100).flat_map(|i| [3.0, 4.0 + (i % 2) as f32 * 0.01]).collect();
        let spec = NormalizeSpec::default();
        let (clean, rows) = calibrate(&spec, Some(10.0), &sample, 2).unwrap();
        assert!((clean.norm_rms - 5.0).abs() < 0.01);
        let mean: f64 = rows.chunks(2).map(|r| norm(r).powi(2)).sum::<f64>() / 100.0;
        assert!((mean - 1.0).abs() < 1e-6);
        sample.extend([20_000.0, 0.0]);
        let (robust, kept) = calibrate(&spec, Some(10.0), &sample, 2).unwrap();
        assert!((robust.norm_rms - clean.norm_rms).abs() < 1e-9);
        assert_eq!(kept.len(), 200);
        let (naive, _) = calibrate(&spec, None, &sample, 2).unwrap();
        assert!(naive.norm_rms > 1_000.0);
    }

    #[test]
    fn the_methods_bring_vectors_to_their_scale() {
        let sample = [3.0f32, 4.0, 0.0, 5.0];
        for (method, expected) in
            [(Normalize::UnitRms, 0.2), (Normalize::SqrtD, 0.2 * 2f32.sqrt()), (Normalize::None, 1.0)]
        {
            let spec = NormalizeSpec { method, ..NormalizeSpec::default() };
            assert!((calibrate(&spec, None, &sample, 2).unwrap().0.scale - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn nothing_to_calibrate_is_an_error() {
        assert!(calibrate(&NormalizeSpec::default(), None, &[], 3).is_err());
        assert!(calibrate(&NormalizeSpec::default(), None, &[0.0; 9], 3).is_err());
    }
}
