//! A dictionary that is known, and rows made of it: what learners are tested against.
//!
//! Unit-norm Gaussian atoms, `d` = 64, 128 atoms, 4 of them active in a row with coefficients in
//! (0.5, 1.5), noise of 0.01 (methods.md, T2).

use crate::{
    kernels::vector,
    learner::{ActivationBatch, DictLearner, Scales, Setup, StepReport},
    random::{hash, unit},
    threads::Threads,
    variants::LearnerSpec,
};

/// Width of the rows.
pub(crate) const D: usize = 64;
/// Number of planted atoms.
pub(crate) const ATOMS: usize = 128;
/// Rows of a batch.
pub(crate) const ROWS: usize = 1024;
/// Active atoms of a row.
pub(crate) const ACTIVE: usize = 4;

/// A standard normal number.
pub(crate) fn normal(words: &[u64]) -> f64 {
    let (u, v) = (unit(hash(&[words, &[0]].concat())), unit(hash(&[words, &[1]].concat())));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// `n` unit-norm Gaussian atoms of width `d`.
pub(crate) fn atoms_of(n: usize, d: usize, seed: u64) -> Vec<f32> {
    let mut atoms: Vec<f32> = (0..n * d).map(|i| normal(&[seed, i as u64]) as f32).collect();
    atoms.chunks_mut(d).for_each(vector::normalize);
    atoms
}

/// The planted atoms.
pub(crate) fn atoms() -> Vec<f32> {
    atoms_of(ATOMS, D, 1)
}

/// How rows are made of atoms.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// Active atoms of a row.
    pub active: usize,
    /// Whether half of the coefficients are negative.
    pub signed: bool,
    /// Standard deviation of the noise.
    pub noise: f64,
}

/// The recipe of T2.
pub(crate) const T2: Recipe = Recipe { active: ACTIVE, signed: false, noise: 0.01 };

/// Rows of `atoms` of width `d`, the `number`-th batch.
pub(crate) fn rows_of(atoms: &[f32], d: usize, rows: usize, recipe: Recipe, number: u64) -> Vec<f32> {
    let n = atoms.len() / d;
    let mut x: Vec<f32> =
        (0..rows * d).map(|i| (recipe.noise * normal(&[2, number, i as u64])) as f32).collect();
    for (r, row) in x.chunks_mut(d).enumerate() {
        let mut order: Vec<u64> = (0..n as u64).collect();
        for i in 0..recipe.active {
            order.swap(i, i + (hash(&[3, number, r as u64, i as u64]) % (n - i) as u64) as usize);
            let a = order[i];
            let c = 0.5 + unit(hash(&[4, number, r as u64, a]));
            let negative = recipe.signed && hash(&[5, number, r as u64, a]).is_multiple_of(2);
            vector::axpy(if negative { -c } else { c } as f32, &atoms[a as usize * d..][..d], row);
        }
    }
    x
}

/// The `number`-th batch of T2.
pub(crate) fn batch(atoms: &[f32], number: u64) -> Vec<f32> {
    rows_of(atoms, D, ROWS, T2, number)
}

/// Steps over 48 batches, again and again: making them costs more than learning from them.
pub(crate) fn train(learner: &mut dyn DictLearner, batches: &[Vec<f32>], steps: usize) -> StepReport {
    let mut last = StepReport::default();
    for step in 0..steps {
        let x = &batches[step % batches.len()];
        last = learner.step(&ActivationBatch::new(x, &[0, x.len() / learner.d_in()]));
    }
    last
}

/// What a learner made of T2.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "printed")]
pub(crate) struct Learned {
    /// See [`mmcs`].
    pub mmcs: f32,
    /// The same, whatever the signs.
    pub mmcs_signed: f32,
    /// Share of the planted atoms that are recovered.
    pub found: f32,
    /// Of the last batch.
    pub fvu: f64,
    /// Of the last batch.
    pub l0: f64,
    /// Dead latents at the end.
    pub dead: u64,
}

/// Learns T2 for so many steps; `table` is the table `[learner]`.
pub(crate) fn learn(table: serde_json::Value, steps: usize) -> Learned {
    let (atoms, spec) = (atoms(), serde_json::from_value::<LearnerSpec>(table.clone()).unwrap());
    let sample = batch(&atoms, 9999);
    let setup = Setup::plain(&D, steps as u64, 1, &sample, Threads::new(0).unwrap());
    let mut learner = spec.build(&setup).unwrap();
    let last = train(&mut *learner, &batches(&atoms), steps);
    let dictionary = learner.freeze(&Scales::of(1.0));
    let (mmcs_signed, _) = mmcs(&atoms, dictionary.atoms(), D, true);
    let (mmcs, found) = mmcs(&atoms, dictionary.atoms(), D, false);
    let (fvu, l0) = (last.squared_error / last.scatter, last.nnz as f64 / last.rows as f64);
    let learned = Learned { mmcs, mmcs_signed, found, fvu, l0, dead: last.dead };
    eprintln!("{table}: {learned:?}");
    learned
}

/// 48 batches of T2.
pub(crate) fn batches(atoms: &[f32]) -> Vec<Vec<f32>> {
    (0..48).map(|number| batch(atoms, number)).collect()
}

/// Mean over planted atoms of the largest cosine to a learned one, and the share above 0.95. With
/// `signed`, the cosine counts without its sign.
pub(crate) fn mmcs(planted: &[f32], learned: &[f32], d: usize, signed: bool) -> (f32, f32) {
    let cosine = |a: &[f32], b: &[f32]| {
        let norms = (vector::dot(a, a) * vector::dot(b, b)).sqrt().max(f32::MIN_POSITIVE);
        let cosine = vector::dot(a, b) / norms;
        if signed { cosine.abs() } else { cosine }
    };
    let best = |a: &[f32]| learned.chunks(d).map(|b| cosine(a, b)).fold(-1.0, f32::max);
    let all: Vec<f32> = planted.chunks(d).map(best).collect();
    let n = all.len() as f32;
    (all.iter().sum::<f32>() / n, all.iter().filter(|&&c| c > 0.95).count() as f32 / n)
}
