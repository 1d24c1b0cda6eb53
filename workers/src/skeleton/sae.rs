//! `Sae<V>`: the training loop's body. Owns the optimizer, decoder norm, dead latents and schedule.

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    dead_latents::DeadLatents,
    init,
    objective::{Backward, LatentGrad, Objective, Step},
    parameters::{Parameter, Parameters, Piece},
    schedule::{Schedule, ScheduleSpec},
};
use crate::{
    kernels::{Path, adam::AdamStep, simd::Kernel, vector},
    learner::{ActivationBatch, DictLearner, Dictionary, Mismatch, Setup, StepReport},
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

/// Latents one task updates. Their partial sums are added in block order.
const BLOCK_LATENTS: usize = 32;

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

    fn train(&mut self, batch: &ActivationBatch) -> StepReport {
        let dead = self.dead.list();
        let step = Step {
            path: self.path,
            screen: self.threads.screen(),
            parameters: &self.parameters,
            x: batch.x,
            lanes: batch.lanes,
            dead: &dead,
        };
        let backward = self.objective.evaluate(&step);
        self.step += 1;
        let lr = self.schedule.lr(self.step);
        let adam = AdamStep::new(lr, self.step);
        apply(self.path, &mut self.parameters, &backward, &adam);
        self.dead.observe(batch.rows(), |latent| backward.fired(latent));
        let losses = backward.losses;
        StepReport {
            rows: batch.rows() as u64,
            nnz: backward.codes.nnz() as u64,
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
        self.threads.clone().install(|| self.train(batch))
    }

    fn freeze(&self, scale: f32) -> Box<dyn Dictionary> {
        let p = &self.parameters;
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
        state.push_u64("since_tokens", &self.dead.since_tokens);
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
        let since_tokens = state.u64("since_tokens", self.dead.since_tokens.len())?;
        self.step = state.u64("step", 1)?[0];
        self.dead.since_tokens = since_tokens;
        self.parameters = loaded;
        Ok(())
    }
}

/// Turns gradients into a step, latent by latent, so that a dense gradient is never stored: project
/// out the part parallel to the atom, Adam, renormalise. `b_dec` last, from the old `w_enc`.
fn apply(path: Path, parameters: &mut Parameters<f32>, backward: &Backward<f32>, adam: &AdamStep<f32>) {
    let d = parameters.d_in;
    let rows = BLOCK_LATENTS * d;
    let weights = parameters.w_enc.pieces(rows).zip(parameters.w_dec.pieces(rows));
    let through_encoder: Vec<Vec<f64>> = weights
        .zip(parameters.b_enc.pieces(BLOCK_LATENTS))
        .enumerate()
        .map(|(block, ((w_enc, w_dec), b_enc))| {
            let first = block * BLOCK_LATENTS;
            path.run(UpdateLatents { first, d, w_enc, w_dec, b_enc, backward, adam })
        })
        .collect();
    let mut total = vec![0f64; d];
    for block in through_encoder {
        total.iter_mut().zip(block).for_each(|(total, part)| *total += part);
    }
    parameters.b_dec.whole().descend(adam, &backward.b_dec(&total));
}

struct UpdateLatents<'a> {
    first: usize,
    d: usize,
    w_enc: Piece<'a, f32>,
    w_dec: Piece<'a, f32>,
    b_enc: Piece<'a, f32>,
    backward: &'a Backward<f32>,
    adam: &'a AdamStep<f32>,
}

impl Kernel for UpdateLatents<'_> {
    /// `Σ db_enc·w_enc` over the block, with the weights from before the step, `[d_in]`.
    type Output = Vec<f64>;

    #[inline(always)]
    fn run(mut self) -> Vec<f64> {
        let (d, mut grad) = (self.d, LatentGrad::new(self.d));
        let mut through_encoder = vec![0f64; d];
        for row in 0..self.b_enc.value.len() {
            self.backward.latent(self.first + row, &mut grad);
            let mut encoder = self.w_enc.row(row, d);
            for (sum, &w) in through_encoder.iter_mut().zip(encoder.value.iter()) {
                *sum += f64::from(grad.b_enc) * f64::from(w);
            }
            encoder.descend(self.adam, &grad.w_enc);
            self.b_enc.row(row, 1).descend(self.adam, &[grad.b_enc]);
            let mut atom = self.w_dec.row(row, d);
            let parallel = vector::dot(&grad.w_dec, atom.value);
            vector::axpy(-parallel, atom.value, &mut grad.w_dec);
            atom.descend(self.adam, &grad.w_dec);
            vector::normalize(atom.value);
        }
        through_encoder
    }
}
