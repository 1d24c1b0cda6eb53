//! Candidates of a block of rows, latent by latent.

use super::candidates::Candidates;

/// Rows by the latent that they have as a candidate.
pub(super) struct ByLatent {
    offsets: Vec<u32>,
    rows: Vec<u32>,
}

impl ByLatent {
    #[allow(clippy::cast_possible_truncation, reason = "a block has fewer than 2^32 candidates")]
    pub(super) fn of(candidates: &Candidates, columns: usize) -> Self {
        let mut offsets = vec![0u32; columns + 2];
        for row in 0..candidates.lengths.len() {
            candidates.columns(row).iter().for_each(|&c| offsets[c as usize + 2] += 1);
        }
        (2..columns + 2).for_each(|c| offsets[c] += offsets[c - 1]);
        let mut rows = vec![0u32; offsets[columns + 1] as usize];
        for row in 0..candidates.lengths.len() {
            for &c in candidates.columns(row) {
                let slot = &mut offsets[c as usize + 1];
                rows[*slot as usize] = row as u32;
                *slot += 1;
            }
        }
        ByLatent { offsets, rows }
    }

    /// Where the entries of a latent lie in [`ByLatent::rows`].
    pub(super) fn span(&self, column: usize) -> std::ops::Range<usize> {
        self.offsets[column] as usize..self.offsets[column + 1] as usize
    }

    /// Rows, ascending for each latent.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }
}
