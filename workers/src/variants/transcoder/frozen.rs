//! A transcoder at harvest: what the code decodes to, and the dense map beside it.

use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::{Path, product::Panels},
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
        let mut around = vec![0f32; x_hat.len()];
        self.sae.parameters().threads.install(|| {
            Panels::of_rows(map, self.d_in()).times(Path::best(), x, &mut around);
        });
        x_hat.iter_mut().zip(around).for_each(|(x_hat, more)| *x_hat += more);
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
