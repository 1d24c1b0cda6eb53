//! A sparse autoencoder that no longer changes: one product with the vector, a selection, a gather.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    card::{Card, Encodes, digest::Digests},
    codes::Codes,
    export::{self, ExportedFile},
    kernels::{
        Path,
        encode::{Encoder, Quantised, Selection},
        gather, vector,
    },
    learner::{Dictionary, LinearEncoder, Mismatch},
    made::Made,
    stats::FixedPoint,
    threads::Threads,
};

/// Parameters after the input scale has been folded in: they apply to unscaled vectors.
#[derive(Debug, Clone)]
pub struct FrozenParameters {
    /// Width of the vectors.
    pub d_in: usize,
    /// Whether `b_dec` is subtracted before encoding, too.
    pub pre_bias: bool,
    /// Encoder rows `[n_latents, d_in]`.
    pub w_enc: Vec<f32>,
    /// Encoder bias `[n_latents]`.
    pub b_enc: Vec<f32>,
    /// Atoms `[n_latents, d_out]`.
    pub w_dec: Vec<f32>,
    /// Decoder bias `[d_out]`.
    pub b_dec: Vec<f32>,
    /// Kernel threads.
    pub threads: Threads,
    /// The card that encodes, if that is not the CPU.
    pub card: Option<Arc<dyn Card>>,
}

impl FrozenParameters {
    /// The same dictionary with atoms of unit norm: codes grow by the norm that atoms lose, since
    /// ReLU and thresholds at 0 commute with positive factors. Tables then speak of unit atoms.
    pub fn with_unit_atoms(mut self) -> Self {
        let (d_in, d_out) = (self.d_in, self.b_dec.len());
        let rows = self.w_enc.chunks_exact_mut(d_in).zip(&mut self.b_enc);
        for ((encoder, bias), atom) in rows.zip(self.w_dec.chunks_exact_mut(d_out)) {
            let norm = vector::dot(atom, atom).sqrt();
            if norm > 0.0 {
                vector::scale(1.0 / norm, atom);
                vector::scale(norm, encoder);
                *bias *= norm;
            }
        }
        self
    }
}

/// How pre-activations become codes once learning is over.
#[derive(Debug, Clone, PartialEq)]
pub enum Inference {
    /// The `k` largest positive ones of a row.
    TopK(usize),
    /// The `k` of largest magnitude, signed.
    AbsTopK(usize),
    /// All above a threshold per latent, which is not negative. One number is for all latents.
    Above(Vec<f32>),
}

impl Inference {
    fn selection(&self) -> Selection<'_, f32> {
        match self {
            Inference::TopK(k) => Selection::TopK(*k),
            Inference::AbsTopK(k) => Selection::AbsTopK(*k),
            Inference::Above(thresholds) => Selection::Above(thresholds),
        }
    }
}

/// What an exported dictionary says beyond its weights.
#[derive(Debug, Clone, Default)]
pub struct Exported {
    /// The architecture's name in SAELens, or `atomflow_<kind>`.
    pub architecture: &'static str,
    /// Fields of `cfg.json`.
    pub cfg: Value,
    /// Tensors beside the four.
    pub tensors: Vec<(&'static str, Vec<usize>, Vec<f32>)>,
}

impl Exported {
    /// ReLU, as SAELens calls it.
    pub fn standard() -> Self {
        Exported { architecture: "standard", ..Exported::default() }
    }

    /// The SAELens architecture of an inference: thresholds make a JumpReLU.
    pub fn of(inference: &Inference, n_latents: usize) -> Self {
        let largest = |k: &usize| json!({ "k": k, "rescale_acts_by_decoder_norm": false });
        let (architecture, cfg) = match inference {
            Inference::TopK(k) => ("topk", largest(k)),
            Inference::AbsTopK(k) => ("abstopk", largest(k)),
            Inference::Above(_) => ("jumprelu", json!({})),
        };
        let tensors = match inference {
            Inference::Above(t) if t.len() == 1 => {
                vec![("threshold", vec![n_latents], vec![t[0]; n_latents])]
            }
            Inference::Above(t) => vec![("threshold", vec![n_latents], t.clone())],
            _ => Vec::new(),
        };
        Exported { architecture, cfg, tensors }
    }
}

/// A dictionary of one encoder product.
#[derive(Debug)]
pub struct FrozenSae {
    inference: Inference,
    path: Path,
    parameters: FrozenParameters,
    /// What is subtracted before encoding, `[d_in]`.
    centre: Vec<f32>,
    exported: Exported,
    /// Where codes are found, if not here.
    card: Option<Box<dyn Encodes>>,
    /// Made from the first rows, kept for all blocks.
    quantised: Made<Option<Quantised>>,
}

impl FrozenSae {
    /// With the export that belongs to the inference.
    pub fn new(inference: Inference, parameters: FrozenParameters) -> Self {
        let exported = Exported::of(&inference, parameters.b_enc.len());
        FrozenSae::with_export(inference, parameters, exported)
    }

    /// With an export of its own.
    pub fn with_export(inference: Inference, parameters: FrozenParameters, exported: Exported) -> Self {
        let zeros = || vec![0.0; parameters.d_in];
        let centre = if parameters.pre_bias { parameters.b_dec.clone() } else { zeros() };
        let (path, quantised) = (Path::best(), Made::default());
        let card = parameters.card.as_ref().and_then(|card| card.dictionary(&parameters, &inference));
        FrozenSae { inference, path, parameters, centre, exported, card, quantised }
    }

    /// The parameters.
    pub fn parameters(&self) -> &FrozenParameters {
        &self.parameters
    }
}

impl Dictionary for FrozenSae {
    fn d_in(&self) -> usize {
        self.parameters.d_in
    }

    fn d_out(&self) -> usize {
        self.parameters.b_dec.len()
    }

    fn n_latents(&self) -> usize {
        self.parameters.b_enc.len()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        if let Some(card) = &self.card {
            return card.encode(x);
        }
        let p = &self.parameters;
        let mut encoder = Encoder::all(&p.w_enc, &p.b_enc, p.d_in);
        let screen = p.threads.screen();
        p.threads.install(|| {
            if screen.available() && matches!(self.inference, Inference::TopK(_)) {
                let made = self.quantised.get(|| encoder.quantise(self.path, x, &self.centre));
                encoder = made.as_ref().map_or(encoder, |quantised| encoder.with(quantised));
            }
            encoder.select(self.path, screen, x, &self.centre, self.inference.selection()).codes
        })
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let p = &self.parameters;
        p.threads.install(|| gather::decode(self.path, codes, &codes.values, &p.w_dec, &p.b_dec, x_hat));
    }

    fn digests(&self, fixed: FixedPoint) -> Option<Box<dyn Digests>> {
        // What it reconstructs has to be what it encodes.
        let same = self.d_in() == self.d_out();
        self.card.as_ref().filter(|_| same)?.digests(&self.parameters, fixed)
    }

    fn atoms(&self) -> &[f32] {
        &self.parameters.w_dec
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        Some(LinearEncoder { rows: &self.parameters.w_enc, bias: &self.parameters.b_enc })
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        export::sae_lens(&self.parameters, &self.exported)
    }
}
