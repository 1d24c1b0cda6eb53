//! JumpReLU: `codes = z·1(z > θ)` with a threshold θ per latent that is learned.
//!
//! Rajamanoharan et al. 2024. A jump has no slope; θ learns from an estimate, `∂f/∂θ := −(θ/ε)·K` and
//! `∂1(z > θ)/∂θ := −(1/ε)·K` with `K = 1(|z − θ| < ε/2)`. K looks at the pre-activation z, never at the
//! code after the jump, which would miss the half of the window below θ. The encoder gets no gradient from
//! the count of codes. θ is kept as its logarithm, so that it stays positive.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{DictLearner, Dictionary, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Part, Unit},
        parameters::{Extra, Parameters},
        spec::{positive, sae_config, share},
    },
};

sae_config! {
    /// `[learner] kind = "jumprelu"`.
    pub struct JumpRelu {
        /// λ, the weight of the penalty, for vectors of mean squared norm 1.
        pub l0_coefficient: f64,
        /// What is penalised.
        #[serde(default)]
        pub penalty: Penalty,
        /// Mean L0 that `penalty = "quadratic"` aims at.
        #[serde(default = "twenty")]
        pub target_l0: f64,
        /// c of `penalty = "tanh"`.
        #[serde(default = "four")]
        pub tanh_scale: f64,
        /// θ at the start, for vectors of mean squared norm 1.
        #[serde(default = "thousandth")]
        pub threshold: f64,
        /// ε, the width of the window around θ in which pre-activations teach it.
        #[serde(default = "thousandth")]
        pub bandwidth: f64,
        /// λ grows from 0 during this share of the steps.
        #[serde(default = "crate::skeleton::spec::sparsity_warmup_share")]
        pub sparsity_warmup_share: f64,
    }
}

fn twenty() -> f64 {
    20.0
}

fn four() -> f64 {
    4.0
}

/// θ₀ and ε of Gemma Scope.
fn thousandth() -> f64 {
    0.001
}

/// What codes cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Penalty {
    /// λ·L0 (Gemma Scope).
    #[default]
    L0,
    /// λ·(L0/target − 1)² (saprmarks).
    Quadratic,
    /// λ·Σ tanh(c·f) (SAELens; Anthropic, January 2025).
    Tanh,
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "jumprelu",
    family: "sparse autoencoder",
    summary: "a learned threshold per latent; pays for the number of codes, not for their size",
    paper: "Rajamanoharan et al. 2024, arXiv:2407.14435; Lieberum et al. 2024 (Gemma Scope), arXiv:2408.05147",
    columns: "",
    modes: &["penalty = l0", "penalty = quadratic: aims at target_l0", "penalty = tanh"],
    example: "jobs/specs/learners/jumprelu.toml",
    small: r#"{"kind": "jumprelu", "n_latents": 40, "l0_coefficient": 0.01, "threshold": 0.05,
        "bandwidth": 0.1, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for JumpRelu {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        positive("l0_coefficient", self.l0_coefficient)?;
        let above_zero = [
            ("target_l0", self.target_l0),
            ("tanh_scale", self.tanh_scale),
            ("threshold", self.threshold),
            ("bandwidth", self.bandwidth),
        ];
        for (field, value) in above_zero {
            Invalid::unless(value.is_finite() && value > 0.0, field, "must be positive")?;
        }
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

impl JumpRelu {
    /// Adds the penalty, and its slope at 0 to the pairs of the window. Returns what one code more costs, summed over the batch: what its jump is worth.
    fn charge<R: Real>(&self, loss: &mut Loss<R>, part: &mut Part<R>, window: &mut Part<R>) -> f64 {
        let rows = loss.step.rows().max(1) as f64;
        let weight = loss.step.warmed(self.l0_coefficient, self.sparsity_warmup_share);
        let l0 = || part.values.len() as f64 / rows;
        match self.penalty {
            Penalty::L0 => {
                loss.add(weight * l0());
                weight / rows
            }
            Penalty::Quadratic => {
                let above = l0() / self.target_l0 - 1.0;
                loss.add(weight * above * above);
                2.0 * weight * above / self.target_l0 / rows
            }
            Penalty::Tanh => {
                let c = self.tanh_scale;
                let cost = |_, value: R| {
                    let tanh = (c * value.f64()).tanh();
                    (R::of(tanh), R::of(c * (1.0 - tanh * tanh)))
                };
                loss.penalise(part, weight, cost);
                loss.penalise(window, weight, cost);
                0.0
            }
        }
    }
}

/// Thresholds from their logarithms.
fn thresholds<R: Real>(logarithms: &[R]) -> Vec<R> {
    logarithms.iter().map(|v| R::of(v.f64().exp())).collect()
}

impl SaeVariant for JumpRelu {
    /// The codes, and a second list of the pre-activations in the window below θ: of those the threshold
    /// alone learns, from one number each.
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let theta = thresholds(loss.step.parameters.extra(0));
        let (half, width) = (R::of(self.bandwidth / 2.0), R::of(self.bandwidth));
        let floor: Vec<R> = theta.iter().map(|&t| t - half).collect();
        let Selected { codes, values: z, .. } = loss.select(Selection::Above(&floor));
        let fires = |latent: u32, z: R| z > theta[latent as usize];
        let [(codes, values), (below, z_below)] = codes.partition(&z, fires);
        let mut main = loss.reconstruct(codes, values, loss.scale(Unit::Rows));
        let mut window = loss.silent(below, &main);
        let jump = R::of(self.charge(loss, &mut main, &mut window));
        // ∂/∂log θ = θ·∂/∂θ.
        let estimate = |latent: u32, z: R, slope: R| {
            let theta = theta[latent as usize];
            let inside = z - theta < half && theta - z < half;
            if inside { -(theta * (theta * slope + jump) / width) } else { R::ZERO }
        };
        let mut sums = vec![0f64; theta.len()];
        for row in 0..loss.step.rows() {
            for (part, z) in [(&main, &main.values), (&window, &z_below)] {
                let span = part.codes.offsets[row]..part.codes.offsets[row + 1];
                let pairs = part.codes.latents[span.clone()].iter().zip(&z[span.clone()]);
                for ((&latent, &z), &slope) in pairs.zip(&part.slope[span]) {
                    sums[latent as usize] += estimate(latent, z, slope).f64();
                }
            }
        }
        loss.extra_gradient(0).iter_mut().zip(sums).for_each(|(gradient, sum)| *gradient = R::of(sum));
        aux.add(loss, &main);
        loss.push(main);
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        let theta = thresholds(p.extra(0)).into_iter().map(|t| t / scales.first()).collect();
        Box::new(FrozenSae::new(Inference::Above(theta), folded))
    }

    fn begin(&mut self, p: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        let n = p.n_latents();
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        let start = self.threshold.ln() as f32;
        vec![Extra::new("log_threshold", vec![n], vec![start; n])]
    }

    /// The estimate of a jump is noisy and its direction changes: 0 in Gemma Scope.
    fn momentum(&self) -> f64 {
        0.0
    }
}

#[cfg(test)]
mod tests;
