//! Products of atoms with each other: stored where they fit, worked out where they do not.

use crate::kernels::{Real, vector};

/// `G = D·Dᵀ` of atoms `D`.
#[derive(Debug, Clone, Copy)]
pub struct Gram<'a, R> {
    atoms: &'a [R],
    d: usize,
    stored: Option<&'a [R]>,
}

impl<'a, R: Real> Gram<'a, R> {
    /// Of `atoms`, `[n_latents, d]`, with all products in `stored`, `[n_latents, n_latents]`; without it
    /// a row of products costs a walk over all atoms when it is asked for.
    pub fn new(atoms: &'a [R], d: usize, stored: Option<&'a [R]>) -> Self {
        Gram { atoms, d, stored }
    }

    /// Number of atoms.
    #[inline(always)]
    pub fn n(self) -> usize {
        self.atoms.len() / self.d.max(1)
    }

    /// Products of atom `j` with all atoms, if they are stored.
    #[inline(always)]
    pub fn stored(self, j: usize) -> Option<&'a [R]> {
        let n = self.n();
        self.stored.map(|gram| &gram[j * n..][..n])
    }

    /// Appends the products of atom `j` with all atoms to `out`.
    #[inline(always)]
    pub fn compute(self, j: usize, out: &mut Vec<R>) {
        let atom = &self.atoms[j * self.d..][..self.d];
        for other in self.atoms.chunks_exact(self.d) {
            out.push(vector::dot(atom, other));
        }
    }
}
