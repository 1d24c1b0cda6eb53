//! Several cards that one learner has to itself.

use std::sync::Arc;

use rayon::prelude::*;

use super::{
    Arithmetic, Card, Encodes, OnCard, Peer, Split, Unusable,
    replicated::{Replicated, shares},
    sharded::Sharded,
    wire::{Incoming, Outgoing, Sent},
};
use crate::{
    skeleton::{FrozenParameters, Inference, parameters::Parameters},
    threads::Threads,
};

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

/// A batch on several cards: all of it on each, or its share of the rows.
#[derive(Debug)]
struct Parts {
    rows: usize,
    each: Vec<Sent>,
}

/// Rows of a batch for several cards.
pub(super) fn rows_of(x: Incoming, d_in: usize) -> usize {
    match x {
        Incoming::Here(x) => x.len() / d_in.max(1),
        Incoming::Sent(sent) => sent.0.downcast_ref::<Parts>().map_or(0, |parts| parts.rows),
    }
}

/// What the card of number `at` was sent of a batch.
pub(super) fn sent_to(x: Incoming<'_>, at: usize) -> Incoming<'_> {
    let Incoming::Sent(all) = x else { return x };
    // A batch of another cluster: the card will say that it does not know it.
    Incoming::Sent(all.0.downcast_ref::<Parts>().and_then(|parts| parts.each.get(at)).unwrap_or(all))
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

    /// To all cards at once: each has a way of its own to the memory of this machine.
    fn send(&self, rows: &Outgoing, threads: &Threads) -> Sent {
        let (count, cards) = (rows.rows.len(), self.cards.len());
        let part = match self.split {
            Split::Latents => vec![0..count; cards],
            Split::Rows => shares(count, cards),
        };
        let each = std::thread::scope(|scope| {
            let send = |(card, part): (&Arc<dyn Peer>, _)| {
                let (card, part) = (Arc::clone(card), rows.part(part));
                scope.spawn(move || card.send(&part, threads))
            };
            let ways: Vec<_> = self.cards.iter().zip(part).map(send).collect();
            ways.into_iter().filter_map(|way| way.join().ok()).collect()
        });
        Sent(Arc::new(Parts { rows: count, each }))
    }

    fn remark(&self) -> Option<String> {
        self.cards.iter().find_map(|card| card.remark())
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
