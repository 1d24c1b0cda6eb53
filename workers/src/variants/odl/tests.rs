//! Recovery of a rotation from Bernoulli–Gaussian codes, as measured in methods.md §0.8.

use super::*;
use crate::{
    learner::{ActivationBatch, Scales},
    random::{hash, unit},
    toys::normal,
};

const N: usize = 20;

/// A random rotation.
fn planted() -> Vec<f64> {
    let draw: Vec<f64> = (0..N * N).map(|i| normal(&[1, i as u64])).collect();
    polar(Path::best(), &draw, N)
}

/// Rows whose codes in the planted atoms are normal with probability θ, else 0.
fn rows(planted: &[f64], count: usize, theta: f64, seed: u64) -> Vec<f32> {
    let code = |i: usize| {
        let on = unit(hash(&[seed, 7, i as u64])) < theta;
        if on { normal(&[seed, i as u64]) } else { 0.0 }
    };
    let codes: Vec<f64> = (0..count * N).map(code).collect();
    product::product(Path::best(), &codes, &Panels::of_columns(planted, N))
        .into_iter()
        .map(|v| v as f32)
        .collect()
}

/// `1 − ‖A·Dᵀ‖₄⁴ / n`: 0 for a signed permutation.
fn error(state: &LearnerState, planted: &[f64]) -> f64 {
    let rotation = polar(Path::best(), &state.f64("rotation", N * N).unwrap(), N);
    let found = product::product(Path::best(), &rotation, &Panels::of_rows(planted, N));
    1.0 - found.iter().map(|v| v.powi(4)).sum::<f64>() / N as f64
}

fn learner(mode: Mode, p: u32, sample: &[f32]) -> Box<dyn DictLearner> {
    let spec = Odl { n_latents: N, mode, p, k: 4, ridge: 1e-9 };
    spec.build(&Setup::plain(&N, 200, 3, sample, Threads::new(0).unwrap())).unwrap()
}

#[test]
fn finds_the_rotation_of_sparse_codes() {
    let planted = planted();
    for theta in [0.1, 0.3] {
        let x = rows(&planted, 20_000, theta, 1);
        for p in [3, 4] {
            let mut gpm = learner(Mode::Gpm, p, &x);
            let mut objective = f64::INFINITY;
            for _ in 0..40 {
                let loss = gpm.step(&ActivationBatch::new(&x, &[0, 20_000])).loss;
                assert!(loss <= objective + 1e-12, "the objective fell from {objective} to {loss}");
                objective = loss;
            }
            let mut online = learner(Mode::FrankWolfe, p, &x);
            for batch in x.chunks(100 * N).chain(x.chunks(100 * N)) {
                online.step(&ActivationBatch::new(batch, &[0, 100]));
            }
            let (full, few) = (error(&gpm.save(), &planted), error(&online.save(), &planted));
            println!("ODL theta {theta} p {p}: GPM {full:.1e}, Frank-Wolfe {few:.1e}");
            assert!(full < 5e-3 && few < 1e-2, "theta {theta} p {p}: {full} {few}");
        }
    }
}

/// All latents kept: a rotation of the whitened data loses nothing.
#[test]
fn with_all_latents_the_reconstruction_is_exact() {
    let x = rows(&planted(), 300, 0.3, 2);
    let spec = Odl { n_latents: N, mode: Mode::FrankWolfe, p: 3, k: N, ridge: 1e-3 };
    let mut odl = spec.build(&Setup::plain(&N, 9, 3, &x, Threads::new(1).unwrap())).unwrap();
    odl.step(&ActivationBatch::new(&x, &[0, 300]));
    let dictionary = odl.freeze(&Scales::of(1.0));
    let mut x_hat = vec![0f32; x.len()];
    dictionary.decode(&dictionary.encode(&x), &mut x_hat);
    assert!(x.iter().zip(&x_hat).all(|(a, b)| (a - b).abs() < 1e-4));
}

/// Which atom is which, and its sign, is nobody's to say: a step takes a permuted start to the permuted
/// result.
#[test]
fn a_signed_permutation_goes_through_a_step() {
    let x = rows(&planted(), 500, 0.3, 4);
    let permuted = |rotation: &[f64]| {
        let row = |i: usize| {
            let sign = if i.is_multiple_of(3) { -1.0 } else { 1.0 };
            rotation[(N - 1 - i) * N..][..N].iter().map(move |v| sign * v)
        };
        (0..N).flat_map(row).collect::<Vec<f64>>()
    };
    let (mut one, mut other) = (learner(Mode::Gpm, 4, &x), learner(Mode::Gpm, 4, &x));
    let mut state = one.save();
    state.push_f64("rotation", &permuted(&state.f64("rotation", N * N).unwrap()));
    other.load(&state).unwrap();
    one.step(&ActivationBatch::new(&x, &[0, 500]));
    other.step(&ActivationBatch::new(&x, &[0, 500]));
    let of = |learner: &dyn DictLearner| learner.save().f64("rotation", N * N).unwrap();
    let expected = permuted(&of(&*one));
    assert!(of(&*other).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-9));
}
