//! The frozen form of learners without an encoder: atoms, and the coder they were learned with.

use serde_json::Value;

use super::{AnyCoder, CodedAtoms};
use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    learner::{Dictionary, LinearEncoder, Mismatch},
    state::LearnerState,
};

/// Atoms that no longer change; codes are searched for.
#[derive(Debug)]
pub struct Searched {
    /// The word in `[learner] kind`.
    pub kind: &'static str,
    /// Finds the codes, in the units of the data.
    pub coder: AnyCoder<f32>,
    /// The atoms.
    pub atoms: CodedAtoms,
    /// What `cfg.json` says beside shapes: how to code.
    pub cfg: Value,
    /// Tensors beside `W_dec` and `b_dec` in `sae_weights.safetensors`.
    pub tensors: LearnerState,
}

impl Dictionary for Searched {
    fn d_in(&self) -> usize {
        self.atoms.d()
    }

    fn n_latents(&self) -> usize {
        self.atoms.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.atoms.encode(&self.coder, false, x)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.atoms.decode(codes, x_hat);
    }

    fn atoms(&self) -> &[f32] {
        self.atoms.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        None
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let (n, d) = (self.n_latents(), self.d_in());
        let mut tensors = self.tensors.clone();
        tensors.push_f32("W_dec", vec![n, d], self.atoms.atoms());
        tensors.push_f32("b_dec", vec![d], self.atoms.b_dec());
        export::plain(self.kind, (d, n), &tensors, &self.cfg)
    }
}
