//! Constants estimated once from a first sample and then kept: the norm bound, the scale, the median.

use std::ops::Range;

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

/// What calibration found for one learner. Stored with the run; every later process uses these numbers.
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

/// The first rows of a run that pass all filters but the norm rule: what every constant comes from.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// Rows, `[rows, width]`: the columns in use, one after the other.
    pub x: Vec<f32>,
    /// Values per row.
    pub width: usize,
    /// The values whose norm the norm rule is about: the first column.
    pub main: Range<usize>,
    /// The norm rule, in medians.
    pub norm_over_median_max: Option<f64>,
}

impl Sample {
    /// Estimates the constants for a learner of the values `column` of each row, and returns with them
    /// the kept rows of that column, scaled: what the learner starts from.
    ///
    /// Robust on purpose: one attention sink (norm 22,709 against a median of 152 in the shipped
    /// sample) would move a plain mean a hundredfold.
    ///
    /// # Errors
    /// No row can be used.
    pub fn calibrate(&self, column: &Range<usize>, method: Normalize) -> Result<(Calibration, Vec<f32>)> {
        let main = self.norms(&self.main);
        #[allow(clippy::cast_possible_truncation, reason = "the bound is compared with f32 data")]
        let bound = |median: f64| self.norm_over_median_max.map(|factor| (factor * median) as f32);
        let norm_max = bound(median(main.clone())?);
        let keep = |row: usize| norm_max.is_none_or(|max| main[row] <= f64::from(max));
        let kept: Vec<usize> = (0..main.len()).filter(|&row| keep(row)).collect();
        let norms = if *column == self.main { main.clone() } else { self.norms(column) };
        let squares: f64 = kept.iter().map(|&row| norms[row] * norms[row]).sum();
        let norm_rms = (squares / kept.len().max(1) as f64).sqrt();
        if norm_rms <= 0.0 || !norm_rms.is_finite() {
            return Err(no_length(kept.len(), norm_rms));
        }
        let scale = scale_of(method, norm_rms, column.len());
        let scaled = kept.iter().flat_map(|&row| self.values(row, column)).map(|v| v * scale).collect();
        let (sample_rows, norm_median) = (norms.len(), median(norms)?);
        Ok((Calibration { sample_rows, norm_median, norm_max, norm_rms, scale }, scaled))
    }

    fn values(&self, row: usize, column: &Range<usize>) -> &[f32] {
        &self.x[row * self.width..][column.clone()]
    }

    fn norms(&self, column: &Range<usize>) -> Vec<f64> {
        let rows = self.x.len() / self.width.max(1);
        (0..rows).map(|row| norm(self.values(row, column))).collect()
    }
}

fn no_length(rows: usize, norm_rms: f64) -> Error {
    Error::data(format!(
        "the {rows} rows of the calibration sample have no length to learn from (root mean square {norm_rms})"
    ))
    .hint("are the activations all zero, or is the filter dropping everything?")
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

    fn sample(x: &[f32], width: usize, norm_over_median_max: Option<f64>) -> Sample {
        Sample { x: x.to_vec(), width, main: 0..2.min(width), norm_over_median_max }
    }

    #[test]
    fn one_sink_does_not_move_the_scale() {
        let mut x: Vec<f32> = (0..100).flat_map(|i| [3.0, 4.0 + (i % 2) as f32 * 0.01]).collect();
        let of = |x: &[f32], rule| sample(x, 2, rule).calibrate(&(0..2), Normalize::UnitRms).unwrap();
        let (clean, rows) = of(&x, Some(10.0));
        assert!((clean.norm_rms - 5.0).abs() < 0.01);
        let mean: f64 = rows.chunks(2).map(|r| norm(r).powi(2)).sum::<f64>() / 100.0;
        assert!((mean - 1.0).abs() < 1e-6);
        x.extend([20_000.0, 0.0]);
        let (robust, kept) = of(&x, Some(10.0));
        assert!((robust.norm_rms - clean.norm_rms).abs() < 1e-9);
        assert_eq!(kept.len(), 200);
        let (naive, _) = of(&x, None);
        assert!(naive.norm_rms > 1_000.0);
    }

    #[test]
    fn the_methods_bring_vectors_to_their_scale() {
        let x = [3.0f32, 4.0, 0.0, 5.0];
        for (method, expected) in
            [(Normalize::UnitRms, 0.2), (Normalize::SqrtD, 0.2 * 2f32.sqrt()), (Normalize::None, 1.0)]
        {
            let (found, _) = sample(&x, 2, None).calibrate(&(0..2), method).unwrap();
            assert!((found.scale - expected).abs() < 1e-6);
        }
    }

    /// Rows go by the norm of the first column; the scale is the column's own.
    #[test]
    fn each_column_has_its_own_scale_and_the_first_one_the_rule() {
        let mut x: Vec<f32> = [3.0, 4.0, 20.0].repeat(9);
        x.extend([30_000.0, 0.0, 20.0]);
        let (found, rows) = sample(&x, 3, Some(10.0)).calibrate(&(2..3), Normalize::UnitRms).unwrap();
        assert_eq!((found.norm_max, found.norm_rms, found.norm_median), (Some(50.0), 20.0, 20.0));
        assert_eq!(rows, [1.0; 9]);
    }

    #[test]
    fn nothing_to_calibrate_is_an_error() {
        for x in [&[0.0f32; 0][..], &[0.0; 9]] {
            assert!(sample(x, 3, None).calibrate(&(0..3), Normalize::UnitRms).is_err());
        }
    }
}
