//! Products of atoms with each other, kept while atoms are added.

use crate::{
    kernels::{Path, Real},
    linear::product::{self, Panels},
};

/// Most atoms worth a Gram matrix: 1 GiB in f32.
pub const MOST_ATOMS: usize = 16_384;

/// `atoms·atomsᵀ` with room for more, and the atoms as the right side of a product.
#[derive(Debug, Clone)]
pub struct Gram<R> {
    data: Vec<R>,
    room: usize,
    n: usize,
    panels: Panels<R>,
}

impl<R: Real> Gram<R> {
    /// Of `atoms`, `[n, d_in]`; at least `room` atoms fit.
    pub fn of(path: Path, atoms: &[R], d_in: usize, room: usize) -> Self {
        let n = atoms.len() / d_in.max(1);
        let (panels, room) = (Panels::of_rows(atoms, d_in), room.max(n));
        let products = product::product(path, atoms, &panels);
        let mut data = vec![R::ZERO; room * room];
        for (row, products) in products.chunks(n.max(1)).enumerate() {
            data[row * room..][..n].copy_from_slice(products);
        }
        Gram { data, room, n, panels }
    }

    /// Of `atoms`, unless they are too many.
    pub fn where_it_serves(path: Path, atoms: &[R], d_in: usize) -> Option<Self> {
        (atoms.len() / d_in.max(1) <= MOST_ATOMS).then(|| Gram::of(path, atoms, d_in, 0))
    }

    /// Number of atoms.
    pub fn atoms(&self) -> usize {
        self.n
    }

    /// Products of one atom with all, `[n]`.
    #[inline(always)]
    pub fn row(&self, atom: usize) -> &[R] {
        &self.data[atom * self.room..][..self.n]
    }

    /// Products of all atoms with `rows`, `[rows, n]`.
    pub fn products(&self, path: Path, rows: &[R]) -> Vec<R> {
        product::product(path, rows, &self.panels)
    }

    /// Adds an atom; the same bits as if it had been there from the start. Without room, nothing happens.
    pub fn push(&mut self, path: Path, atom: &[R]) {
        if self.n == self.room {
            return;
        }
        self.panels.push(atom);
        let products = product::product(path, atom, &self.panels);
        for (other, &product) in products.iter().enumerate() {
            self.data[self.n * self.room + other] = product;
            self.data[other * self.room + self.n] = product;
        }
        self.n += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toys;

    #[test]
    fn atoms_added_later_give_the_same_bits() {
        let (n, d) = (70, 19);
        let atoms = toys::atoms(n, d, 1);
        let whole = Gram::of(Path::best(), &atoms, d, 0);
        for first in [0, 1, 31, 32, 69] {
            let mut grown = Gram::of(Path::best(), &atoms[..first * d], d, n);
            atoms[first * d..].chunks(d).for_each(|atom| grown.push(Path::best(), atom));
            assert_eq!(grown.atoms(), n);
            assert!((0..n).all(|i| grown.row(i) == whole.row(i)), "from {first}");
            assert_eq!(grown.products(Path::best(), &atoms), whole.products(Path::best(), &atoms));
        }
    }
}
