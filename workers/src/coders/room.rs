//! Memory of a coder: the support it has chosen so far and scratch space, reused from row to row.

use super::Gram;
use crate::kernels::{Real, vector};

/// The chosen atoms of one row, their coefficients and scratch space.
#[derive(Debug, Clone, Default)]
pub struct Room<R> {
    /// The chosen latents, in the order of choice.
    pub latents: Vec<u32>,
    /// Their coefficients.
    pub values: Vec<R>,
    /// Gram rows of the chosen latents, where the Gram matrix is not stored.
    rows: Vec<R>,
    /// Scratch space.
    pub scratch: [Vec<R>; 4],
}

impl<R: Real> Room<R> {
    /// Empty, for the next row.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.latents.clear();
        self.values.clear();
        self.rows.clear();
    }

    /// Adds latent `j` to the support with coefficient 0.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
    pub fn admit(&mut self, gram: Gram<R>, j: usize) {
        self.latents.push(j as u32);
        self.values.push(R::ZERO);
        if gram.stored(j).is_none() {
            gram.compute(j, &mut self.rows);
        }
    }

    /// Where latent `j` stands in the support; it is admitted if it is not there yet.
    #[inline(always)]
    pub fn place(&mut self, gram: Gram<R>, j: usize) -> usize {
        let found = self.latents.iter().position(|&latent| latent as usize == j);
        found.unwrap_or_else(|| {
            self.admit(gram, j);
            self.latents.len() - 1
        })
    }

    /// Takes the latent at `at` out of the support; the last one takes its place.
    #[inline(always)]
    pub fn dismiss(&mut self, gram: Gram<R>, at: usize) {
        let n = gram.n();
        self.latents.swap_remove(at);
        self.values.swap_remove(at);
        if !self.rows.is_empty() {
            let last = self.rows.len() - n;
            self.rows.copy_within(last.., at * n);
            self.rows.truncate(last);
        }
    }

    /// Products of the `at`-th chosen atom with all atoms.
    #[inline(always)]
    pub fn row<'a>(&'a self, gram: Gram<'a, R>, at: usize) -> &'a [R] {
        let n = gram.n();
        gram.stored(self.latents[at] as usize).unwrap_or_else(|| &self.rows[at * n..][..n])
    }

    /// `q −= delta · (products of the at-th chosen atom)`.
    #[inline(always)]
    pub fn subtract(&self, gram: Gram<R>, at: usize, delta: R, q: &mut [R]) {
        vector::axpy(-delta, self.row(gram, at), q);
    }

    /// The pairs that are not zero, ascending, as they stand in codes.
    pub fn pairs(&self) -> Vec<(u32, R)> {
        let all = self.latents.iter().copied().zip(self.values.iter().copied());
        let mut pairs: Vec<(u32, R)> = all.filter(|&(_, value)| value != R::ZERO).collect();
        pairs.sort_unstable_by_key(|&(latent, _)| latent);
        pairs
    }
}
