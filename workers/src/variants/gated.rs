//! Gated: one bias decides whether a latent fires, another how strongly.
//!
//! Rajamanoharan et al. 2024. `h = (x − b_dec)·w_encᵀ`; gate `h + b_gate > 0`, magnitude
//! `ReLU(eʳ·h + b_mag)`. The penalty and an auxiliary reconstruction see the gate `ReLU(h + b_gate)`, with
//! atoms and `b_dec` held fixed, so that neither shrinks the codes nor drags the dictionary. `b_gate` is
//! the `b_enc` of the skeleton. Once frozen it is a JumpReLU of the rows `eʳ·w_enc` (the paper's §3.3).

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
        vector,
    },
    learner::{DictLearner, Dictionary, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        frozen::Exported,
        objective::{Loss, Part, Unit},
        parameters::{Extra, Parameters},
        spec::{positive, sae_config, share},
    },
};

sae_config! {
    /// `[learner] kind = "gated"`.
    pub struct Gated {
        /// λ, what an open gate costs per unit, for vectors of mean squared norm 1.
        pub l1_coefficient: f64,
        /// λ grows from 0 during this share of the steps.
        #[serde(default = "crate::skeleton::spec::sparsity_warmup_share")]
        pub sparsity_warmup_share: f64,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "gated",
    family: "sparse autoencoder",
    summary: "a gate decides whether a latent fires, a magnitude how strongly; no shrinkage",
    paper: "Rajamanoharan et al. 2024, arXiv:2404.16014",
    columns: "",
    modes: &[],
    example: "jobs/specs/learners/gated.toml",
    small: r#"{"kind": "gated", "n_latents": 40, "l1_coefficient": 0.05, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Gated {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        positive("l1_coefficient", self.l1_coefficient)?;
        share("sparsity_warmup_share", self.sparsity_warmup_share)
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

/// The loss of a gated autoencoder; `penalty` adds what open gates cost.
pub(super) fn forward<'b, 'l, 'r, R: Real>(
    loss: &mut Loss<'b, 'l, 'r, R>,
    aux: &AuxK,
    penalty: impl FnOnce(&mut Loss<'b, 'l, 'r, R>, &mut Part<R>),
) {
    let p = loss.step.parameters;
    let (gain, scale) = (gains(p.extra(0)), loss.scale(Unit::Rows));
    let Selected { codes, values: open, .. } = loss.select(Selection::Above(&[R::ZERO]));
    let pairs = || codes.latents.iter().map(|&latent| latent as usize);
    let products: Vec<R> = pairs().zip(&open).map(|(l, &open)| open - p.b_enc.value[l]).collect();
    let magnitude = |(l, &h): (usize, &R)| positive_part(gain[l].fma(h, p.extra(1)[l]));
    let magnitudes = pairs().zip(&products).map(magnitude).collect();
    let mut main = loss.reconstruct(codes.clone(), magnitudes, scale);
    let mut gate = loss.reconstruct_detached(codes, open, scale);
    penalty(loss, &mut gate);
    let silent = main.values.iter().zip(&mut main.slope).filter(|(value, _)| **value == R::ZERO);
    silent.for_each(|(_, slope)| *slope = R::ZERO);
    learn_magnitudes(loss, &main, &products, &gain);
    let latents = main.codes.latents.iter().zip(&gate.slope);
    for ((&latent, &through_gate), slope) in latents.zip(&mut main.slope) {
        *slope = gain[latent as usize].fma(*slope, through_gate);
    }
    aux.add(loss, &main);
    loss.push(main);
}

/// Gradients of r and `b_mag`, given the slopes of the magnitudes. `b_gate` gets what its sum of slopes,
/// which has the magnitudes in it, has too much.
fn learn_magnitudes<R: Real>(loss: &mut Loss<R>, main: &Part<R>, products: &[R], gain: &[R]) {
    let b_mag: Vec<R> = main.codes.sum_by_latent(main.slope.iter().copied());
    let by_product = main.slope.iter().zip(products).map(|(&slope, &h)| slope * h);
    let along: Vec<R> = main.codes.sum_by_latent(by_product);
    let times_gain = |values: &[R]| values.iter().zip(gain).map(|(&v, &g)| v * g).collect::<Vec<_>>();
    loss.extra_gradient(0).copy_from_slice(&times_gain(&along));
    loss.extra_gradient(1).copy_from_slice(&b_mag);
    let mut excess = times_gain(&b_mag);
    vector::scale(-R::ONE, &mut excess);
    loss.add_bias_gradient(excess);
}

fn gains<R: Real>(r: &[R]) -> Vec<R> {
    r.iter().map(|v| R::of(v.f64().exp())).collect()
}

fn positive_part<R: Real>(value: R) -> R {
    if value > R::ZERO { value } else { R::ZERO }
}

/// r and `b_mag`, zeros.
pub(super) fn extras(n_latents: usize) -> Vec<Extra<f32>> {
    let zeros = |name| Extra::new(name, vec![n_latents], vec![0.0; n_latents]);
    vec![zeros("r_mag"), zeros("b_mag")]
}

/// The JumpReLU it is: with gains in the encoder rows, the gate `h + b_gate > 0` is the threshold
/// `b_mag − eʳ·b_gate` of the magnitude. Exported as gated, with `r_mag` 0.
pub(super) fn freeze(
    p: &Parameters<f32>,
    mut folded: FrozenParameters,
    scales: &Scales,
) -> Box<dyn Dictionary> {
    let (gain, n, d) = (gains(p.extra(0)), p.n_latents(), p.d_in);
    let b_mag: Vec<f32> = p.extra(1).iter().map(|v| v / scales.first()).collect();
    let b_gate: Vec<f32> = folded.b_enc.iter().zip(&gain).map(|(b, g)| b * g).collect();
    let theta = b_mag.iter().zip(&b_gate).map(|(mag, gate)| (mag - gate).max(0.0)).collect();
    folded.w_enc.chunks_exact_mut(d).zip(&gain).for_each(|(row, &gain)| vector::scale(gain, row));
    folded.b_enc.clone_from(&b_mag);
    let tensors =
        vec![("b_gate", vec![n], b_gate), ("b_mag", vec![n], b_mag), ("r_mag", vec![n], vec![0.0; n])];
    let exported = Exported { architecture: "gated", tensors, ..Exported::default() };
    Box::new(FrozenSae::with_export(Inference::Above(theta), folded, exported))
}

impl SaeVariant for Gated {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let weight = loss.step.warmed(self.l1_coefficient, self.sparsity_warmup_share);
        forward(loss, aux, |loss, gate| {
            loss.penalise(gate, weight, |_, open| (open, R::ONE));
        });
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        freeze(p, folded, scales)
    }

    fn begin(&mut self, p: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        extras(p.n_latents())
    }

    /// 0 in the paper.
    fn momentum(&self) -> f64 {
        0.0
    }
}

#[cfg(test)]
mod tests;
