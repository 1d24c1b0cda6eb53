//! What all gradient-trained sparse autoencoders share; a variant fills the holes of [`SaeVariant`].
//!
//! Notation of the field: `pre_acts = (x − b_dec)·w_encᵀ + b_enc`, `codes` = what survives
//! selection, `x_hat = codes·w_dec + b_dec`. Rows of `w_enc` and `w_dec` are latents.

pub mod aux_k;
pub mod clip;
pub mod contrast;
pub mod dead_latents;
pub mod frozen;
#[cfg(test)]
pub(crate) mod golden;
pub mod gradient;
mod import;
pub mod init;
pub mod median;
pub mod objective;
pub mod outside;
pub mod parameters;
pub mod reborn;
pub mod rooms;
pub mod rows;
pub mod sae;
pub mod schedule;
pub mod spec;
pub mod subspace;
mod there;
pub mod threshold;
pub mod update;

pub use frozen::{FrozenParameters, FrozenSae, Inference};
pub use sae::{Sae, SaeVariant};
