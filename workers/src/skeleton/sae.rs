//! `Sae<V>`: the training loop's body. Owns the optimizer, decoder norm, dead latents and schedule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dead_latents::DeadLatents,
    init,
    objective::{Backward, Objective, Step},
    parameters::{Parameter, Parameters},
    rooms::Rooms,
    schedule::{Schedule, ScheduleSpec},
    update,
};
use crate::{
    kernels::{Path, adam::AdamStep},
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    state::LearnerState,
    threads::Threads,
};

/// What a variant fills in.
pub trait SaeVariant: Send + Sync {
    /// What is minimised and which latents survive.
    fn objective(&self, d_in: usize) -> Objective;
    /// The dictionary it becomes, given parameters in the units of the input data.
    fn freeze(&self, parameters: FrozenParameters) -> Box<dyn Dictionary>;
}

/// Parameters after the input scale has been folded in: they apply to unscaled vectors.
#[derive(Debug, Clone)]
pub struct FrozenParameters {
    /// Width of the vectors.
    pub d_in: usize,
    /// Encoder rows `[n_latents, d_in]`.
    pub w_enc: Vec<f32>,
    /// Encoder bias `[n_latents]`.
    pub b_enc: Vec<f32>,
    /// Atoms `[n_latents, d_in]`.
    pub w_dec: Vec<f32>,
    /// Decoder bias `[d_in]`.
    pub b_dec: Vec<f32>,
    /// Kernel threads.
    pub threads: Threads,
}

/// Settings every gradient-trained autoencoder has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SkeletonSpec {
    /// Learning rate.
    pub schedule: ScheduleSpec,
    /// A latent that has not fired for this many tokens is dead.
    pub dead_after_tokens: u64,
}

impl Default for SkeletonSpec {
    fn default() -> Self {
        SkeletonSpec { schedule: ScheduleSpec::default(), dead_after_tokens: 10_000_000 }
    }
}

/// A sparse autoencoder being trained.
#[derive(Debug)]
pub struct Sae<V> {
    variant: V,
    objective: Objective,
    schedule: Schedule,
    parameters: Parameters<f32>,
    dead: DeadLatents,
    step: u64,
    path: Path,
    threads: Threads,
}

impl<V: SaeVariant> Sae<V> {
    /// Starts from the calibration sample.
    pub fn new(variant: V, n_latents: usize, spec: &SkeletonSpec, setup: &Setup) -> Self {
        let start = || init::parameters(n_latents, setup.d_in, setup.sample, setup.seed);
        Sae {
            objective: variant.objective(setup.d_in),
            variant,
            schedule: Schedule::new(&spec.schedule, n_latents, setup.steps),
            parameters: setup.threads.install(start),
            dead: DeadLatents::new(n_latents, spec.dead_after_tokens),
            step: 0,
            path: Path::best(),
            threads: setup.threads.clone(),
        }
    }

    fn train(&mut self, batch: &ActivationBatch, rooms: &mut Rooms<f32>) -> StepReport {
        let facts = || BatchFacts::here(self.path, batch.x, self.parameters.d_in, batch.lanes);
        let step = Step {
            path: self.path,
            screen: self.threads.screen(),
            parameters: &self.parameters,
            x: batch.x,
            lanes: batch.lanes,
            scatter: batch.facts.unwrap_or_else(facts).scatter,
            dead: self.dead.list(),
        };
        let Backward { losses, codes, gradient } = self.objective.evaluate(&step, rooms);
        self.step += 1;
        let lr = self.schedule.lr(self.step);
        update::apply(self.path, &mut self.parameters, &gradient, &AdamStep::new(lr, self.step));
        self.dead.observe(batch.rows(), |latent| gradient.fired(latent));
        gradient.vacate(rooms);
        StepReport {
            rows: batch.rows() as u64,
            nnz: codes.nnz() as u64,
            squared_error: losses.squared_error,
            scatter: losses.scatter,
            loss: losses.total,
            aux_loss: losses.aux,
            lr,
            dead: self.dead.list().len() as u64,
        }
    }
}

impl<V: SaeVariant> DictLearner for Sae<V> {
    fn d_in(&self) -> usize {
        self.parameters.d_in
    }

    fn n_latents(&self) -> usize {
        self.parameters.n_latents()
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport { lr: self.schedule.lr(self.step), ..StepReport::default() };
        }
        self.threads.clone().install(|| Rooms::reuse(|rooms| self.train(batch, rooms)))
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let (p, scale) = (&self.parameters, scales.first());
        let unscaled = |values: &[f32]| values.iter().map(|v| v / scale).collect::<Vec<_>>();
        self.variant.freeze(FrozenParameters {
            d_in: p.d_in,
            w_enc: p.w_enc.value.clone(),
            b_enc: unscaled(&p.b_enc.value),
            w_dec: p.w_dec.value.clone(),
            b_dec: unscaled(&p.b_dec.value),
            threads: self.threads.clone(),
        })
    }

    fn save(&self) -> LearnerState {
        let mut state = LearnerState::default();
        for (name, shape, parameter) in self.parameters.named() {
            state.push_f32(name, shape.clone(), &parameter.value);
            state.push_f32(&format!("{name}.m"), shape.clone(), &parameter.m);
            state.push_f32(&format!("{name}.v"), shape, &parameter.v);
        }
        state.push_u64("since_tokens", self.dead.since_tokens());
        state.push_u64("step", &[self.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let mut loaded = self.parameters.clone();
        for (name, shape, _) in self.parameters.named() {
            let parameter = Parameter {
                value: state.f32(name, &shape)?,
                m: state.f32(&format!("{name}.m"), &shape)?,
                v: state.f32(&format!("{name}.v"), &shape)?,
            };
            match name {
                "w_enc" => loaded.w_enc = parameter,
                "b_enc" => loaded.b_enc = parameter,
                "w_dec" => loaded.w_dec = parameter,
                _ => loaded.b_dec = parameter,
            }
        }
        let since_tokens = state.u64("since_tokens", self.dead.since_tokens().len())?;
        self.step = state.u64("step", 1)?[0];
        self.dead.restore(since_tokens);
        self.parameters = loaded;
        Ok(())
    }
}
