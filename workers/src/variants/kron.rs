//! KronSAE: latents are pairs of a left and a right direction of a head, on where both are (mAND), so that
//! a product with `m + n` rows encodes `m·n` latents. `codes = TopK √(ReLU((x − b)Pᵀ)·ReLU((x − b)Qᵀ))`.
//!
//! Kurochkin et al. 2025, arXiv:2505.22255 (equations; no code was published with it).

mod frozen;
mod pass;
mod update;

use self::{
    frozen::KronDictionary,
    pass::{Gradients, Pass, RowSums},
    update::update,
};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{Path, adam::AdamStep, encode::Heads, vector},
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, Setup, StepReport},
    skeleton::{
        aux_k::AuxK,
        dead_latents::DeadLatents,
        init::gaussian_rows,
        median::geometric_median,
        parameters::Parameter,
        rooms::Rooms,
        schedule::Schedule,
        spec::{k_of, sae_config},
    },
    state::LearnerState,
    threads::Threads,
};

sae_config! {
    /// `[learner] kind = "kron"`.
    pub struct Kron {
        /// Latents kept per row.
        pub k: usize,
        /// Left directions of a head.
        #[serde(default = "four")]
        pub m: usize,
        /// Right directions of a head: `n_latents / (m·n)` heads have `m·n` latents each.
        #[serde(default = "four")]
        pub n: usize,
    }
}

fn four() -> usize {
    4
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "kron",
    family: "sparse autoencoder",
    summary: "latents are pairs of directions (mAND): an encoder of (m + n)/(m·n) the work, TopK codes",
    paper: "Kurochkin et al. 2025, arXiv:2505.22255",
    columns: "",
    modes: &[],
    example: "jobs/specs/learners/kron.toml",
    small: r#"{"kind": "kron", "n_latents": 48, "k": 4, "m": 2, "n": 4, "dead_after_tokens": 200}"#,
};

/// Stream of the random directions.
const DIRECTIONS: u64 = 0x4b52_4f4e;

impl LearnerConfig for Kron {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(KronSae::new(self, setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        Invalid::unless(self.m > 0 && self.m <= self.n_latents, "m", "must be between 1 and n_latents")?;
        Invalid::unless(self.n > 0 && self.n <= self.n_latents, "n", "must be between 1 and n_latents")?;
        let whole = self.n_latents.is_multiple_of(self.m * self.n);
        Invalid::unless(whole, "n_latents", "must be a multiple of m times n")?;
        let random = self.init.is_default();
        Invalid::unless(random, "init", "must be random: atoms start from the directions of their head")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn cpu_only(&self) -> Option<&'static str> {
        Some("its pre-activations are products of pairs of directions, for which cards have no kernel")
    }
}

/// A KronSAE being trained.
struct KronSae {
    heads: Heads,
    k: usize,
    aux: AuxK,
    schedule: Schedule,
    d_in: usize,
    /// Head after head, left directions and then right ones, `[heads·(m + n), d_in]`.
    w_enc: Parameter<f32>,
    w_dec: Parameter<f32>,
    b_dec: Parameter<f32>,
    dead: DeadLatents,
    step: u64,
    threads: Threads,
}

impl KronSae {
    /// Random unit directions; an atom starts as the sum of its two, `b_dec` as the geometric median.
    fn new(config: &Kron, setup: &Setup) -> Self {
        let (d, n, heads) = (setup.d_in, config.n_latents, Heads { m: config.m, n: config.n });
        let rows = n / heads.latents() * heads.rows();
        let mut w_enc = gaussian_rows(rows, d, setup.seed, DIRECTIONS);
        w_enc.chunks_mut(d).for_each(vector::normalize);
        let mut w_dec = vec![0f32; n * d];
        for (latent, atom) in w_dec.chunks_mut(d).enumerate() {
            let (left, right) = heads.rows_of(latent);
            vector::add(&w_enc[left * d..][..d], atom);
            vector::add(&w_enc[right * d..][..d], atom);
            vector::normalize(atom);
        }
        let median = || geometric_median(Path::best(), setup.sample, d);
        KronSae {
            heads,
            k: config.k,
            aux: config.sae().aux(d),
            schedule: Schedule::new(&config.schedule, n, setup.steps),
            d_in: d,
            w_enc: Parameter::new(w_enc),
            w_dec: Parameter::new(w_dec),
            b_dec: Parameter::new(setup.threads.install(median)),
            dead: DeadLatents::new(n, config.dead_after_tokens),
            step: 0,
            threads: setup.threads.clone(),
        }
    }

    fn latents(&self) -> usize {
        self.w_dec.value.len() / self.d_in
    }

    fn train(&mut self, batch: &ActivationBatch, rooms: &mut Rooms<f32>) -> StepReport {
        self.step += 1;
        let (path, d) = (Path::best(), self.d_in);
        let facts = batch.facts.unwrap_or_else(|| BatchFacts::here(path, batch.x, d, batch.lanes));
        let mut is_dead = vec![false; self.latents()];
        self.dead.list().iter().for_each(|&latent| is_dead[latent as usize] = true);
        let pass = Pass {
            path,
            heads: self.heads,
            k: self.k,
            aux: self.aux,
            w_enc: &self.w_enc.value,
            w_dec: &self.w_dec.value,
            b_dec: &self.b_dec.value,
            x: batch.x,
            lanes: batch.lanes,
            scatter: facts.scatter,
            dead: (&is_dead, self.dead.list().len()),
        };
        let (losses, gradients) = pass.run(rooms);
        let lr = self.schedule.lr(self.step);
        let adam = AdamStep::new(lr, self.step);
        let Gradients { encoder, decoder, offset, fired, nnz, residuals } = gradients;
        let centre = self.b_dec.value.clone();
        let x = [batch.x, batch.x];
        let sums = RowSums { terms: &encoder, y: &x, lanes: batch.lanes, centre: Some(&centre) };
        let through = update(path, &mut self.w_enc, &sums, &adam, false);
        let y = residuals.each_ref().map(|e| &e[..]);
        let sums = RowSums { terms: &decoder, y: &y, lanes: batch.lanes, centre: None };
        update(path, &mut self.w_dec, &sums, &adam, true);
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        let to_bias: Vec<f32> =
            offset.iter().zip(through).map(|(direct, enc)| (direct - enc) as f32).collect();
        self.b_dec.whole().descend(&adam, &to_bias);
        residuals.into_iter().for_each(|e| rooms.give(e));
        self.dead.observe(batch.rows(), |latent| fired[latent]);
        StepReport {
            rows: batch.rows() as u64,
            nnz: nnz as u64,
            squared_error: losses.squared_error,
            scatter: facts.scatter,
            loss: losses.total,
            aux_loss: losses.aux,
            lr,
            dead: self.dead.list().len() as u64,
        }
    }
}

impl DictLearner for KronSae {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn n_latents(&self) -> usize {
        self.latents()
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport { lr: self.schedule.lr(self.step), ..StepReport::default() };
        }
        self.threads.clone().install(|| Rooms::reuse(|rooms| self.train(batch, rooms)))
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        Box::new(KronDictionary {
            heads: self.heads,
            k: self.k,
            w_enc: self.w_enc.value.clone(),
            w_dec: self.w_dec.value.clone(),
            b_dec: self.b_dec.value.iter().map(|v| v / scales.first()).collect(),
            threads: self.threads.clone(),
        })
    }

    fn save(&self) -> LearnerState {
        let (mut state, d) = (LearnerState::default(), self.d_in);
        self.w_enc.save(&mut state, "w_enc", &[self.w_enc.value.len() / d, d]);
        self.w_dec.save(&mut state, "w_dec", &[self.latents(), d]);
        self.b_dec.save(&mut state, "b_dec", &[d]);
        state.push_u64("since_tokens", self.dead.since_tokens());
        state.push_u64("step", &[self.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let d = self.d_in;
        let w_enc = Parameter::read(state, "w_enc", &[self.w_enc.value.len() / d, d])?;
        let w_dec = Parameter::read(state, "w_dec", &[self.latents(), d])?;
        let b_dec = Parameter::read(state, "b_dec", &[d])?;
        let since_tokens = state.u64("since_tokens", self.latents())?;
        self.step = state.u64("step", 1)?[0];
        self.dead.restore(since_tokens);
        (self.w_enc, self.w_dec, self.b_dec) = (w_enc, w_dec, b_dec);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
