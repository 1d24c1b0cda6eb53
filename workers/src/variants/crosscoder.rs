//! Crosscoder: one code for several columns of a token (layers, models, snapshots), each with its own
//! encoder and decoder; the norms of an atom's parts say where the feature lives.
//!
//! Lindsey et al. 2024 (*Sparse Crosscoders for Cross-Layer Features and Model Diffing*);
//! `OpenMOSS/Language-Model-SAEs` `models/crosscoder.py`. The columns are one vector here: pre-acts are the
//! sum over columns, and the loss the sum of their squared errors. BatchTopK and not L1, whose shrinkage
//! makes latents look exclusive to one column (`science-of-finetuning/crosscoder_learning`).

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    card::Matrix,
    kernels::{Path, Real, encode::Selected, vector},
    learner::{Columns, DictLearner, Dictionary, Mismatch, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        frozen::Exported,
        objective::{Loss, Unit},
        parameters::{Extra, Parameters},
        spec::{k_of, sae_config},
        threshold::Threshold,
        update::Atoms,
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "crosscoder"`.
    pub struct Crosscoder {
        /// Latents kept per row, on average over a batch.
        pub k: usize,
        /// The columns that share a code, at least one; each has a scale of its own.
        pub inputs: Vec<String>,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "crosscoder",
    family: "sparse autoencoder",
    summary: "one BatchTopK code for several columns of a token; relative norms say where a feature lives",
    paper: "Lindsey et al. 2024, https://transformer-circuits.pub/2024/crosscoders",
    columns: "inputs: vectors",
    modes: &[],
    example: "jobs/specs/learners/crosscoder.toml",
    small: r#"{"kind": "crosscoder", "n_latents": 40, "k": 4, "inputs": ["a", "b"], "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Crosscoder {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let learner =
            Learner { k: self.k, widths: setup.input_widths.to_vec(), threshold: Threshold::default() };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        let fine = !self.inputs.is_empty() && self.inputs.iter().all(|name| !name.is_empty());
        Invalid::unless(fine, "inputs", "must name the columns that share a code")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        Columns { inputs: self.inputs.clone(), beside: Vec::new() }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

/// Widths of the columns, and what batches have kept.
#[derive(Debug)]
struct Learner {
    k: usize,
    widths: Vec<usize>,
    threshold: Threshold,
}

impl Learner {
    /// Norm of each column's part of each atom, `[n_latents, columns]`.
    fn profile(&self, w_dec: &[f32]) -> Vec<f32> {
        let d: usize = self.widths.iter().sum();
        let of = |atom: &[f32]| {
            let mut at = 0;
            let parts = self.widths.iter().map(move |&width| {
                at += width;
                at - width..at
            });
            parts.map(|part| vector::dot(&atom[part.clone()], &atom[part]).sqrt()).collect::<Vec<_>>()
        };
        w_dec.chunks_exact(d).flat_map(of).collect()
    }
}

impl SaeVariant for Learner {
    /// Every column starts from the same directions where widths allow, so that features can be shared;
    /// with one column it is an autoencoder.
    fn begin(&mut self, p: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        let (d, first) = (p.d_in, self.widths[0]);
        if self.widths.len() > 1 && self.widths.iter().all(|&width| width == first) {
            for matrix in [&mut p.w_enc.value, &mut p.w_dec.value] {
                for row in matrix.chunks_exact_mut(d) {
                    let (head, rest) = row.split_at_mut(first);
                    rest.chunks_exact_mut(first).for_each(|part| part.copy_from_slice(head));
                    vector::normalize(row);
                }
            }
        }
        Vec::new()
    }

    /// The whole atom is of unit norm, so that the relative norms of its parts are free.
    fn atoms(&self) -> Atoms {
        Atoms::UnitNorm
    }

    /// Selects on `pre_act · Σ_h ‖d_i^h‖`: a latent that lives in many columns explains more.
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let norms = loss.norms(Matrix::Atoms, &self.widths);
        let Selected { codes, values, threshold, .. } = loss.select_weighted(self.k, &norms);
        self.threshold.observe(threshold.map(Real::f64));
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
    }

    /// Columns have different scales: encoder columns are multiplied by that of theirs, decoder columns
    /// divided. Codes are in the units of the first column.
    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        let by_value: Vec<f32> =
            self.widths.iter().zip(&scales.inputs).flat_map(|(&width, &scale)| vec![scale; width]).collect();
        let unit = scales.first();
        let times = |row: &[f32]| row.iter().zip(&by_value).map(|(v, s)| v * s / unit).collect::<Vec<_>>();
        let over = |row: &[f32]| row.iter().zip(&by_value).map(|(v, s)| v * unit / s).collect::<Vec<_>>();
        let parameters = FrozenParameters {
            w_enc: p.w_enc.value.chunks_exact(p.d_in).flat_map(times).collect(),
            w_dec: p.w_dec.value.chunks_exact(p.d_in).flat_map(over).collect(),
            b_dec: p.b_dec.value.iter().zip(&by_value).map(|(v, s)| v / s).collect(),
            ..folded
        };
        let n = p.n_latents();
        let threshold = self.threshold.unscaled(unit);
        let norms = vector::norms_in_parts(Path::best(), &p.w_dec.value, &self.widths);
        let thresholds = norms.iter().map(|norm| threshold / norm).collect();
        let inference = Inference::Above(thresholds);
        let mut exported = Exported::of(&inference, n);
        let columns = self.widths.len();
        // One column makes a JumpReLU, and SAELens refuses tensors it does not know.
        if columns > 1 {
            exported.architecture = "atomflow_crosscoder";
            exported.cfg = serde_json::json!({ "column_widths": self.widths });
            exported.tensors.push(("column_norms", vec![n, columns], self.profile(&p.w_dec.value)));
        }
        Box::new(FrozenSae::with_export(inference, parameters, exported))
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
