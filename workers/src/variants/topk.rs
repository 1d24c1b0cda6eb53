//! TopK with AuxK: `codes = ReLU(TopK_k(pre_acts))`. L0 is set, not bargained for.
//!
//! Makhzani & Frey 2013 (k-sparse autoencoders); Gao et al. 2024 (*Scaling and evaluating sparse
//! autoencoders*), `openai/sparse_autoencoder`. The residual of the auxiliary loss is detached.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerInfo};
use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    kernels::{Path, encode::Packed, gather},
    learner::{DictLearner, Dictionary, Mismatch, Setup},
    skeleton::{
        Sae, SaeVariant, SkeletonSpec,
        objective::Objective,
        sae::FrozenParameters,
        schedule::ScheduleSpec,
    },
};

/// `[learner] kind = "topk"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// Number of latents.
    pub n_latents: usize,
    /// Latents kept per row.
    pub k: usize,
    /// Weight of the auxiliary loss that revives dead latents; 0 turns it off.
    #[serde(default = "aux_coefficient")]
    pub aux_coefficient: f64,
    /// Dead latents that may explain the residual of a row. Left out: the power of two nearest d_in / 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_aux: Option<usize>,
    /// Learning rate.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// Where the atoms start.
    #[serde(default)]
    pub init: crate::skeleton::init::Init,
    /// A latent that has not fired for this many tokens is dead.
    #[serde(default = "dead_after_tokens")]
    pub dead_after_tokens: u64,
}

/// Gao et al. 2024, §A.2.
fn aux_coefficient() -> f64 {
    1.0 / 32.0
}

fn dead_after_tokens() -> u64 {
    SkeletonSpec::default().dead_after_tokens
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "topk",
    family: "sparse autoencoder",
    summary: "keeps the k largest pre-activations of a row; AuxK revives dead latents",
    paper: "Gao et al. 2024, arXiv:2406.04093; Makhzani & Frey 2013, arXiv:1312.5663",
    example: "jobs/specs/quickstart.toml",
};

impl TopK {
    /// A learner at its start.
    ///
    /// # Errors
    /// A field is out of range.
    pub fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        self.validate(setup.d_in)?;
        let skeleton = SkeletonSpec {
            schedule: self.schedule.clone(),
            init: self.init,
            dead_after_tokens: self.dead_after_tokens,
        };
        Ok(Box::new(Sae::new(self.clone(), self.n_latents, &skeleton, setup)))
    }

    /// Checks the fields against each other and the width of the data.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n < u32::MAX as usize, "n_latents", "must be between 1 and 2^32 − 2")?;
        Invalid::unless(self.k > 0 && self.k <= n, "k", "must be between 1 and n_latents")?;
        Invalid::unless(self.k_aux.is_none_or(|k| k <= n), "k_aux", "must not exceed n_latents")?;
        let alpha = self.aux_coefficient;
        Invalid::unless(alpha.is_finite() && alpha >= 0.0, "aux_coefficient", "must be 0 or positive")?;
        let lr = self.schedule.lr.unwrap_or(1.0);
        Invalid::unless(lr.is_finite() && lr > 0.0, "schedule.lr", "must be positive")?;
        let shares = self.schedule.warmup_share + self.schedule.decay_share;
        let fine = self.schedule.warmup_share >= 0.0 && self.schedule.decay_share >= 0.0 && shares <= 1.0;
        Invalid::unless(fine, "schedule", "warmup_share and decay_share must be positive and at most 1 together")
    }
}

impl SaeVariant for TopK {
    fn objective(&self, d_in: usize) -> Objective {
        Objective {
            k: self.k,
            aux_coefficient: self.aux_coefficient,
            k_aux: self.k_aux.unwrap_or_else(|| k_aux_rule(d_in)).min(self.n_latents),
            per_variance: true,
        }
    }

    fn freeze(&self, parameters: FrozenParameters) -> Box<dyn Dictionary> {
        Box::new(FrozenTopK::new(self.k, parameters))
    }
}

/// The power of two nearest `d_in / 2` (Gao et al. 2024, §A.2), the lower one in a tie.
fn k_aux_rule(d_in: usize) -> usize {
    let half = (d_in / 2).max(1);
    let below = 1usize << half.ilog2();
    if half - below <= 2 * below - half { below } else { 2 * below }
}

/// A TopK dictionary that no longer changes.
#[derive(Debug)]
pub struct FrozenTopK {
    k: usize,
    path: Path,
    parameters: FrozenParameters,
    packed: Packed<f32>,
}

impl FrozenTopK {
    /// Packs the encoder once.
    pub fn new(k: usize, parameters: FrozenParameters) -> Self {
        let p = &parameters;
        let packed = p.threads.install(|| Packed::all(&p.w_enc, &p.b_enc, p.d_in));
        FrozenTopK { k, path: Path::best(), packed, parameters }
    }
}

impl Dictionary for FrozenTopK {
    fn d_in(&self) -> usize {
        self.parameters.d_in
    }

    fn n_latents(&self) -> usize {
        self.parameters.b_enc.len()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        let p = &self.parameters;
        p.threads.install(|| self.packed.top_k(self.path, x, &p.b_dec, self.k).0)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let p = &self.parameters;
        p.threads.install(|| gather::decode(self.path, codes, &codes.values, &p.w_dec, &p.b_dec, x_hat));
    }

    fn atoms(&self) -> &[f32] {
        &self.parameters.w_dec
    }

    fn encoder_rows(&self) -> &[f32] {
        &self.parameters.w_enc
    }

    fn encoder_bias(&self) -> &[f32] {
        &self.parameters.b_enc
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let extra = json!({ "k": self.k, "rescale_acts_by_decoder_norm": false });
        export::sae_lens(&self.parameters, "topk", &extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k_aux_is_the_power_of_two_nearest_half_the_width() {
        assert_eq!([576, 384, 768, 4096, 1].map(k_aux_rule), [256, 128, 256, 2048, 1]);
    }
}
