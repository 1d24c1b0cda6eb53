//! `Sae<V>`: the training loop's body. Owns the optimizer, decoder norm, dead latents and schedule.

use std::{borrow::Cow, sync::Arc};

use super::{
    aux_k::AuxK,
    clip,
    dead_latents::DeadLatents,
    frozen::FrozenParameters,
    gradient::Gradient,
    init::{self, Start},
    objective::{Backward, Loss, Step},
    parameters::{Extra, Parameters},
    reborn::Reborn,
    rooms::Rooms,
    schedule::Schedule,
    spec::SaeSpec,
    there::There,
    update::{self, Atoms},
};
use crate::{
    kernels::{
        Path, Real,
        adam::{AdamStep, BETA1},
    },
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    state::LearnerState,
    threads::Threads,
};

/// What a variant fills in. All but the first two have an answer that most variants share.
pub trait SaeVariant: Send + Sync {
    /// Adds the terms of the loss of one batch; `aux` is the auxiliary loss, for the part that is the
    /// main reconstruction. What it remembers from step to step is a function of the steps alone.
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK);

    /// The dictionary it becomes, given parameters in the units of the input data.
    fn freeze(
        &self,
        parameters: &Parameters<f32>,
        folded: FrozenParameters,
        scales: &Scales,
    ) -> Box<dyn Dictionary>;

    /// What is reconstructed, where that is not the rows themselves: of `batch`, or of the sample. Its
    /// width, and the values.
    fn target<'b>(&self, _batch: &ActivationBatch<'b>) -> Option<(usize, Cow<'b, [f32]>)> {
        None
    }

    /// Whether `forward` or `target` read the rows themselves, also where they are on a card.
    fn reads_rows(&self) -> bool {
        true
    }

    /// Changes the parameters before the first step, and adds its own.
    fn begin(&mut self, _parameters: &mut Parameters<f32>, _setup: &Setup) -> Vec<Extra<f32>> {
        Vec::new()
    }

    /// What atoms have to be.
    fn atoms(&self) -> Atoms {
        Atoms::UnitNorm
    }

    /// β₁ of Adam.
    fn momentum(&self) -> f64 {
        BETA1
    }

    /// The largest norm of the gradient of a step, over all parameters together; `None`: any.
    fn clip_norm(&self) -> Option<f64> {
        None
    }

    /// Latents that start again after this step.
    fn reborn(&self) -> Option<&Reborn> {
        None
    }

    /// Brings what is not a matrix back to where it is allowed to be, after the step. The matrices may be elsewhere.
    fn project(&self, _parameters: &mut Parameters<f32>) {}

    /// Steps the parameters that atoms are made of, and makes the atoms: after the step, where
    /// [`SaeVariant::atoms`] says [`Atoms::Composed`]. `number` is that of the step, counted from 1.
    fn compose(&mut self, _parameters: &mut Parameters<f32>, _adam: &AdamStep<f32>, _number: u64) {}

    /// Adds what it remembers from step to step to a state.
    fn save(&self, _state: &mut LearnerState) {}

    /// Goes on from there.
    ///
    /// # Errors
    /// The state belongs to another learner; nothing is changed then.
    fn load(&mut self, _state: &LearnerState) -> Result<(), Mismatch> {
        Ok(())
    }
}

/// A sparse autoencoder being trained.
#[derive(Debug)]
pub struct Sae<V> {
    variant: V,
    aux: AuxK,
    schedule: Schedule,
    /// On a card: its biases and what a variant learns beside; the weights are there.
    parameters: Parameters<f32>,
    card: Option<There>,
    dead: DeadLatents,
    step: u64,
    steps: u64,
    path: Path,
    threads: Threads,
}

impl<V: SaeVariant> Sae<V> {
    /// Starts from the calibration sample.
    pub fn new(mut variant: V, spec: &SaeSpec, setup: &Setup) -> Self {
        let mut parameters = setup.threads.install(|| {
            let ends = [0, setup.sample.len() / setup.d_in.max(1)];
            let sample = ActivationBatch::new(setup.sample, &ends).with_beside(setup.beside);
            let target = variant.target(&sample);
            let start = Start {
                n_latents: spec.n_latents,
                d_in: setup.d_in,
                sample: setup.sample,
                target: target.as_ref().map(|(width, values)| (*width, &values[..])),
                seed: setup.seed,
                init: &spec.init,
            };
            let mut parameters = init::parameters(&start);
            parameters.extras = variant.begin(&mut parameters, setup);
            parameters
        });
        let card = setup.card.as_ref().map(|card| There::take(card, &mut parameters));
        Sae {
            card,
            aux: spec.aux(setup.d_in),
            variant,
            schedule: Schedule::new(&spec.schedule, spec.n_latents, setup.steps),
            parameters,
            dead: DeadLatents::new(spec.n_latents, spec.dead_after_tokens),
            step: 0,
            steps: setup.steps,
            path: Path::best(),
            threads: setup.threads.clone(),
        }
    }

    /// All parameters, those on a card fetched.
    fn everything(&self) -> Cow<'_, Parameters<f32>> {
        let Some(there) = &self.card else { return Cow::Borrowed(&self.parameters) };
        let mut all = self.parameters.clone();
        there.weights.read(&mut all);
        Cow::Owned(all)
    }

    fn train(&mut self, batch: &ActivationBatch, rooms: &mut Rooms<f32>) -> StepReport {
        self.step += 1;
        let target = self.variant.target(batch);
        let (width, target) = match &target {
            Some((width, values)) => (*width, &values[..]),
            None => (self.parameters.d_in, batch.x),
        };
        let other = (!std::ptr::eq(target, batch.x)).then_some(target);
        let scatter = match &self.card {
            Some(there) => there.weights.begin(batch.incoming(), other).about_mean,
            None => match batch.facts.filter(|_| other.is_none()) {
                Some(facts) => facts.scatter,
                None => BatchFacts::here(self.path, target, width, batch.lanes).scatter,
            },
        };
        let step = Step {
            path: self.path,
            card: self.card.as_ref().map(|there| &*there.weights),
            screen: self.threads.screen(),
            parameters: &self.parameters,
            x: batch.x,
            target,
            beside: batch.beside,
            lanes: batch.lanes,
            scatter,
            dead: self.dead.list(),
            k_aux: if self.aux.coefficient > 0.0 { self.aux.k } else { 0 },
            number: self.step,
            steps: self.steps,
        };
        let mut loss = Loss::new(step, rooms);
        self.variant.forward(&mut loss, &self.aux);
        let Backward { losses, nnz, fired, mut gradient } = loss.backward();
        let lr = self.schedule.lr(self.step);
        self.descend(&mut gradient, lr);
        gradient.vacate(rooms);
        self.dead.observe(batch.rows(), |latent| fired[latent]);
        StepReport {
            rows: batch.rows() as u64,
            nnz: nnz as u64,
            squared_error: losses.squared_error,
            scatter: losses.scatter,
            loss: losses.total,
            aux_loss: losses.aux,
            lr,
            dead: self.dead.list().len() as u64,
        }
    }
}

impl<V: SaeVariant> Sae<V> {
    fn descend(&mut self, gradient: &mut Gradient<f32>, lr: f64) {
        let (variant, path, p) = (&mut self.variant, self.path, &mut self.parameters);
        let (atoms, most) = (variant.atoms(), variant.clip_norm());
        let adam = AdamStep::with_momentum(lr, self.step, variant.momentum());
        if let Some(there) = &self.card {
            there.descend(path, p, gradient, (&adam, atoms), most);
        } else {
            let factor = most.map_or(1.0, |most| clip::factor(path, p, gradient, most));
            gradient.scale(factor);
            update::apply(path, p, gradient, &adam, atoms);
        }
        if atoms == Atoms::Composed {
            variant.compose(p, &adam, self.step);
        }
        match (variant.reborn(), &self.card) {
            (Some(reborn), Some(there)) => there.restart(reborn, p),
            (Some(reborn), None) => reborn.apply(p),
            (None, _) => {}
        }
        let b_dec = p.b_dec.value.clone();
        variant.project(p);
        if let Some(there) = self.card.as_ref().filter(|_| b_dec != p.b_dec.value) {
            there.weights.set_b_dec(&p.b_dec.value);
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

    fn reads_rows(&self) -> bool {
        self.card.is_none() || self.variant.reads_rows()
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport { lr: self.schedule.lr(self.step), ..StepReport::default() };
        }
        self.threads.clone().install(|| Rooms::reuse(|rooms| self.train(batch, rooms)))
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let (everything, scale) = (self.everything(), scales.first());
        let p = &*everything;
        let unscaled = |values: &[f32]| values.iter().map(|v| v / scale).collect::<Vec<_>>();
        let folded = FrozenParameters {
            d_in: p.d_in,
            pre_bias: p.pre_bias,
            w_enc: p.w_enc.value.clone(),
            b_enc: unscaled(&p.b_enc.value),
            w_dec: p.w_dec.value.clone(),
            b_dec: unscaled(&p.b_dec.value),
            threads: self.threads.clone(),
            card: self.card.as_ref().map(|on| Arc::clone(&on.card)),
        };
        self.variant.freeze(p, folded, scales)
    }

    fn save(&self) -> LearnerState {
        let mut state = LearnerState::default();
        self.everything().save(&mut state);
        state.push_u64("since_tokens", self.dead.since_tokens());
        state.push_u64("step", &[self.step]);
        self.variant.save(&mut state);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let parameters = self.parameters.read(state)?;
        let since_tokens = state.u64("since_tokens", self.dead.since_tokens().len())?;
        let step = state.u64("step", 1)?[0];
        self.variant.load(state)?;
        self.step = step;
        self.dead.restore(since_tokens);
        self.parameters = parameters;
        if let Some(there) = &self.card {
            there.weights.write(&self.parameters);
            self.parameters.leave_weights();
        }
        Ok(())
    }
}
