//! Which pairs of row and latent there are, on a card.

use crate::{
    Runtime,
    card::{Card, Ints},
};

/// The pairs of a sparse code, row after row.
#[derive(Debug, Clone)]
pub struct CodesOnCard {
    /// Position of the first pair of each row, and the number of pairs, `[rows + 1]`.
    pub offsets: Ints,
    /// Latent of every pair, `[nnz]`. A row holds a latent at most once.
    pub latents: Ints,
}

impl CodesOnCard {
    /// Copies a code to the card.
    pub fn upload<R: Runtime>(card: &Card<R>, offsets: &[u32], latents: &[u32]) -> Self {
        CodesOnCard { offsets: card.upload(offsets), latents: card.upload(latents) }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    /// How many pairs.
    pub fn nnz(&self) -> usize {
        self.latents.len()
    }
}
