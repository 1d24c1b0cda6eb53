//! Dead latents that start again from rows which are reconstructed badly: resampling (Bricken et al. 2023,
//! *Towards Monosemanticity*, appendix; `saprmarks/dictionary_learning`, `trainers/standard.py`).
//!
//! Every so many steps each dead latent is given a row of the batch, drawn with a probability in proportion
//! to its squared error and never twice. Its atom becomes the direction of the centred row, its encoder row
//! the same at a fifth of the mean length of living ones, its bias 0, and its Adam moments are forgotten.
//! The paper draws in proportion to the square of the loss, over more rows than a batch has.

use rayon::prelude::*;

use super::{Relu, forward};
use crate::{
    card::Matrix,
    kernels::{Real, vector},
    learner::{Dictionary, Scales, Setup},
    random::{hash, unit},
    skeleton::{
        FrozenParameters, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Part},
        parameters::{Extra, Parameters},
        reborn::Reborn,
        update::Atoms,
    },
};

/// Stream of the random numbers used here.
const DRAW: u64 = 0x5245_424f_524e;

/// Length of a new encoder row against the mean of the living.
const SHORTER: f64 = 0.2;

/// One row of the batch for each dead latent, as far as there are rows with an error.
fn choose<R: Real>(loss: &Loss<R>, part: &Part<R>, seed: u64) -> Reborn {
    let (step, d, e) = (&loss.step, loss.step.parameters.d_in, loss.here(&part.e));
    let key = |(row, e): (usize, &[R])| {
        let error: f64 = e.iter().map(|e| e.f64() * e.f64()).sum();
        let chance = 1.0 - unit(hash(&[seed, DRAW, step.number, row as u64]));
        // The largest of ln(u)/weight are a draw without replacement (Efraimidis & Spirakis 2006).
        (chance.ln() / error, row)
    };
    let mut keys: Vec<(f64, usize)> = e.par_chunks_exact(d).enumerate().map(key).collect();
    keys.retain(|key| key.0.is_finite());
    keys.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let (latents, centre) = (step.dead.iter().copied().take(keys.len()).collect::<Vec<u32>>(), loss.centre());
    let mut directions = Vec::with_capacity(latents.len() * d);
    for &(_, row) in keys.iter().take(latents.len()) {
        let x = step.x[row * d..][..d].iter().zip(centre);
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        directions.extend(x.map(|(&x, &c)| (x - c).f64() as f32));
    }
    directions.chunks_exact_mut(d).for_each(vector::normalize);
    let mut encoder = directions.clone();
    vector::scale(length(loss), &mut encoder);
    Reborn { latents, encoder, atoms: directions }
}

/// [`SHORTER`] of the mean length of the encoder rows of living latents; of 1 if none lives.
#[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
fn length<R: Real>(loss: &Loss<R>) -> f32 {
    let (step, mut sum, mut living) = (&loss.step, 0f64, 0usize);
    let norms = loss.norms(Matrix::Encoder, &[step.parameters.d_in]);
    for (latent, norm) in norms.into_iter().enumerate() {
        if step.dead.binary_search(&(latent as u32)).is_err() {
            sum += norm.f64();
            living += 1;
        }
    }
    let mean = if living > 0 { sum / living as f64 } else { 1.0 };
    (SHORTER * mean) as f32
}

/// [`Relu`] whose dead latents start again every so many steps.
#[derive(Debug)]
pub(super) struct Resampling {
    pub(super) relu: Relu,
    every: u64,
    seed: u64,
    /// Of the step under way.
    reborn: Reborn,
}

impl Resampling {
    pub(super) fn new(relu: Relu, every: u64, seed: u64) -> Self {
        Resampling { relu, every, seed, reborn: Reborn::default() }
    }
}

impl SaeVariant for Resampling {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let due = loss.step.number.is_multiple_of(self.every) && !loss.step.dead.is_empty();
        let (relu, seed) = (&self.relu, self.seed);
        let mut reborn = Reborn::default();
        forward(loss, aux, |loss, part| {
            relu.charge(loss, part);
            if due {
                reborn = choose(loss, part, seed);
            }
        });
        self.reborn = reborn;
    }

    fn reborn(&self) -> Option<&Reborn> {
        (!self.reborn.latents.is_empty()).then_some(&self.reborn)
    }

    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        self.relu.freeze(p, folded, scales)
    }

    fn begin(&mut self, p: &mut Parameters<f32>, setup: &Setup) -> Vec<Extra<f32>> {
        self.relu.begin(p, setup)
    }

    fn atoms(&self) -> Atoms {
        self.relu.atoms()
    }

    fn clip_norm(&self) -> Option<f64> {
        self.relu.clip_norm()
    }
}

#[cfg(test)]
mod tests;
