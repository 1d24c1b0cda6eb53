//! The blocks of a step: the score's weights, the codes it asks for, the atoms.

use super::{
    Form, SupervisedLearner,
    pull::{Pull, aim},
    score::Labelled,
};
use crate::{
    coders::block::Coded,
    codes::Codes,
    kernels::product::Panels,
    learner::ActivationBatch,
    surrogate::{
        Online,
        online::decay,
        statistics::Rows,
        sweep::{Constraint, sweep},
        unused,
    },
};

/// Rows of a batch that have a label and all covariates.
pub(super) struct Known {
    rows: Vec<usize>,
    /// `[known]`.
    pub(super) labels: Vec<f64>,
    /// `[known, features]`.
    pub(super) features: Vec<f64>,
    lanes: Vec<usize>,
}

impl SupervisedLearner {
    pub(super) fn known(&self, batch: &ActivationBatch, x: &[f32], coded: &Coded<f32>) -> Known {
        let at = |column: &Vec<f32>, row: usize| column.get(row).copied().unwrap_or(f32::NAN);
        let label = |row: usize| batch.beside.first().map_or(f64::NAN, |c| f64::from(at(c, row)));
        let known = |&row: &usize| {
            self.score.knows(label(row)) && batch.beside.iter().all(|c| at(c, row).is_finite())
        };
        let rows: Vec<usize> = (0..batch.rows()).filter(known).collect();
        let column = |row: usize| batch.beside.iter().map(move |c| f64::from(at(c, row)));
        let mut features = Vec::with_capacity(rows.len() * self.score.features());
        let made = self.made(x, coded, &rows);
        for (&row, made) in rows.iter().zip(made.chunks_exact(self.spec.n_latents)) {
            features.extend(made.iter().map(|&v| f64::from(v) / f64::from(self.norm)));
            features.extend(column(row).skip(1).chain([1.0]));
        }
        let labels = rows.iter().filter_map(|&row| column(row).next()).collect();
        let lanes = batch.lanes.iter().map(|&end| rows.partition_point(|&row| row < end)).collect();
        Known { rows, labels, features, lanes }
    }

    /// What atoms make of some rows, `[rows, n_latents]`: products or codes.
    fn made(&self, x: &[f32], coded: &Coded<f32>, rows: &[usize]) -> Vec<f32> {
        let (n, d) = (self.spec.n_latents, self.d_in);
        let mut out = vec![0f32; rows.len() * n];
        match self.spec.form {
            Form::Filter => {
                Panels::of_rows(&self.online.atoms, d).times(self.path, &picked(x, d, rows), &mut out);
            }
            Form::Feature => {
                for (out, &row) in out.chunks_exact_mut(n).zip(rows) {
                    let (latents, values) = coded.codes.row(row);
                    latents.iter().zip(values).for_each(|(&latent, &v)| out[latent as usize] = v);
                }
            }
        }
        out
    }

    /// The score, then the codes it asks for, then the atoms.
    pub(super) fn improve(
        &mut self,
        batch: &ActivationBatch,
        x: &[f32],
        mut coded: Coded<f32>,
        known: &Known,
    ) {
        let (step, path, (reconstruction, label)) = (self.online.step, self.path, self.weights());
        let mut sums = None;
        if !known.rows.is_empty() {
            let Known { features, labels, lanes, .. } = known;
            let decay = decay(self.spec.forgetting, step, known.rows.len());
            self.score.learn(path, &Labelled { features, labels, lanes }, decay, self.spec.ridge);
            match self.spec.form {
                Form::Filter => sums = Some(self.pull(x, known)),
                Form::Feature => coded = self.drawn(x, coded, known),
            }
        }
        let decay = decay(self.spec.forgetting, step, batch.rows());
        let rows = Rows { codes: &coded.codes, values: &coded.values, x, lanes: batch.lanes };
        let Online { atoms, statistics, .. } = &mut self.online;
        statistics.absorb(path, decay, &rows);
        // Without reconstruction nothing is unused: every filter serves the score.
        if reconstruction > 0.0 {
            unused::resample(statistics, x, atoms, self.seed, step);
        }
        let constraint = Constraint { positive: false, unit: false };
        match sums {
            Some(pull) => {
                sweep(path, &pull.joined(statistics, atoms, (reconstruction, label)), constraint, atoms)
            }
            None if reconstruction > 0.0 => sweep(path, statistics, constraint, atoms),
            None => {}
        }
        self.online.step += 1;
    }

    fn pull(&self, x: &[f32], known: &Known) -> Pull {
        let (d, norm, score) = (self.d_in, f64::from(self.norm), &self.score);
        let slopes = score.slopes(&score.of(&known.features), &known.labels);
        let of_latents =
            |of: &[f64]| of.iter().take(self.spec.n_latents).map(|w| w / norm).collect::<Vec<_>>();
        let weights = score.weights.chunks_exact(score.features()).flat_map(of_latents).collect();
        Pull::of(&picked(x, d, &known.rows), &slopes, (d, score.heads), weights, score.curvature())
    }

    /// Codes in which labelled rows have moved to where their label wants them: the lasso over rows with
    /// one more coordinate per score, the aim, and atoms with one more, their weight in it.
    #[allow(clippy::cast_possible_truncation, reason = "rows are f32")]
    fn drawn(&self, x: &[f32], coded: Coded<f32>, known: &Known) -> Coded<f32> {
        let (n, d, (reconstruction, label)) = (self.spec.n_latents, self.d_in, self.weights());
        let (score, features) = (&self.score, self.score.features());
        let (heads, bound) = (score.heads, score.curvature());
        let size = bound.sqrt() * (label / reconstruction).sqrt();
        let mut atoms = Vec::with_capacity(n * (d + heads));
        for (j, atom) in self.online.atoms.chunks_exact(d).enumerate() {
            atoms.extend_from_slice(atom);
            let weights = score.weights.chunks_exact(features).map(|of| of[j] / f64::from(self.norm));
            atoms.extend(weights.map(|weight| (size * weight) as f32));
        }
        let scores = score.of(&known.features);
        let slopes = score.slopes(&scores, &known.labels);
        let mut rows = Vec::with_capacity(known.rows.len() * (d + heads));
        for (at, &row) in known.rows.iter().enumerate() {
            rows.extend_from_slice(&x[row * d..][..d]);
            for (head, weights) in score.weights.chunks_exact(features).enumerate() {
                let others = known.features[at * features..][n..].iter();
                let rest: f64 = others.zip(&weights[n..]).map(|(f, w)| f * w).sum();
                let at = at * heads + head;
                rows.push((size * aim(scores[at], slopes[at], rest, bound)) as f32);
            }
        }
        let drawn = Online::new(atoms, d + heads).code(self.path, &self.coder(1.0), &rows);
        merged(&coded, &drawn, &known.rows)
    }
}

/// `coded` with the rows `rows` replaced by those of `new`.
fn merged(coded: &Coded<f32>, new: &Coded<f32>, rows: &[usize]) -> Coded<f32> {
    let (mut codes, mut at) = (Codes::new(coded.codes.n_latents), 0);
    for row in 0..coded.codes.rows() {
        let (latents, values) = if rows.get(at) == Some(&row) {
            at += 1;
            new.codes.row(at - 1)
        } else {
            coded.codes.row(row)
        };
        codes.push_row(latents.iter().copied().zip(values.iter().copied()));
    }
    Coded { values: codes.values.clone(), codes }
}

/// Some rows of `x`, `[rows, d]`.
fn picked(x: &[f32], d: usize, rows: &[usize]) -> Vec<f32> {
    rows.iter().flat_map(|&row| &x[row * d..][..d]).copied().collect()
}
