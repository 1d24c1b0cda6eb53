//! A KronSAE that no longer changes. Codes are homogeneous in the input, so no scale enters the encoder.

use serde_json::json;

use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    kernels::{
        Path,
        encode::{Encoder, Heads},
        gather,
    },
    learner::{Dictionary, LinearEncoder, Mismatch},
    state::LearnerState,
    threads::Threads,
};

/// Directions, atoms and bias in the units of the data.
#[derive(Debug)]
pub(super) struct KronDictionary {
    pub(super) heads: Heads,
    pub(super) k: usize,
    pub(super) w_enc: Vec<f32>,
    pub(super) w_dec: Vec<f32>,
    pub(super) b_dec: Vec<f32>,
    pub(super) threads: Threads,
}

impl Dictionary for KronDictionary {
    fn d_in(&self) -> usize {
        self.b_dec.len()
    }

    fn n_latents(&self) -> usize {
        self.w_dec.len() / self.b_dec.len()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        let bias = vec![0.0; self.w_enc.len() / self.b_dec.len()];
        let encoder = Encoder::all(&self.w_enc, &bias, self.b_dec.len());
        let select = || encoder.select_heads(Path::best(), x, &self.b_dec, (self.heads, self.k), None);
        let [found, _] = self.threads.install(select);
        found.codes
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let decode = || gather::decode(Path::best(), codes, &codes.values, &self.w_dec, &self.b_dec, x_hat);
        self.threads.install(decode);
    }

    fn atoms(&self) -> &[f32] {
        &self.w_dec
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        None
    }

    /// `W_left` `[heads, m, d_in]`, `W_right` `[heads, n, d_in]`, `W_dec`, `b_dec`.
    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let (Heads { m, n }, d) = (self.heads, self.d_in());
        let heads = self.w_enc.chunks((m + n) * d);
        let left: Vec<f32> = heads.clone().flat_map(|head| &head[..m * d]).copied().collect();
        let right: Vec<f32> = heads.clone().flat_map(|head| &head[m * d..]).copied().collect();
        let mut tensors = LearnerState::default();
        tensors.push_f32("W_left", vec![heads.len(), m, d], &left);
        tensors.push_f32("W_right", vec![heads.len(), n, d], &right);
        tensors.push_f32("W_dec", vec![self.n_latents(), d], &self.w_dec);
        tensors.push_f32("b_dec", vec![d], &self.b_dec);
        export::plain("kron", (d, self.n_latents()), &tensors, &json!({ "k": self.k, "m": m, "n": n }))
    }
}
