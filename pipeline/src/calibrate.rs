//! Constants estimated once from a first sample and then kept: the norm bound, the scale, the median.

use std::ops::Range;

use atomflow_workers::learner::{Role, Scales};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Error, Result, batch::View, sight::Sight};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Rows of the sample, before the norm rule.
    pub sample_rows: usize,
    /// Median norm in the sample of what is reconstructed: the target, else all inputs together.
    pub norm_median: f64,
    /// Rows with a larger norm are left out; absent without a norm rule.
    pub norm_max: Option<f32>,
    /// Root mean square norm of what is reconstructed, in the kept rows.
    pub norm_rms: f64,
    /// Vectors (of the first input column) are multiplied by this before learning.
    pub scale: f32,
    /// What every column is multiplied by, where there is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scales: Option<Scales>,
}

impl Calibration {
    /// What every column is multiplied by.
    pub fn scales(&self) -> Scales {
        self.scales.clone().unwrap_or_else(|| Scales::of(self.scale))
    }
}

/// Constants for one learner, and the rows they came from as it sees them: what it starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibrated {
    /// The constants.
    pub calibration: Calibration,
    /// Its inputs, scaled, `[rows, d_in]`.
    pub x: Vec<f32>,
    /// The columns beside them, scaled, each `[rows, width]`.
    pub beside: Vec<Vec<f32>>,
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
    /// Estimates the constants for a learner that sees `sight` of each row. Every input column and the
    /// target have a scale of their own; gradients are divided by that of the first input, so that they
    /// are gradients of the same loss by the scaled vectors; labels are left as they are.
    ///
    /// Robust on purpose: one attention sink (norm 22,709 against a median of 152 in the shipped
    /// sample) would move a plain mean a hundredfold.
    ///
    /// # Errors
    /// No row can be used.
    pub fn calibrate(&self, sight: &Sight, method: Normalize) -> Result<Calibrated> {
        let main = self.norms(std::slice::from_ref(&self.main));
        #[allow(clippy::cast_possible_truncation, reason = "the bound is compared with f32 data")]
        let bound = |median: f64| self.norm_over_median_max.map(|factor| (factor * median) as f32);
        let norm_max = bound(median(main.clone())?);
        let keep = |row: usize| norm_max.is_none_or(|max| main[row] <= f64::from(max));
        let kept: Vec<usize> = (0..main.len()).filter(|&row| keep(row)).collect();
        let scales = self.scales(sight, method, &kept)?;
        let norms = self.norms(&sight.reconstructed());
        let (sample_rows, norm_rms) = (norms.len(), rms(&norms, &kept)?);
        let view = View { sight: sight.clone(), scales };
        let rows: Vec<&[f32]> = kept.iter().map(|&row| self.row(row)).collect();
        let (x, beside) = view.of(&rows);
        let scale = view.scales.first();
        let scales = Some(view.scales).filter(|scales| *scales != Scales::of(scale));
        let norm_median = median(norms)?;
        let calibration = Calibration { sample_rows, norm_median, norm_max, norm_rms, scale, scales };
        Ok(Calibrated { calibration, x, beside })
    }

    fn scales(&self, sight: &Sight, method: Normalize, kept: &[usize]) -> Result<Scales> {
        let own = |column: &Range<usize>| {
            let norms = self.norms(std::slice::from_ref(column));
            Ok(scale_of(method, rms(&norms, kept)?, column.len()))
        };
        let inputs = sight.inputs.iter().map(own).collect::<Result<Vec<f32>>>()?;
        let first = Scales { inputs: inputs.clone(), beside: Vec::new() }.first();
        let beside = sight.beside.iter().map(|(column, role)| match role {
            Role::Target => own(column),
            Role::Gradient => Ok(1.0 / first),
            Role::Label => Ok(1.0),
        });
        Ok(Scales { beside: beside.collect::<Result<_>>()?, inputs })
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.x[row * self.width..][..self.width]
    }

    /// The norm of these columns together, of every row.
    fn norms(&self, columns: &[Range<usize>]) -> Vec<f64> {
        let rows = self.x.len() / self.width.max(1);
        (0..rows).into_par_iter().map(|row| norm(self.row(row), columns)).collect()
    }
}

/// Root mean square of the kept norms.
fn rms(norms: &[f64], kept: &[usize]) -> Result<f64> {
    let squares: f64 = kept.iter().map(|&row| norms[row] * norms[row]).sum();
    let rms = (squares / kept.len().max(1) as f64).sqrt();
    if rms <= 0.0 || !rms.is_finite() { Err(no_length(kept.len(), rms)) } else { Ok(rms) }
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

fn norm(row: &[f32], columns: &[Range<usize>]) -> f64 {
    let values = columns.iter().flat_map(|column| &row[column.clone()]);
    values.map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
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
        let of = |x: &[f32], rule| {
            let Calibrated { calibration, x, .. } =
                sample(x, 2, rule).calibrate(&Sight::whole(2), Normalize::UnitRms).unwrap();
            assert_eq!(calibration.scales, None);
            (calibration, x)
        };
        let (clean, rows) = of(&x, Some(10.0));
        assert!((clean.norm_rms - 5.0).abs() < 0.01);
        let mean: f64 =
            rows.chunks(2).map(|r| norm(r, std::slice::from_ref(&(0..2))).powi(2)).sum::<f64>() / 100.0;
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
            let found = sample(&x, 2, None).calibrate(&Sight::whole(2), method).unwrap();
            assert!((found.calibration.scale - expected).abs() < 1e-6);
        }
    }

    /// Rows go by the norm of the first column; the scale is the column's own.
    #[test]
    fn each_column_has_its_own_scale_and_the_first_one_the_rule() {
        let mut x: Vec<f32> = [3.0, 4.0, 20.0].repeat(9);
        x.extend([30_000.0, 0.0, 20.0]);
        let sight = Sight::one(3, 2..3);
        let found = sample(&x, 3, Some(10.0)).calibrate(&sight, Normalize::UnitRms).unwrap();
        let Calibration { norm_max, norm_rms, norm_median, .. } = found.calibration;
        assert_eq!((norm_max, norm_rms, norm_median), (Some(50.0), 20.0, 20.0));
        assert_eq!(found.x, [1.0; 9]);
    }

    /// Columns: 2 inputs of one and two values, a target, a gradient, a label.
    #[test]
    fn every_column_is_scaled_as_its_role_says() {
        let x = [4.0, 3.0, 4.0, 10.0, 8.0, f32::NAN, 4.0, 0.0, 5.0, -10.0, 2.0, 3.0];
        let beside = vec![(3..4, Role::Target), (4..5, Role::Gradient), (5..6, Role::Label)];
        let sight = Sight { width: 6, inputs: vec![1..3, 0..1], beside };
        let found = sample(&x, 6, None).calibrate(&sight, Normalize::UnitRms).unwrap();
        let calibration = &found.calibration;
        let scales = Scales { inputs: vec![0.2, 0.25], beside: vec![0.1, 5.0, 1.0] };
        assert_eq!((&calibration.scales(), calibration.scale), (&scales, 0.2));
        // What is reconstructed is the target.
        assert_eq!(calibration.norm_rms, 10.0);
        assert_eq!(found.x, [3.0 * 0.2, 4.0 * 0.2, 1.0, 0.0, 1.0, 1.0]);
        assert_eq!((&found.beside[0], &found.beside[1]), (&vec![1.0, -1.0], &vec![40.0, 10.0]));
        assert!(found.beside[2][0].is_nan() && found.beside[2][1] == 3.0);
        let text = serde_json::to_string(calibration).unwrap();
        assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), *calibration);
        let inputs = Sight { beside: Vec::new(), ..sight };
        let together = sample(&x, 6, None).calibrate(&inputs, Normalize::UnitRms).unwrap();
        assert!((together.calibration.norm_rms - 41f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn what_runs_of_one_column_have_stored_is_read() {
        let text = r#"{"sample_rows":9,"norm_median":1.5,"norm_max":null,"norm_rms":2.0,"scale":0.5}"#;
        let found: Calibration = serde_json::from_str(text).unwrap();
        assert_eq!(found.scales(), Scales::of(0.5));
        assert_eq!(serde_json::to_string(&found).unwrap(), text);
    }

    #[test]
    fn nothing_to_calibrate_is_an_error() {
        for x in [&[0.0f32; 0][..], &[0.0; 9]] {
            assert!(sample(x, 3, None).calibrate(&Sight::whole(3), Normalize::UnitRms).is_err());
        }
    }
}
