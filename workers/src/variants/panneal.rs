//! p-annealing: the penalty `Σ fᵖ` goes from L1 towards the count of codes while p falls from 1.
//!
//! Karvonen et al. 2024. On ReLU codes or on the gate of a gated autoencoder. p falls in equal parts at
//! equal distances; at each fall λ is rescaled so that the penalty of the last batches keeps its value:
//! `λ' = λ·ΣQ Σfᵖ / ΣQ Σfᵖ'`. The sums of Q are taken in the batches before the fall, with both powers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Invalid, LearnerConfig, LearnerInfo, gated, relu};
use crate::{
    kernels::Real,
    learner::{DictLearner, Dictionary, Mismatch, Scales, Setup},
    skeleton::{
        FrozenParameters, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Part},
        parameters::{Extra, Parameters},
        spec::{positive, sae_config, share},
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "panneal"`.
    pub struct PAnneal {
        /// λ while p is 1, for vectors of mean squared norm 1.
        pub l1_coefficient: f64,
        /// What is annealed.
        #[serde(default)]
        pub on: On,
        /// p during the last part of the steps.
        #[serde(default = "fifth")]
        pub p_end: f64,
        /// Share of the steps before the first fall of p.
        #[serde(default = "tenth")]
        pub anneal_start_share: f64,
        /// Falls of p.
        #[serde(default = "ten")]
        pub anneal_steps: u64,
        /// λ grows from 0 during this share of the steps.
        #[serde(default = "crate::skeleton::spec::sparsity_warmup_share")]
        pub sparsity_warmup_share: f64,
    }
}

fn fifth() -> f64 {
    0.2
}

fn tenth() -> f64 {
    0.1
}

fn ten() -> u64 {
    10
}

/// The codes that pay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum On {
    /// See [`relu`], in the form of 2023.
    #[default]
    Relu,
    /// See [`gated`]: the gate pays.
    Gated,
}

/// Batches of Q.
const QUEUE: u64 = 10;
/// Codes count as at least this much: the slope of `fᵖ` has no bound at 0.
const SMALLEST: f64 = 1e-15;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "panneal",
    family: "sparse autoencoder",
    summary: "the penalty goes from L1 towards L0 while it learns",
    paper: "Karvonen et al. 2024, arXiv:2408.00113",
    columns: "",
    modes: &["on = relu", "on = gated"],
    example: "jobs/specs/learners/panneal.toml",
    small: r#"{"kind": "panneal", "n_latents": 40, "l1_coefficient": 0.05, "on": "gated", "anneal_steps": 2,
        "anneal_start_share": 0.3, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for PAnneal {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(Annealed::new(self.clone()), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        positive("l1_coefficient", self.l1_coefficient)?;
        Invalid::unless(self.p_end > 0.0 && self.p_end <= 1.0, "p_end", "must be above 0 and at most 1")?;
        share("anneal_start_share", self.anneal_start_share)?;
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

impl PAnneal {
    /// p of step `number`, counted from 1, of `steps`.
    fn p(&self, number: u64, steps: u64) -> f64 {
        let start = self.anneal_start_share * steps as f64;
        let span = (steps as f64 - start).max(1.0) / self.anneal_steps.max(1) as f64;
        let falls = ((number as f64 - 1.0 - start) / span).floor() + 1.0;
        let share = falls.clamp(0.0, self.anneal_steps as f64) / self.anneal_steps.max(1) as f64;
        1.0 + (self.p_end - 1.0) * share
    }

    /// The p that follows within the length of Q.
    fn next(&self, number: u64, steps: u64) -> Option<f64> {
        let now = self.p(number, steps);
        (1..=QUEUE).map(|ahead| self.p(number + ahead, steps)).find(|&p| p != now)
    }
}

/// The penalty on its way.
#[derive(Debug, Clone)]
struct Annealed {
    config: PAnneal,
    /// λ of the current p over λ of p = 1.
    factor: f64,
    /// p of the last step.
    p: f64,
    /// `Σ fᵖ` per row, summed over the batches of Q: with the current p and with the next.
    queue: [f64; 2],
}

impl Annealed {
    fn new(config: PAnneal) -> Self {
        Annealed { config, factor: 1.0, p: 1.0, queue: [0.0; 2] }
    }

    /// Moves to the p of this step.
    fn fall(&mut self, p: f64) {
        if p != self.p {
            let [before, after] = self.queue;
            let ratio = before / after;
            self.factor *= if ratio.is_finite() && ratio > 0.0 { ratio } else { 1.0 };
            (self.p, self.queue) = (p, [0.0; 2]);
        }
    }

    fn charge<R: Real>(&mut self, loss: &mut Loss<R>, part: &mut Part<R>) {
        let (step, config) = (loss.step, &self.config);
        let (p, next) = (config.p(step.number, step.steps), config.next(step.number, step.steps));
        let lambda = step.warmed(config.l1_coefficient, config.sparsity_warmup_share);
        self.fall(p);
        let sum = loss.penalise(part, lambda * self.factor, |_, value| power(value, p));
        if let Some(next) = next {
            let rows = step.rows().max(1) as f64;
            let after: f64 = part.values.iter().map(|&v| power(v, next).0.f64()).sum();
            self.queue = [self.queue[0] + sum / rows, self.queue[1] + after / rows];
        }
    }
}

/// `fᵖ` and its slope; 0 where there is no code.
fn power<R: Real>(value: R, p: f64) -> (R, R) {
    if value <= R::ZERO {
        return (R::ZERO, R::ZERO);
    }
    let value = value.f64().max(SMALLEST);
    let power = value.powf(p);
    (R::of(power), R::of(p * power / value))
}

impl SaeVariant for Annealed {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        match self.config.on {
            On::Relu => relu::forward(loss, aux, |loss, part| self.charge(loss, part)),
            On::Gated => gated::forward(loss, aux, |loss, part| self.charge(loss, part)),
        }
    }
    fn reads_rows(&self) -> bool {
        false
    }

    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        match self.config.on {
            On::Relu => relu::freeze(folded),
            On::Gated => gated::freeze(p, folded, scales),
        }
    }

    fn begin(&mut self, p: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        match self.config.on {
            On::Relu => Vec::new(),
            On::Gated => gated::extras(p.n_latents()),
        }
    }

    fn momentum(&self) -> f64 {
        0.0
    }

    fn save(&self, state: &mut LearnerState) {
        let [before, after] = self.queue;
        state.push_u64("anneal", &[self.factor, self.p, before, after].map(f64::to_bits));
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let numbers = state.u64("anneal", 4)?;
        let number = |at: usize| f64::from_bits(numbers[at]);
        (self.factor, self.p, self.queue) = (number(0), number(1), [number(2), number(3)]);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
