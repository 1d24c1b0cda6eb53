//! Settings that all gradient-trained autoencoders share, and their checks.

use super::{aux_k::AuxK, init::Init, schedule::ScheduleSpec};
use crate::variants::Invalid;

/// The shared settings of one learner, with what was left out filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct SaeSpec {
    /// Number of latents.
    pub n_latents: usize,
    /// Learning rate.
    pub schedule: ScheduleSpec,
    /// A latent that has not fired for this many tokens is dead.
    pub dead_after_tokens: u64,
    /// Weight of the auxiliary loss.
    pub aux_coefficient: f64,
    /// Dead latents that may explain the residual of a row; `None`: the rule.
    pub k_aux: Option<usize>,
    /// Where atoms start.
    pub init: Init,
}

/// Gao et al. 2024, §A.2.
pub fn aux_coefficient() -> f64 {
    1.0 / 32.0
}

/// OpenAI and sparsify.
pub fn dead_after_tokens() -> u64 {
    10_000_000
}

impl SaeSpec {
    /// The auxiliary loss for vectors of width `d_in`.
    pub fn aux(&self, d_in: usize) -> AuxK {
        let k = self.k_aux.unwrap_or_else(|| AuxK::rule(d_in)).min(self.n_latents);
        AuxK { coefficient: self.aux_coefficient, k }
    }

    /// Checks the ranges of the shared fields.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n < u32::MAX as usize, "n_latents", "must be between 1 and 2^32 − 2")?;
        Invalid::unless(self.k_aux.is_none_or(|k| k <= n), "k_aux", "must not exceed n_latents")?;
        positive("aux_coefficient", self.aux_coefficient)?;
        self.schedule.validate()?;
        self.init.validate(d_in)
    }
}

/// A coefficient: a finite number that is not negative.
///
/// # Errors
/// It is not.
pub fn positive(field: &'static str, value: f64) -> Result<(), Invalid> {
    Invalid::unless(value.is_finite() && value >= 0.0, field, "must be 0 or positive")
}

/// λ grows during the first 5 % of the steps (Anthropic, April 2024).
pub fn sparsity_warmup_share() -> f64 {
    0.05
}

/// A share of the steps.
///
/// # Errors
/// It is not between 0 and 1.
pub fn share(field: &'static str, value: f64) -> Result<(), Invalid> {
    Invalid::unless((0.0..=1.0).contains(&value), field, "must be between 0 and 1")
}

/// `k` latents of `n_latents`.
///
/// # Errors
/// `k` is 0 or too large.
pub fn k_of(k: usize, n_latents: usize) -> Result<(), Invalid> {
    Invalid::unless(k > 0 && k <= n_latents, "k", "must be between 1 and n_latents")
}

/// The table of a gradient-trained autoencoder: its own fields and those that all of them share.
macro_rules! sae_config {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident : $type:ty),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// Number of latents.
            pub n_latents: usize,
            $($(#[$field_meta])* pub $field: $type,)*
            /// Weight of the auxiliary loss that revives dead latents; 0 turns it off.
            #[serde(default = "crate::skeleton::spec::aux_coefficient")]
            pub aux_coefficient: f64,
            /// Dead latents that may explain the residual of a row. Left out: the power of two nearest d_in / 2.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub k_aux: Option<usize>,
            /// Learning rate.
            #[serde(default)]
            pub schedule: crate::skeleton::schedule::ScheduleSpec,
            /// A latent that has not fired for this many tokens is dead.
            #[serde(default = "crate::skeleton::spec::dead_after_tokens")]
            pub dead_after_tokens: u64,
            /// Where atoms start.
            #[serde(default, skip_serializing_if = "crate::skeleton::init::Init::is_default")]
            pub init: crate::skeleton::init::Init,
        }

        impl $name {
            /// The shared settings.
            pub fn sae(&self) -> crate::skeleton::spec::SaeSpec {
                crate::skeleton::spec::SaeSpec {
                    n_latents: self.n_latents,
                    schedule: self.schedule.clone(),
                    dead_after_tokens: self.dead_after_tokens,
                    aux_coefficient: self.aux_coefficient,
                    k_aux: self.k_aux,
                    init: self.init.clone(),
                }
            }
        }
    };
}
pub(crate) use sae_config;
