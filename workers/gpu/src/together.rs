//! Several cards of one process that add up what lies on each.

use atomflow_workers::card::Unusable;
use cubecl::{device::DeviceId, prelude::*, server::ReduceOperation};

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    shield::shielded,
};

/// Finds the cards of these names for a runtime whose cards can add up among themselves.
pub type Among = fn(&[String]) -> Result<Vec<DeviceId>, Unusable>;

/// Puts the sums over all `cards` in the place of `parts`, which lie on `card`; the others are asked for the same at
/// the same time. Which number is added to which is NCCL's to choose, and the same for the same cards.
///
/// # Errors
/// A card is lost.
pub(crate) fn sum<R: Runtime>(card: &Card<R>, cards: &[DeviceId], parts: [&Floats; 3]) -> Result<(), Lost> {
    let number = f32::as_type_native_unchecked().elem_type();
    let mut client = card.client().clone();
    shielded(move || {
        for part in parts {
            let there = part.handle().clone();
            client.all_reduce(there.clone(), there, number, cards.to_vec(), ReduceOperation::Sum);
        }
        client.sync_collective();
    })
    // What goes wrong is heard of with the next answer: waiting here for a card that waits for the next to be
    // asked would be for ever, where one thread asks all.
    .map_err(Lost)
}
