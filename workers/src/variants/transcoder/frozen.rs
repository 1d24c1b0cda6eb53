//! A transcoder at harvest: what the code decodes to, and the dense map beside it.

use rayon::prelude::*;

use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::vector,
    learner::{Dictionary, LinearEncoder, Mismatch},
    skeleton::FrozenSae,
};

/// A transcoder that no longer changes.
#[derive(Debug)]
pub(super) struct Frozen {
    /// Encodes, and decodes to what the code explains.
    pub(super) sae: FrozenSae,
    /// `[d_out, d_in]`.
    pub(super) skip: Option<Vec<f32>>,
}

impl Dictionary for Frozen {
    fn d_in(&self) -> usize {
        self.sae.d_in()
    }

    fn d_out(&self) -> usize {
        self.sae.d_out()
    }

    fn n_latents(&self) -> usize {
        self.sae.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.sae.encode(x)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.sae.decode(codes, x_hat);
    }

    fn reconstruct(&self, x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
        self.decode(codes, x_hat);
        let Some(map) = &self.skip else { return };
        let (d_in, d_out) = (self.d_in(), self.d_out());
        self.sae.parameters().threads.install(|| {
            x_hat.par_chunks_mut(d_out).zip(x.par_chunks(d_in)).for_each(|(y, x)| {
                for (y, row) in y.iter_mut().zip(map.chunks_exact(d_in)) {
                    *y += vector::dot(row, x);
                }
            });
        });
    }

    fn atoms(&self) -> &[f32] {
        self.sae.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.sae.linear_encoder()
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        self.sae.export()
    }
}
