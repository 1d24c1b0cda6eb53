//! Codes of a frozen model: the most probable state, with the values expected in it.

use super::{em::Em, prior::Prior, states::Set};
use crate::{
    codes::Codes,
    frozen::{Atoms, Coder},
    kernels::Path,
    linear::product,
};

/// A model that no longer learns.
#[derive(Debug)]
pub struct CauseCoder<P> {
    model: Em<P>,
    gram: Vec<f64>,
    sets: Vec<Set>,
    /// Lengths of the causes in the units of the data: atoms are unit.
    lengths: Vec<f64>,
    scale: f64,
}

impl<P: Prior> CauseCoder<P> {
    /// For vectors that the model sees multiplied by `scale`.
    pub(super) fn new(model: Em<P>, lengths: Vec<f64>, scale: f64) -> Self {
        let gram = product::gram(Path::best(), &model.w, model.offset.len());
        CauseCoder { gram, sets: model.sets(), model, lengths, scale }
    }
}

impl<P: Prior> Coder for CauseCoder<P> {
    #[allow(clippy::cast_possible_truncation, reason = "codes are f32, latents are counted in u32")]
    fn codes(&self, path: Path, atoms: &Atoms, x: &[f32]) -> Codes {
        let mut codes = Codes::new(atoms.n_latents());
        let offset = self.model.offset.iter().cycle();
        let y: Vec<f64> = x.iter().zip(offset).map(|(&x, m)| f64::from(x) * self.scale - m).collect();
        for posterior in self.model.infer(path, &y, &self.gram, &self.sets, 1.0).0 {
            let pairs = posterior.best.iter().map(|&(h, v)| (h as u32, (v * self.lengths[h]) as f32));
            codes.push_row(pairs.filter(|pair| pair.1 != 0.0));
        }
        codes
    }
}
