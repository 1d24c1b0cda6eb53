//! Codes of a frozen semi-NMF.

use rayon::prelude::*;

use crate::{
    codes::Codes,
    frozen::{Atoms, Coder},
    kernels::Path,
    linear::multiplicative::Features,
};

/// Level after level; of the last, the k largest, refitted.
#[derive(Debug)]
pub(super) struct LevelCoder {
    pub(super) levels: Vec<Features>,
    /// Lengths of the atoms before they were made unit.
    pub(super) norms: Vec<f64>,
    pub(super) k: usize,
    pub(super) rounds: usize,
}

impl Coder for LevelCoder {
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes {
        let mut rows: Vec<f64> = x.iter().map(|&v| f64::from(v)).collect();
        let mut products = Vec::new();
        for level in &self.levels {
            products = level.products(path, &rows);
            rows = level.start(&products);
            level.refine(path, &products, &mut rows, self.rounds);
        }
        let mut codes = Codes::new(atoms.n_latents());
        let Some(last) = self.levels.last() else { return codes };
        let n = atoms.n_latents();
        let pairs = rows.par_chunks(n).zip(products.par_chunks(n));
        let kept: Vec<_> = pairs.map(|(g, p)| last.keep_largest(p, g, self.k, self.rounds)).collect();
        for row in kept {
            #[allow(clippy::cast_possible_truncation, reason = "codes are f32, latents are counted in u32")]
            let pairs = row.into_iter().map(|(i, g)| (i as u32, (g * self.norms[i]) as f32));
            codes.push_row(pairs.filter(|pair| pair.1 != 0.0));
        }
        codes
    }
}
