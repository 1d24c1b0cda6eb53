//! Variational: codes are drawn from `N(μ, σ²)` with `μ = pre_acts`, and their distribution is held near
//! N(0, 1).
//!
//! After `ZachData/SPAR`: the k drawn codes of largest magnitude, `‖e‖² + β·KL`. There, TopK is better in
//! most metrics; it is here for comparison. μ without ReLU. σ is one number, or `log σ²` is linear in the
//! row. Noise is drawn for the candidates of largest |μ| only (exact once `candidates` is `n_latents`);
//! the divergence counts all latents. A learned σ costs about two more products with the batch per step.
//! Once frozen, codes are the k largest |μ|.

mod divergence;
mod sample;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::{
    divergence::Variances,
    sample::{Deviation, Draw, Sampled},
};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
        residual::along,
    },
    learner::{DictLearner, Dictionary, Scales, Setup},
    random::{hash, unit},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::{Extra, Parameters},
        spec::{k_of, positive, sae_config, share},
    },
};

sae_config! {
    /// `[learner] kind = "vsae"`.
    pub struct VSae {
        /// Codes kept per row.
        pub k: usize,
        /// β, the weight of the divergence, for vectors of mean squared norm 1.
        pub kl_coefficient: f64,
        /// Where σ comes from.
        #[serde(default)]
        pub variance: Variance,
        /// σ; where it is learned, what it starts from (between e⁻³ and e).
        #[serde(default = "twentieth")]
        pub sigma: f64,
        /// Latents per row that noise is drawn for: those of largest |μ|. Left out: 4·k.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub candidates: Option<usize>,
        /// β grows from 0 during this share of the steps.
        #[serde(default = "crate::skeleton::spec::sparsity_warmup_share")]
        pub kl_warmup_share: f64,
    }
}

/// The 1 of the source belongs to vectors of norm √d.
fn twentieth() -> f64 {
    0.05
}

/// Where σ comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Variance {
    /// The same for all rows and latents.
    #[default]
    Fixed,
    /// `log σ² = (x − b_dec)·w_varᵀ + b_var`, between −6 and 2.
    Learned,
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "vsae",
    family: "sparse autoencoder",
    summary: "codes are drawn from a distribution per row that is held near N(0, 1); for comparison",
    paper: "Kingma & Welling 2013, arXiv:1312.6114; https://github.com/ZachData/SPAR",
    columns: "",
    modes: &["variance = fixed", "variance = learned: sigma is a function of the row"],
    example: "jobs/specs/learners/vsae.toml",
    small: r#"{"kind": "vsae", "n_latents": 40, "k": 4, "kl_coefficient": 1e-4, "sigma": 0.06,
        "variance": "learned", "dead_after_tokens": 200}"#,
};

impl LearnerConfig for VSae {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let variational = Variational { config: self.clone(), seed: setup.seed, noise: normal };
        Ok(Box::new(Sae::new(variational, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        positive("kl_coefficient", self.kl_coefficient)?;
        Invalid::unless(self.sigma.is_finite() && self.sigma > 0.0, "sigma", "must be positive")?;
        let candidates = self.candidates.unwrap_or(self.k);
        let fine = candidates >= self.k && candidates <= self.n_latents;
        Invalid::unless(fine, "candidates", "must be between k and n_latents")?;
        share("kl_warmup_share", self.kl_warmup_share)
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn cpu_only(&self) -> Option<&'static str> {
        Some("its divergence counts all latents of all rows, not those of a code alone")
    }
}

/// A number of N(0, 1) from seed, step, row and latent.
type Noise = fn([u64; 4]) -> f64;

/// Stream of the random numbers used here.
const NOISE: u64 = 0x4e_4f49_5345;

/// Box–Muller.
fn normal([seed, step, row, latent]: [u64; 4]) -> f64 {
    let word = hash(&[seed, NOISE, step, row, latent]);
    let radius = (-2.0 * (1.0 - unit(word)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(hash(&[word]))).cos()
}

/// The learner with its noise.
#[derive(Debug, Clone)]
struct Variational {
    config: VSae,
    seed: u64,
    noise: Noise,
}

impl Variational {
    fn draw<R: Real>(&self, loss: &mut Loss<R>, y: &[R]) -> Sampled<R> {
        let (config, step) = (&self.config, loss.step);
        let extra = |index| step.parameters.extra(index);
        let candidates = config.candidates.unwrap_or((4 * config.k).min(config.n_latents));
        let Selected { codes, values: means, .. } = loss.select(Selection::AbsTopK(candidates));
        let products = match config.variance {
            Variance::Fixed => Vec::new(),
            Variance::Learned => {
                along(step.path, y, &codes, (extra(0), step.parameters.d_in), step.lanes).along_atoms
            }
        };
        let deviation = match config.variance {
            Variance::Fixed => Deviation::Fixed(config.sigma),
            Variance::Learned => Deviation::Learned(&products, extra(1)),
        };
        let (noise, seed, k) = (self.noise, self.seed, config.k);
        Draw { step, codes: &codes, means: &means, deviation, noise, seed, k }.run()
    }

    /// Adds `weight·KL` where σ is the same everywhere.
    fn add_fixed_variance<R: Real>(&self, loss: &mut Loss<R>, weight: f64) {
        let pairs = (loss.step.rows() * loss.step.parameters.n_latents()) as f64;
        loss.add(weight * pairs * divergence::of_variance(2.0 * self.config.sigma.ln()));
    }
}

impl SaeVariant for Variational {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let y = divergence::centred(loss);
        let Sampled { codes, values, by_variance } = self.draw(loss, &y);
        let main = loss.reconstruct(codes, values, loss.scale(Unit::Rows));
        let beta = loss.step.warmed(self.config.kl_coefficient, self.config.kl_warmup_share);
        let weight = beta / loss.step.rows().max(1) as f64;
        divergence::add_means(loss, &y, weight);
        match self.config.variance {
            Variance::Fixed => self.add_fixed_variance(loss, weight),
            Variance::Learned => {
                let slopes: Vec<R> = main.slope.iter().zip(&by_variance).map(|(&a, &b)| a * b).collect();
                let p = loss.step.parameters;
                let (w_var, b_var) = (p.extra(0), p.extra(1));
                Variances { w_var, b_var, codes: &main.codes, slopes: &slopes, y: &y }.add(loss, weight);
            }
        }
        aux.add(loss, &main);
        loss.push(main);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::AbsTopK(self.config.k), folded))
    }

    fn begin(&mut self, p: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        let (n, d) = (p.n_latents(), p.d_in);
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        let start = (2.0 * self.config.sigma.ln()) as f32;
        match self.config.variance {
            Variance::Fixed => Vec::new(),
            Variance::Learned => vec![
                Extra::new("w_var", vec![n, d], vec![0.0; n * d]),
                Extra::new("b_var", vec![n], vec![start; n]),
            ],
        }
    }
}

#[cfg(test)]
mod tests;
