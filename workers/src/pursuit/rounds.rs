//! Pursuit as the encoder of a frozen dictionary.

use super::{Pursuit, gram::Gram};
use crate::{
    codes::Codes,
    frozen::{Atoms, Coder},
    kernels::Path,
    made::Made,
};

/// k rounds of pursuit at inference. The Gram matrix is made at the first use.
#[derive(Debug)]
pub struct Rounds {
    k: usize,
    absolute: bool,
    gram: Made<Option<Gram<f32>>>,
}

impl Rounds {
    /// See [`Pursuit`].
    pub fn new(k: usize, absolute: bool) -> Self {
        Rounds { k, absolute, gram: Made::default() }
    }
}

impl Coder for Rounds {
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes {
        let Atoms { d_in, w_dec, .. } = atoms;
        let gram = self.gram.get(|| Gram::where_it_serves(path, w_dec, *d_in)).as_ref();
        let mut rows = atoms.centred(x);
        let (k, absolute) = (self.k, self.absolute);
        Pursuit { atoms: w_dec, d_in: *d_in, k, absolute, gram }.run(path, &mut rows).codes(atoms.n_latents())
    }
}
