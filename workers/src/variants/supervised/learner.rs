//! Steps, freezing and saving of supervised dictionary learning.

use serde_json::json;

use super::{INFO, SupervisedLearner, score::Score};
use crate::{
    coders::{CodedAtoms, Searched, rows::centred},
    kernels::{residual, residual::residual},
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, StepReport},
    state::LearnerState,
    surrogate::Online,
};

impl SupervisedLearner {
    fn learn(&mut self, batch: &ActivationBatch, scatter: f64) -> StepReport {
        let x = centred(batch.x, &self.centre);
        let coder = self.coder(1.0);
        let coded = self.online.code(self.path, &coder, &x);
        let nothing = vec![0f32; self.d_in];
        let (codes, values, w_dec) = (&coded.codes, &coded.values[..], &self.online.atoms[..]);
        let decoded = residual::Coded { codes, values, w_dec, offset: &nothing };
        let squared_error = residual(self.path, &x, &decoded, batch.lanes, Vec::new()).moments.squared_norm;
        let l1: f64 = values.iter().map(|v| f64::from(v.abs())).sum();
        let (nnz, known) = (codes.nnz() as u64, self.known(batch, &x, &coded));
        let cross_entropy = self.score.cross_entropy(&self.score.of(&known.features), &known.labels);
        self.improve(batch, &x, coded, &known);
        let (reconstruction, label) = self.weights();
        let error = (0.5 * squared_error + coder.lambda() * l1) / batch.rows() as f64;
        StepReport {
            rows: batch.rows() as u64,
            nnz,
            squared_error,
            scatter,
            loss: reconstruction * error + label * cross_entropy,
            aux_loss: cross_entropy,
            dead: self.online.unused() as u64,
            ..StepReport::default()
        }
    }
}

impl DictLearner for SupervisedLearner {
    fn d_in(&self) -> usize {
        self.d_in
    }

    fn n_latents(&self) -> usize {
        self.spec.n_latents
    }

    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        if batch.rows() == 0 {
            return StepReport::default();
        }
        self.threads.clone().install(|| {
            let facts = || BatchFacts::here(self.path, batch.x, self.d_in, batch.lanes);
            let scatter = batch.facts.unwrap_or_else(facts).scatter;
            if scatter.is_finite() {
                return self.learn(batch, scatter);
            }
            StepReport { rows: batch.rows() as u64, scatter, loss: f64::NAN, ..StepReport::default() }
        })
    }

    /// The score goes into the export: its weights for products or codes in the units of the data.
    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let (scale, n, coder) = (scales.first(), self.spec.n_latents, self.coder(scales.first()));
        let units = f64::from(scale) / f64::from(self.norm);
        let (features, heads) = (self.score.features(), self.score.heads);
        let mut tensors = LearnerState::default();
        let mut push = |name: &str, columns: std::ops::Range<usize>, units: f64| {
            let rows = self.score.weights.chunks_exact(features);
            #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
            let values: Vec<f32> =
                rows.flat_map(|of| &of[columns.clone()]).map(|w| (w * units) as f32).collect();
            let shape = if heads == 1 { vec![columns.len()] } else { vec![heads, columns.len()] };
            tensors.push_f32(name, shape, &values);
        };
        push("score.weights", 0..n, units);
        push("score.covariates", n..features - 1, 1.0);
        push("score.bias", features - 1..features, 1.0);
        let cfg = json!({
            "coder": "cd", "lambda": coder.lambda(), "positive": false, "form": self.spec.form,
            "label": self.spec.label, "covariates": self.spec.covariates, "classes": self.spec.classes,
        });
        let centre = self.centre.iter().map(|c| c / scale).collect();
        let atoms = CodedAtoms::new(self.online.atoms.clone(), centre, self.threads.clone());
        Box::new(Searched { kind: INFO.kind, coder, atoms, cfg, tensors })
    }

    fn save(&self) -> LearnerState {
        let (n, d) = (self.spec.n_latents, self.d_in);
        let mut state = LearnerState::default();
        state.push_f32("atoms", vec![n, d], &self.online.atoms);
        state.push_f32("a", vec![n, n], &self.online.statistics.a);
        state.push_f32("b", vec![n, d], &self.online.statistics.b);
        state.push_f64("score.weights", &self.score.weights);
        state.push_f64("score.square", &self.score.square);
        state.push_f64("score.linear", &self.score.linear);
        state.push_f32("centre", vec![d], &self.centre);
        state.push_f32("norm", vec![1], &[self.norm]);
        state.push_u64("step", &[self.online.step]);
        state
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let (n, d, f, heads) = (self.spec.n_latents, self.d_in, self.score.features(), self.score.heads);
        let (atoms, centre) = (state.f32("atoms", &[n, d])?, state.f32("centre", &[d])?);
        let (a, b) = (state.f32("a", &[n, n])?, state.f32("b", &[n, d])?);
        let (weights, square) = (state.f64("score.weights", heads * f)?, state.f64("score.square", f * f)?);
        let linear = state.f64("score.linear", heads * f)?;
        let (norm, step) = (state.f32("norm", &[1])?, state.u64("step", 1)?);
        self.online = Online::new(atoms, d);
        (self.online.statistics.a, self.online.statistics.b) = (a, b);
        self.online.step = step.first().copied().unwrap_or_default();
        (self.score, self.centre) = (Score { heads, weights, square, linear }, centre);
        self.norm = norm.first().copied().unwrap_or(1.0);
        Ok(())
    }
}
