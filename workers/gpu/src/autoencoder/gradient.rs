//! The gradient of a batch, between the loss and the step.

use crate::{
    Runtime,
    card::{Card, Floats},
    kernels::{
        adam::Constants,
        dense::{self, Dense},
        gather::Gathered,
        rows, squares,
        update::{self, Beside, Latents},
    },
};

/// Where it is.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "there is one")]
pub(super) enum Gradient {
    /// Nowhere yet: what it is the sum of. It never is anywhere but where a latent takes its step.
    Pairs(Gathered),
    /// In memory: to be added to those of other cards, or added up already.
    Dense(Dense),
}

impl Gradient {
    /// Multiplies all of it.
    pub(super) fn scale<R: Runtime>(&self, card: &Card<R>, factor: f32) {
        match self {
            Gradient::Pairs(gathered) => gathered.scale(card, factor),
            Gradient::Dense(Dense { w_enc, b_enc, w_dec }) => {
                [w_enc, b_enc, w_dec].into_iter().for_each(|part| rows::scale(card, part, factor));
            }
        }
    }

    /// Its sum of squares, latent by latent, `[n]`.
    pub(super) fn squares<R: Runtime>(&self, card: &Card<R>, w_dec: &Floats, beside: Beside) -> Floats {
        match self {
            Gradient::Pairs(gathered) => squares::squares(card, gathered, w_dec, beside),
            Gradient::Dense(dense) => squares::squares_of(card, dense, w_dec, beside),
        }
    }

    /// One step of all latents.
    pub(super) fn step<R: Runtime>(
        &self,
        card: &Card<R>,
        latents: &Latents,
        beside: Beside,
        constants: &Constants,
        unit_norm: bool,
    ) {
        match self {
            Gradient::Pairs(gathered) => update::step(card, gathered, latents, beside, constants, unit_norm),
            Gradient::Dense(dense) => dense::step_from(card, dense, latents, beside, constants, unit_norm),
        }
    }
}
