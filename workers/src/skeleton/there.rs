//! The weights of a learner on a card, and a step of them.

use std::sync::Arc;

use super::{
    gradient::Gradient,
    parameters::Parameters,
    reborn::Reborn,
    update::{self, Atoms},
};
use crate::{
    card::{Card, CardGradient, OnCard},
    kernels::{Path, adam::AdamStep},
};

/// Weights on a card.
#[derive(Debug)]
pub(super) struct There {
    pub(super) weights: Box<dyn OnCard>,
    pub(super) card: Arc<dyn Card>,
}

impl There {
    /// Takes the weights of `parameters` there.
    pub(super) fn take(card: &Arc<dyn Card>, parameters: &mut Parameters<f32>) -> Self {
        let there = There { weights: card.autoencoder(parameters), card: Arc::clone(card) };
        parameters.leave_weights();
        there
    }

    /// One step of all parameters; of what is here, `parameters` has them. The gradient is shortened to `most`.
    pub(super) fn descend(
        &self,
        path: Path,
        parameters: &mut Parameters<f32>,
        gradient: &mut Gradient<f32>,
        (adam, atoms): (&AdamStep<f32>, Atoms),
        most: Option<f64>,
    ) {
        let mut through = self.weights.gather(&gradient.card_terms);
        let factor = most.map_or(1.0, |most| self.factor(gradient, &through, most));
        through.iter_mut().for_each(|sum| *sum *= factor);
        gradient.scale(factor);
        let b_dec = gradient.b_dec(&through);
        self.weights.update(&CardGradient { factor, ..beside(gradient, &b_dec) }, adam, atoms);
        self.read_biases(parameters);
        update::own(path, parameters, gradient, adam);
    }

    /// [`super::clip::factor`] of a gradient that was gathered.
    fn factor(&self, gradient: &Gradient<f32>, through: &[f64], most: f64) -> f64 {
        let b_dec = gradient.b_dec(through);
        let others = gradient.extras.iter().flatten().chain(&b_dec).map(|&g| f64::from(g).powi(2));
        let squares = others.sum::<f64>() + self.weights.squares(&beside(gradient, &b_dec));
        let norm = squares.sqrt();
        if norm > most { most / norm } else { 1.0 }
    }

    /// Latents start again.
    pub(super) fn restart(&self, reborn: &Reborn, parameters: &mut Parameters<f32>) {
        self.weights.restart(&reborn.latents, &reborn.encoder, &reborn.atoms);
        self.read_biases(parameters);
    }

    fn read_biases(&self, parameters: &mut Parameters<f32>) {
        (parameters.b_enc.value, parameters.b_dec.value) = self.weights.biases();
    }
}

fn beside<'a>(gradient: &'a Gradient<f32>, b_dec: &'a [f32]) -> CardGradient<'a> {
    CardGradient { b_dec, bias: gradient.bias.as_deref(), pull: gradient.pull.as_deref(), factor: 1.0 }
}
