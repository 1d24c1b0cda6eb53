//! RA-SAE: atoms are mixtures of points of the data, give or take a small step, so that dictionaries of
//! different seeds agree. `atoms = e^s·(W·C + Λ)`; `delta = 0` is A-SAE, where Λ is 0.
//!
//! Fel et al. 2025; `KempnerInstitute/overcomplete`, `sae/archetypal_dictionary.py`. Differences: C are
//! centroids of the sample less its geometric median (`b_dec` has the rest), `delta` is measured against
//! their root mean squared norm, and an atom mixes at most 16 of them, which makes W·C cost what a decode
//! costs: while a fifth of the run lasts, candidates that the gradient asks for take the place of those that
//! weigh nothing.

mod hull;

use rayon::prelude::*;

use self::hull::{Hull, clip, to_simplex};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Path, Real,
        adam::AdamStep,
        encode::{Selected, Selection},
        simd::Kernel,
        vector,
    },
    learner::{DictLearner, Dictionary, Mismatch, Scales, Setup},
    linear::kmeans::centroids,
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::{Extra, Parameters, Piece},
        spec::{k_of, positive, sae_config},
        update::Atoms,
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "archetypal"`.
    pub struct Archetypal {
        /// Latents kept per row.
        pub k: usize,
        /// How far an atom may be from the hull of the candidates, against their root mean squared norm; 0:
        /// not at all (A-SAE).
        #[serde(default = "delta")]
        pub delta: f64,
        /// Centroids of the sample that atoms are mixed from. Left out: as many as latents, at most 1024
        /// and a fourth of the sample.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub candidates: Option<usize>,
    }
}

fn delta() -> f64 {
    0.1
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "archetypal",
    family: "sparse autoencoder",
    summary: "TopK whose atoms are mixtures of data points, nearly: dictionaries agree between seeds",
    paper: "Fel et al. 2025, arXiv:2502.12892",
    columns: "",
    modes: &["delta > 0: RA-SAE", "delta = 0: A-SAE"],
    example: "jobs/specs/learners/archetypal.toml",
    small: r#"{"kind": "archetypal", "n_latents": 40, "k": 4, "dead_after_tokens": 200}"#,
};

/// Share of the run in which candidates are exchanged, and steps between two exchanges.
const EXCHANGE: (f64, u64) = (0.2, 5);
/// Seed of the centroids: they are a matter of the sample, so that learners of all seeds mix the same ones.
const CENTROIDS: u64 = 0;
/// Centroids, if the spec does not say, at most.
const CANDIDATES: usize = 1024;

impl LearnerConfig for Archetypal {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        Ok(Box::new(Sae::new(Mixer::of(self), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        positive("delta", self.delta)?;
        Invalid::unless(self.candidates != Some(0), "candidates", "must be 1 or more")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn cpu_only(&self) -> Option<&'static str> {
        Some("its atoms are mixtures of points, which the processor makes anew after every step")
    }
}

/// Places of the parameters that atoms are made of.
const WEIGHTS: usize = 0;
const SCALE: usize = 1;
const RELAXATION: usize = 2;

/// The variant with its candidates.
#[derive(Debug)]
struct Mixer {
    config: Archetypal,
    hull: Hull<f32>,
    /// How long a row of Λ may be.
    radius: f32,
    steps: u64,
}

impl Mixer {
    fn of(config: &Archetypal) -> Self {
        let hull = Hull { candidates: Vec::new(), d: 1, support: Vec::new(), width: 1 };
        Mixer { config: config.clone(), hull, radius: 0.0, steps: 0 }
    }

    #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
    fn measure(&mut self) {
        let rows = self.hull.candidates.len() / self.hull.d;
        let square: f64 = self.hull.candidates.iter().map(|&v| f64::from(v).powi(2)).sum();
        self.radius = (self.config.delta * (square / rows.max(1) as f64).sqrt()) as f32;
    }

    fn compose_all(&self, p: &mut Parameters<f32>) {
        let (hull, scale) = (&self.hull, p.extra(SCALE)[0].exp());
        let (weights, relaxation) = (&p.extras[WEIGHTS], &p.extras[RELAXATION]);
        let atoms = p.w_dec.value.par_chunks_mut(hull.d).enumerate();
        atoms.with_min_len(16).for_each(|(atom, out)| {
            let weights = &weights.parameter.value[atom * hull.width..][..hull.width];
            let relaxation = &relaxation.parameter.value[atom * hull.d..][..hull.d];
            Path::best().run(Compose { hull, atom, weights, relaxation, scale, out });
        });
    }

    fn exchange(&mut self, p: &mut Parameters<f32>, number: u64) {
        let (share, every) = EXCHANGE;
        if number as f64 <= share * self.steps as f64 && number.is_multiple_of(every) {
            let weights = &mut p.extras[WEIGHTS].parameter;
            let places = self.hull.look_around(Path::best(), &p.w_dec.m, &weights.value);
            places.into_iter().for_each(|place| (weights.m[place], weights.v[place]) = (0.0, 0.0));
        }
    }
}

impl SaeVariant for Mixer {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.config.k));
        let main = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &main);
        loss.push(main);
    }

    fn begin(&mut self, p: &mut Parameters<f32>, setup: &Setup) -> Vec<Extra<f32>> {
        let (d, n) = (p.d_in, p.n_latents());
        let few = |rows: usize| n.min(CANDIDATES).min(rows / 4).max(1);
        let number = |rows| self.config.candidates.unwrap_or(few(rows));
        let mut candidates = match setup.sample {
            // A learner that goes on from a checkpoint reads its candidates there.
            [] => vec![0.0; number(usize::MAX) * d],
            sample => centroids(Path::best(), sample, d, number(sample.len() / d), CENTROIDS),
        };
        candidates.chunks_mut(d).for_each(|c| vector::axpy(-1.0, &p.b_dec.value, c));
        self.hull = Hull::new(candidates, d, n, setup.seed);
        self.steps = setup.steps;
        self.measure();
        let width = self.hull.width;
        p.extras = vec![
            Extra::new("weights", vec![n, width], self.hull.first_weights(setup.seed)),
            Extra::new("log_scale", vec![1], vec![0.0]),
            Extra::new("relaxation", vec![n, d], vec![0.0; n * d]),
        ];
        self.compose_all(p);
        // A row that is an atom away from the centre is then encoded as 1 of it.
        for (encoder, atom) in p.w_enc.value.chunks_mut(d).zip(p.w_dec.value.chunks(d)) {
            encoder.copy_from_slice(atom);
            vector::scale(1.0 / vector::dot(atom, atom).max(f32::MIN_POSITIVE), encoder);
        }
        std::mem::take(&mut p.extras)
    }

    fn atoms(&self) -> Atoms {
        Atoms::Composed
    }

    fn compose(&mut self, p: &mut Parameters<f32>, adam: &AdamStep<f32>, number: u64) {
        let (d, width, scale) = (self.hull.d, self.hull.width, p.extra(SCALE)[0].exp());
        let (weights, others) = p.extras.split_at_mut(SCALE);
        let (log_scale, relaxation) = others.split_at_mut(RELAXATION - SCALE);
        let rows = weights[WEIGHTS].parameter.pieces(width).zip(relaxation[0].parameter.pieces(d));
        let rows = rows.zip(p.w_dec.pieces(d)).enumerate().with_min_len(16);
        let (hull, radius) = (&self.hull, self.radius);
        let along: Vec<f32> = rows
            .map(|(atom, ((weights, relaxation), made))| {
                let row = MixedAtom { hull, atom, scale, radius, adam, weights, relaxation, made };
                Path::best().run(row)
            })
            .collect();
        #[allow(clippy::cast_possible_truncation, reason = "parameters are f32")]
        let along = along.iter().map(|&v| f64::from(v)).sum::<f64>() as f32;
        log_scale[0].parameter.whole().descend(adam, &[along]);
        self.exchange(p, number);
        self.compose_all(p);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(self.config.k), folded))
    }

    fn save(&self, state: &mut LearnerState) {
        let (n, d) = (self.hull.candidates.len() / self.hull.d, self.hull.d);
        state.push_f32("candidates", vec![n, d], &self.hull.candidates);
        let support: Vec<u64> = self.hull.support.iter().map(|&c| u64::from(c)).collect();
        state.push_u64("support", &support);
    }

    #[allow(clippy::cast_possible_truncation, reason = "candidates are few")]
    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let n = state.rows("candidates")?;
        let candidates = state.f32("candidates", &[n, self.hull.d])?;
        let support = state.u64("support", self.hull.support.len())?;
        if support.iter().any(|&candidate| candidate >= n as u64) {
            return Err(Mismatch("tensor `support` names a candidate that is not there".to_owned()));
        }
        self.hull.support = support.into_iter().map(|c| c as u32).collect();
        self.hull.candidates = candidates;
        self.measure();
        Ok(())
    }
}

/// [`Hull::compose`] of one atom.
struct Compose<'a> {
    hull: &'a Hull<f32>,
    atom: usize,
    weights: &'a [f32],
    relaxation: &'a [f32],
    scale: f32,
    out: &'a mut [f32],
}

impl Kernel for Compose<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Compose { hull, atom, weights, relaxation, scale, out } = self;
        hull.compose(atom, weights, relaxation, scale, out);
    }
}

/// One atom's step: its gradient becomes one of what it is made of.
struct MixedAtom<'a> {
    hull: &'a Hull<f32>,
    atom: usize,
    scale: f32,
    radius: f32,
    adam: &'a AdamStep<f32>,
    weights: Piece<'a, f32>,
    relaxation: Piece<'a, f32>,
    made: Piece<'a, f32>,
}

impl Kernel for MixedAtom<'_> {
    /// `⟨gradient, atom⟩`: its part of the gradient of s.
    type Output = f32;

    #[inline(always)]
    fn run(mut self) -> f32 {
        let g = self.made.held();
        let (mut to_weights, mut to_row) = (vec![0.0; self.hull.width], vec![0.0; self.hull.d]);
        self.hull.pull_back(self.atom, g, self.scale, &mut to_weights, &mut to_row);
        self.weights.descend(self.adam, &to_weights);
        to_simplex(self.weights.value);
        if self.radius > 0.0 {
            self.relaxation.descend(self.adam, &to_row);
            clip(self.relaxation.value, self.radius);
        }
        vector::dot(g, self.made.value)
    }
}

#[cfg(test)]
mod tests;
