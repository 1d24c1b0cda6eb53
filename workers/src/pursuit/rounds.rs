//! Pursuit as the encoder of a frozen dictionary.

use std::sync::OnceLock;

use super::{Pursuit, gram::Gram};
use crate::{
    codes::Codes,
    frozen::{Atoms, Coder},
    kernels::Path,
};

/// k rounds of pursuit at inference. The Gram matrix is made at the first use.
#[derive(Debug)]
pub struct Rounds {
    k: usize,
    absolute: bool,
    gram: OnceLock<Option<Gram<f32>>>,
}

impl Rounds {
    /// See [`Pursuit`].
    pub fn new(k: usize, absolute: bool) -> Self {
        Rounds { k, absolute, gram: OnceLock::new() }
    }
}

impl Coder for Rounds {
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes {
        let Atoms { d_in, w_dec, .. } = atoms;
        // Not `get_or_init`: a kernel thread that waits inside could be handed rows to encode, and would
        // then wait for itself. Two threads may make the same matrix instead.
        if self.gram.get().is_none() {
            let _ = self.gram.set(Gram::where_it_serves(path, w_dec, *d_in));
        }
        let gram = self.gram.get().and_then(Option::as_ref);
        let mut rows = atoms.centred(x);
        let (k, absolute) = (self.k, self.absolute);
        Pursuit { atoms: w_dec, d_in: *d_in, k, absolute, gram }.run(path, &mut rows).codes(atoms.n_latents())
    }
}
