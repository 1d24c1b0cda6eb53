//! Several cards that one learner has to itself.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    Arithmetic, Card, Encodes, OnCard, Peer, Split, Unusable, replicated::Replicated, sharded::Sharded,
};
use crate::skeleton::{FrozenParameters, Inference, parameters::Parameters};

/// `cards` as one card, which share a learner by `split`; a single one is itself.
///
/// # Errors
/// What the cards need to work together is absent.
pub fn as_one(mut cards: Vec<Arc<dyn Peer>>, split: Split) -> Result<Option<Arc<dyn Card>>, Unusable> {
    if cards.len() < 2 {
        return Ok(cards.pop().map(|card| card as Arc<dyn Card>));
    }
    let names: Vec<String> = cards.iter().map(|card| card.name()).collect();
    if split == Split::Rows {
        cards.iter().try_for_each(|card| card.sums_among(&names))?;
    }
    Ok(Some(Arc::new(Cluster { cards, names, split })))
}

#[derive(Debug)]
struct Cluster {
    cards: Vec<Arc<dyn Peer>>,
    names: Vec<String>,
    split: Split,
}

impl Card for Cluster {
    fn name(&self) -> String {
        self.names.join("+")
    }

    fn arithmetic(&self) -> Arithmetic {
        self.cards.first().map_or_else(Arithmetic::default, |card| card.arithmetic())
    }

    fn split(&self) -> Option<Split> {
        Some(self.split)
    }

    fn autoencoder(&self, start: &Parameters<f32>) -> Box<dyn OnCard> {
        match self.split {
            Split::Latents => Box::new(Sharded::new(&self.cards, start)),
            Split::Rows => {
                // Each waits for all the others, where they sum among themselves.
                let replicas = self.cards.par_iter().map(|card| card.replica(start, &self.names)).collect();
                Box::new(Replicated::new(start.d_in, replicas))
            }
        }
    }

    /// Row groups are encoded one by one: one card is enough, and has room for encoder rows alone.
    fn dictionary(&self, frozen: &FrozenParameters, inference: &Inference) -> Option<Box<dyn Encodes>> {
        self.cards.first()?.dictionary(frozen, inference)
    }

    fn copy(&self, bytes: usize) {
        self.cards.par_iter().for_each(|card| card.copy(bytes));
    }

    fn multiply(&self, side: usize) {
        self.cards.par_iter().for_each(|card| card.multiply(side));
    }

    fn lost(&self) -> Option<String> {
        self.cards.iter().find_map(|card| card.lost().map(|reason| format!("{}: {reason}", card.name())))
    }
}
