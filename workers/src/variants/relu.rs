//! ReLU with an L1 penalty, the baseline: `codes = ReLU(pre_acts)`, what is small is paid for.
//!
//! Two published forms. "2023" (Bricken et al., *Towards Monosemanticity*): rows are centred, atoms have
//! unit norm, `‖e‖² + λ·Σf`. "april2024" (Anthropic, *Update on how we train SAEs*): no pre-bias, atoms
//! of any norm, `‖e‖² + λ·Σ f‖d‖`, in which making an atom longer gains nothing. Norms start at 0.1 there
//! and the gradient is clipped at norm 1; here that is an option, since the 1 belongs to rows of norm √d and
//! Adam bounds the step anyway. Its biases start at 0; here they start where the pre-bias form starts, at
//! the median (`b_enc = −w_enc·b_dec`), since rows are not centred. Dead latents are revived by AuxK, or
//! resampled as in 2023.

mod resample;

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::resample::Resampling;
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    card::Matrix,
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
        update::Atoms,
    },
};

sae_config! {
    /// `[learner] kind = "relu"`.
    pub struct Relu {
        /// λ, what an activation of 1 costs against a squared error of 1. It belongs to the scale of the
        /// vectors: at norm √d it is √d times larger than at norm 1 for the same L0.
        pub l1_coefficient: f64,
        /// Which of the published forms.
        #[serde(default)]
        pub form: Form,
        /// λ grows from 0 during this share of the steps.
        #[serde(default = "crate::skeleton::spec::sparsity_warmup_share")]
        pub sparsity_warmup_share: f64,
        /// The largest norm of the gradient of a step, over all parameters together; a longer one is
        /// shortened to it. 1 in "april2024", for rows of norm √d. Left out: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub clip_norm: Option<f64>,
        /// Form "2023": every so many steps, dead latents start again from rows of the batch that are
        /// reconstructed badly. Left out: never; `aux_coefficient = 0` makes it the only revival.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub resample_every: Option<u64>,
    }
}

/// The published forms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Form {
    /// Atoms of any norm, which the penalty counts; no pre-bias.
    #[default]
    #[serde(rename = "april2024")]
    April2024,
    /// Atoms of unit norm, and a pre-bias.
    #[serde(rename = "2023")]
    First2023,
}

/// Norm of the rows at the start, form "april2024".
const START_NORM: f32 = 0.1;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "relu",
    family: "sparse autoencoder",
    summary: "every positive pre-activation is a code and pays for its size (L1)",
    paper: "Bricken et al. 2023, https://transformer-circuits.pub/2023/monosemantic-features; \
            Conerly et al. 2024, https://transformer-circuits.pub/2024/april-update",
    columns: "",
    modes: &[
        "form = april2024: free norms, penalty f*norm",
        "form = 2023: unit norm, pre-bias",
        "clip_norm: a bound on the gradient",
        "resample_every: dead latents start again from badly reconstructed rows (2023)",
    ],
    example: "jobs/specs/learners/relu.toml",
    small: r#"{"kind": "relu", "n_latents": 40, "l1_coefficient": 0.05, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Relu {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(match self.resample_every {
            Some(every) => {
                Box::new(Sae::new(Resampling::new(self.clone(), every, setup.seed), &self.sae(), setup))
            }
            None => Box::new(Sae::new(self.clone(), &self.sae(), setup)),
        })
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        positive("l1_coefficient", self.l1_coefficient)?;
        let bound = self.clip_norm.is_none_or(|most| most.is_finite() && most > 0.0);
        Invalid::unless(bound, "clip_norm", "must be positive")?;
        let resampled = self.resample_every.is_none_or(|every| every > 0 && self.form == Form::First2023);
        Invalid::unless(resampled, "resample_every", "must be at least 1, and belongs to the form \"2023\"")?;
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

/// The loss of an autoencoder whose codes are the positive pre-activations; `penalty` adds what they cost.
pub(super) fn forward<'b, 'l, 'r, R: Real>(
    loss: &mut Loss<'b, 'l, 'r, R>,
    aux: &AuxK,
    penalty: impl FnOnce(&mut Loss<'b, 'l, 'r, R>, &mut Part<R>),
) {
    let Selected { codes, values, .. } = loss.select(Selection::Above(&[R::ZERO]));
    let mut main = loss.reconstruct(codes, values, loss.scale(Unit::Rows));
    penalty(loss, &mut main);
    aux.add(loss, &main);
    loss.push(main);
}

/// `weight·Σ f‖d‖` per row. An atom pays for its norm as well: `∂/∂d = weight·Σf·d/‖d‖`.
fn charge_norms<R: Real>(loss: &mut Loss<R>, part: &mut Part<R>, weight: f64) {
    let norms = loss.norms(Matrix::Atoms, &[loss.step.parameters.d_out()]);
    loss.penalise(part, weight, |latent, value| (value * norms[latent], norms[latent]));
    let rate = R::of(weight / loss.step.rows().max(1) as f64);
    let mut pull = part.codes.sum_by_latent(part.values.iter().copied());
    let along = |(sum, &norm): (&mut R, &R)| *sum = if norm > R::ZERO { rate * *sum / norm } else { R::ZERO };
    pull.iter_mut().zip(&norms).for_each(along);
    loss.pull_atoms(pull);
}

/// The dictionary of an autoencoder without a threshold.
pub(super) fn freeze(folded: FrozenParameters) -> Box<dyn Dictionary> {
    Box::new(FrozenSae::with_export(Inference::Above(vec![0.0]), folded, Exported::standard()))
}

impl Relu {
    /// What codes cost.
    fn charge<R: Real>(&self, loss: &mut Loss<R>, part: &mut Part<R>) {
        let weight = loss.step.warmed(self.l1_coefficient, self.sparsity_warmup_share);
        match self.form {
            Form::April2024 => charge_norms(loss, part, weight),
            Form::First2023 => {
                loss.penalise(part, weight, |_, value| (value, R::ONE));
            }
        }
    }
}

impl SaeVariant for Relu {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        forward(loss, aux, |loss, part| self.charge(loss, part));
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        match self.form {
            Form::April2024 => freeze(folded.with_unit_atoms()),
            Form::First2023 => freeze(folded),
        }
    }

    fn begin(&mut self, p: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        if self.form == Form::April2024 {
            p.pre_bias = false;
            vector::scale(START_NORM, &mut p.w_enc.value);
            vector::scale(START_NORM, &mut p.w_dec.value);
            let rows = p.w_enc.value.par_chunks(p.d_in).zip(&mut p.b_enc.value);
            rows.for_each(|(row, bias)| *bias = -vector::dot(row, &p.b_dec.value));
        }
        Vec::new()
    }

    fn atoms(&self) -> Atoms {
        match self.form {
            Form::April2024 => Atoms::Free,
            Form::First2023 => Atoms::UnitNorm,
        }
    }

    fn clip_norm(&self) -> Option<f64> {
        self.clip_norm
    }
}

#[cfg(test)]
mod tests;
