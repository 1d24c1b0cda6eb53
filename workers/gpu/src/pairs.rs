//! Pairs of latent and value, as they leave a card.

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
