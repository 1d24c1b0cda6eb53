//! A card as learners see it.

use std::sync::Arc;

use atomflow_workers::{
    card::{self, Encodes, OnCard, Precision},
    skeleton::{FrozenParameters, Inference, parameters::Parameters},
};

use crate::{
    Runtime, autoencoder::Autoencoder, card::Card, dictionary::Dictionary, encoder::rounding, kernels::peak,
    lost::Losses,
};

/// A card that learners share.
#[derive(Debug)]
struct Learning<R: Runtime> {
    card: Card<R>,
    name: String,
    precision: Precision,
    losses: Losses,
}

/// A card by the name of `runtime.device`, for learners that multiply in `precision`.
pub fn card<R: Runtime>(card: Card<R>, name: &str, precision: Precision) -> Arc<dyn card::Card> {
    Arc::new(Learning { card, name: name.to_owned(), precision, losses: Losses::default() })
}

impl<R: Runtime> card::Card for Learning<R> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn autoencoder(&self, start: &Parameters<f32>) -> Box<dyn OnCard> {
        // Steps of one learner run on whichever thread is free: without a stream of its own, each thread
        // would have a pool of memory.
        let (card, losses) = (self.card.with_own_stream(), self.losses.clone());
        Box::new(Autoencoder::new(card, self.precision, start, losses))
    }

    fn dictionary(&self, frozen: &FrozenParameters, inference: &Inference) -> Option<Box<dyn Encodes>> {
        let (card, losses) = (self.card.with_own_stream(), self.losses.clone());
        Some(Box::new(Dictionary::new(card, self.precision, frozen, inference, losses)))
    }

    fn copy(&self, bytes: usize) {
        self.losses.or_else(peak::copy(&self.card, bytes), || ());
    }

    fn multiply(&self, side: usize) {
        self.losses.or_else(peak::multiply(&self.card, rounding(self.precision), side), || ());
    }

    fn lost(&self) -> Option<String> {
        self.losses.reason()
    }
}
