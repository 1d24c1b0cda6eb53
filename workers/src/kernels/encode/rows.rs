//! The pairs kept for a block of rows, and blocks put together as codes.

use crate::codes::Codes;
use crate::kernels::Real;

/// Pairs of consecutive rows, ascending by latent inside a row.
#[derive(Debug, Clone)]
pub(super) struct Rows<R> {
    /// Where each row ends in `pairs`.
    pub(super) ends: Vec<usize>,
    /// (latent, value), row after row.
    pub(super) pairs: Vec<(u32, R)>,
}

impl<R: Real> Rows<R> {
    /// No rows yet, with room for so many.
    pub(super) fn with_capacity(rows: usize, pairs: usize) -> Self {
        Rows { ends: Vec::with_capacity(rows), pairs: Vec::with_capacity(pairs) }
    }

    /// Appends a row.
    pub(super) fn push(&mut self, pairs: impl IntoIterator<Item = (u32, R)>) {
        self.pairs.extend(pairs);
        self.ends.push(self.pairs.len());
    }

    /// The pairs of one row.
    pub(super) fn row(&self, row: usize) -> &[(u32, R)] {
        let begin = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.pairs[begin..self.ends[row]]
    }

    /// Replaces columns of a subset by the latents they stand for.
    pub(super) fn rename(&mut self, latents: &[u32]) {
        self.pairs.iter_mut().for_each(|(column, _)| *column = latents[*column as usize]);
    }
}

/// Blocks in order, as codes and as values of full precision.
pub(super) fn assemble<R: Real>(blocks: &[Rows<R>], n_latents: usize) -> (Codes, Vec<R>) {
    let nnz = blocks.iter().map(|b| b.pairs.len()).sum();
    let rows: usize = blocks.iter().map(|b| b.ends.len()).sum();
    let mut codes = Codes::new(n_latents);
    codes.offsets.reserve(rows);
    codes.latents.reserve(nnz);
    codes.values.reserve(nnz);
    let mut values = Vec::with_capacity(nnz);
    for block in blocks {
        let before = codes.latents.len();
        codes.offsets.extend(block.ends.iter().map(|end| before + end));
        codes.latents.extend(block.pairs.iter().map(|&(latent, _)| latent));
        #[allow(clippy::cast_possible_truncation, reason = "codes carry f32; f64 is for golden numbers")]
        codes.values.extend(block.pairs.iter().map(|&(_, v)| v.f64() as f32));
        values.extend(block.pairs.iter().map(|&(_, v)| v));
    }
    (codes, values)
}
