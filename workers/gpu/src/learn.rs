//! A card as learners see it.

use std::sync::Arc;

use atomflow_workers::{
    card::{
        self, Arithmetic, Encodes, OnCard, Peer, Replica, Unusable,
        wire::{Outgoing, Sent},
    },
    skeleton::{FrozenParameters, Inference, parameters::Parameters},
    threads::Threads,
};
use cubecl::device::DeviceId;

use crate::{
    Runtime,
    autoencoder::Autoencoder,
    card::{Card, Lost},
    dictionary::Dictionary,
    encoder::rounding,
    kernels::peak,
    lost::Losses,
    shield::shielded,
    together::Among,
    wire::{Sender, Take},
};

/// A card that learners share.
#[derive(Debug)]
struct Learning<R: Runtime> {
    card: Card<R>,
    sender: Sender<R>,
    name: String,
    arithmetic: Arithmetic,
    among: Option<Among>,
    losses: Losses,
}

/// A card by the name of `runtime.device`, for learners that compute in `arithmetic`; `among` if it can add up with
/// others.
pub fn card<R: Runtime>(
    card: Card<R>,
    name: &str,
    arithmetic: Arithmetic,
    among: Option<Among>,
) -> Arc<dyn Peer> {
    staged(card, name, arithmetic, among, None)
}

/// The same, where rows go up from the page-locked memory that `take` gets.
pub fn staged<R: Runtime>(
    card: Card<R>,
    name: &str,
    arithmetic: Arithmetic,
    among: Option<Among>,
    take: Option<Take<R>>,
) -> Arc<dyn Peer> {
    let sender = Sender::new(&card, take);
    Arc::new(Learning { card, sender, name: name.to_owned(), arithmetic, among, losses: Losses::default() })
}

impl<R: Runtime> Learning<R> {
    /// An autoencoder with a stream of its own: steps of one learner run on whichever thread is free, and each
    /// thread would have a pool of memory.
    fn begin(&self, start: &Parameters<f32>, twins: Option<Vec<DeviceId>>) -> Autoencoder<R> {
        let (card, losses) = (self.card.with_own_stream(), self.losses.clone());
        Autoencoder::new(card, self.arithmetic, start, twins, losses)
    }

    fn found(&self, names: &[String]) -> Result<Option<Vec<DeviceId>>, Unusable> {
        self.among.map(|among| among(names)).transpose()
    }
}

impl<R: Runtime> Peer for Learning<R> {
    fn sums_among(&self, names: &[String]) -> Result<(), Unusable> {
        self.found(names).map(drop)
    }

    fn replica(&self, start: &Parameters<f32>, names: &[String]) -> Box<dyn Replica> {
        Box::new(self.begin(start, self.found(names).ok().flatten()))
    }
}

impl<R: Runtime> card::Card for Learning<R> {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn arithmetic(&self) -> Arithmetic {
        self.arithmetic
    }

    fn autoencoder(&self, start: &Parameters<f32>) -> Box<dyn OnCard> {
        Box::new(self.begin(start, None))
    }

    fn dictionary(&self, frozen: &FrozenParameters, inference: &Inference) -> Option<Box<dyn Encodes>> {
        let (card, losses) = (self.card.with_own_stream(), self.losses.clone());
        Some(Box::new(Dictionary::new(card, self.arithmetic.precision, frozen, inference, losses)))
    }

    fn send(&self, rows: &Outgoing, threads: &Threads) -> Sent {
        let arrived = shielded(|| self.sender.send(rows, threads)).map_err(Lost).and_then(|arrived| arrived);
        self.losses.or_else(arrived.map(|arrived| Sent(Arc::new(arrived))), || Sent(Arc::new(())))
    }

    fn remark(&self) -> Option<String> {
        self.sender.remark()
    }

    fn copy(&self, bytes: usize) {
        self.losses.or_else(peak::copy(&self.card, bytes), || ());
    }

    fn multiply(&self, side: usize) {
        self.losses.or_else(peak::multiply(&self.card, rounding(self.arithmetic.precision), side), || ());
    }

    fn lost(&self) -> Option<String> {
        self.losses.reason()
    }
}
