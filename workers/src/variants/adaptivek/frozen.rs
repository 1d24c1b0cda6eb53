//! An AdaptiveK SAE that no longer changes: the largest latents of a row, as many as its probe says.

use super::Probe;
use crate::{
    codes::Codes,
    export::ExportedFile,
    learner::{Dictionary, LinearEncoder, Mismatch},
    skeleton::FrozenSae,
    threads::Threads,
};

/// A dictionary that gives every row the most latents, and the probe that takes some away.
#[derive(Debug)]
pub(super) struct AdaptiveDictionary {
    pub(super) most: FrozenSae,
    pub(super) probe: Probe,
    /// The fewest and the most latents of a row.
    pub(super) range: (usize, usize),
    pub(super) threads: Threads,
}

impl Dictionary for AdaptiveDictionary {
    fn d_in(&self) -> usize {
        self.most.d_in()
    }

    fn n_latents(&self) -> usize {
        self.most.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        let codes = self.most.encode(x);
        self.threads.install(|| {
            let latents = self.probe.latents(x, self.range);
            codes.largest(&codes.values, |row| latents[row]).0
        })
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.most.decode(codes, x_hat);
    }

    fn atoms(&self) -> &[f32] {
        self.most.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.most.linear_encoder()
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        self.most.export()
    }
}
