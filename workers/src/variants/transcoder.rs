//! Transcoder: reconstructs one column from the sparse code of another, such as an MLP's output from its
//! input; with `skip`, a dense linear map goes beside the code.
//!
//! SAELens has transcoders of ReLU and of JumpReLU, so that is what it can load: `k = n_latents`, which keeps
//! all that is positive, and `batch`, which becomes a threshold.
//!
//! Dunefsky et al. 2024 (*Transcoders find interpretable LLM feature circuits*); Paulo et al. 2025
//! (*Transcoders beat sparse autoencoders*: skip transcoders).

mod frozen;

use std::borrow::Cow;

use self::frozen::Frozen;
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{ActivationBatch, Beside, Columns, DictLearner, Dictionary, Mismatch, Role, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        frozen::Exported,
        objective::{Loss, Unit},
        parameters::{Extra, Parameters},
        spec::{k_of, sae_config},
        threshold::Threshold,
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "transcoder"`.
    pub struct Transcoder {
        /// Latents kept per row; with `batch`, on average.
        pub k: usize,
        /// Keeps the `k·rows` largest pre-activations of a batch, and at harvest those above a threshold.
        #[serde(default)]
        pub batch: bool,
        /// The column that is reconstructed.
        pub target: String,
        /// Adds a dense linear map from the input to the reconstruction.
        #[serde(default)]
        pub skip: bool,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "transcoder",
    family: "sparse autoencoder",
    summary: "reconstructs another column from a TopK code of the input; optionally with a dense skip",
    paper: "Dunefsky et al. 2024, arXiv:2406.11944; Paulo et al. 2025, arXiv:2501.18823",
    columns: "target: a vector",
    modes: &["skip: a dense linear map beside the code", "batch: BatchTopK, a threshold at harvest"],
    example: "jobs/specs/learners/transcoder.toml",
    small: r#"{"kind": "transcoder", "n_latents": 40, "k": 4, "target": "y", "skip": true, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Transcoder {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let width = setup.beside_widths.first().copied().unwrap_or(setup.d_in);
        let learner = Learner { config: self.clone(), width, threshold: Threshold::default() };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        Invalid::unless(!self.target.is_empty(), "target", "must name a column of vectors")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        let target = Beside { name: self.target.clone(), role: Role::Target };
        Columns { inputs: Vec::new(), beside: vec![target] }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }

    fn residuals(&self) -> usize {
        // With the map, rows and residual lie there turned over, too.
        if self.skip { 4 } else { 2 }
    }
}

/// The settings, the width of the target, and what batches have kept.
#[derive(Debug)]
struct Learner {
    config: Transcoder,
    width: usize,
    threshold: Threshold,
}

impl Learner {
    fn inference(&self, scale: f32) -> Inference {
        match self.config.batch {
            true => Inference::Above(vec![self.threshold.unscaled(scale)]),
            false => Inference::TopK(self.config.k),
        }
    }

    /// The name SAELens has for it. A TopK that leaves out what is positive has none there.
    fn architecture(&self) -> &'static str {
        let Transcoder { batch, skip, k, n_latents, .. } = self.config;
        match (batch, k == n_latents, skip) {
            (true, _, true) => "jumprelu_skip_transcoder",
            (true, _, false) => "jumprelu_transcoder",
            (false, true, true) => "skip_transcoder",
            (false, true, false) => "transcoder",
            (false, false, true) => "atomflow_skip_transcoder",
            (false, false, false) => "atomflow_transcoder",
        }
    }
}

impl SaeVariant for Learner {
    fn target<'b>(&self, batch: &ActivationBatch<'b>) -> Option<(usize, Cow<'b, [f32]>)> {
        let target = batch.beside.first()?;
        let finite = |values: &[f32]| values.iter().fold(true, |all, value| all & value.is_finite());
        // A row that is not finite may have no code, and a finite target would not tell.
        let target = match finite(batch.x) {
            true => Cow::Borrowed(&target[..]),
            false => Cow::Owned(vec![f32::NAN; target.len()]),
        };
        Some((self.width, target))
    }

    fn begin(&mut self, parameters: &mut Parameters<f32>, setup: &Setup) -> Vec<Extra<f32>> {
        let shape = vec![parameters.d_out(), setup.d_in];
        let map = Extra::new("skip", shape, vec![0.0; parameters.d_out() * setup.d_in]);
        if self.config.skip { vec![map] } else { Vec::new() }
    }

    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let k = self.config.k;
        let selection = if self.config.batch { Selection::BatchTopK(k) } else { Selection::TopK(k) };
        let Selected { codes, values, threshold, .. } = loss.select(selection);
        self.threshold.observe(threshold.map(Real::f64));
        let scale = loss.scale(Unit::Variance);
        let part = if self.config.skip {
            // The code explains what the map leaves.
            let left = loss.unmapped(0);
            let part = loss.reconstruct_from(&left, codes, values, scale);
            loss.push_map(0, &part);
            part
        } else {
            loss.reconstruct(codes, values, scale)
        };
        aux.add(loss, &part);
        loss.push(part);
    }

    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        let (scale, target) = (scales.first(), scales.beside.first().copied().unwrap_or(1.0));
        // Codes are in units of the input, atoms bring them to those of the target.
        let ratio = scale / target;
        let w_dec = folded.w_dec.iter().map(|v| v * ratio).collect();
        let b_dec = p.b_dec.value.iter().map(|v| v / target).collect();
        let folded = FrozenParameters { w_dec, b_dec, ..folded };
        let skip = self.config.skip.then(|| p.extra(0).iter().map(|v| v * ratio).collect::<Vec<f32>>());
        let inference = self.inference(scale);
        let exported = Exported::of(&inference, folded.b_enc.len());
        let mut exported = Exported { architecture: self.architecture(), ..exported };
        if let Some(map) = &skip {
            exported.tensors.push(("W_skip", vec![self.width, folded.d_in], map.clone()));
        }
        Box::new(Frozen { sae: FrozenSae::with_export(inference, folded, exported), skip })
    }

    fn save(&self, state: &mut LearnerState) {
        self.threshold.save(state);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        self.threshold = Threshold::read(state)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
