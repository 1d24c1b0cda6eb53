//! Pairs of latent and value, on a card and as they leave it.

use crate::{
    Runtime,
    card::{Card, Floats, Lost},
    kernels::codes::CodesOnCard,
};

/// What was selected, compressed by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pairs {
    /// `rows + 1` positions into `latents` and `values`.
    pub offsets: Vec<usize>,
    /// Latent of each pair, ascending inside a row.
    pub latents: Vec<u32>,
    /// Value of each pair.
    pub values: Vec<f32>,
}

impl Pairs {
    /// So many rows without a pair.
    pub fn none(rows: usize) -> Self {
        Pairs { offsets: vec![0; rows + 1], ..Pairs::default() }
    }
}

/// What was selected, where it was found.
#[derive(Debug, Clone)]
pub struct PairsOnCard {
    /// `rows + 1` positions into `codes` and `values`, on this side.
    pub offsets: Vec<usize>,
    /// Where the latents are, ascending inside a row.
    pub codes: CodesOnCard,
    /// Value of each pair.
    pub values: Floats,
}

impl PairsOnCard {
    /// So many rows without a pair.
    pub fn none<R: Runtime>(card: &Card<R>, rows: usize) -> Self {
        let codes = CodesOnCard::upload(card, &vec![0; rows + 1], &[]);
        PairsOnCard { offsets: vec![0; rows + 1], codes, values: card.room(0) }
    }

    /// The same on this side.
    ///
    /// # Errors
    /// The card is lost.
    pub fn download<R: Runtime>(self, card: &Card<R>) -> Result<Pairs, Lost> {
        let PairsOnCard { offsets, codes, values } = self;
        if values.is_empty() {
            return Ok(Pairs { offsets, ..Pairs::default() });
        }
        Ok(Pairs { offsets, latents: card.download(&codes.latents)?, values: card.download(&values)? })
    }
}
