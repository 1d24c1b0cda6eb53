//! Constants estimated once from a first sample and then kept: the norm bound, the scale, the median.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
