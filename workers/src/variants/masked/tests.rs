//! Gradient, limits and the claim of the paper.

use super::*;
use crate::{
    coders::{Gram, block::Coded},
    toys,
};

fn doubles(values: Vec<f32>) -> Vec<f64> {
    values.into_iter().map(f64::from).collect()
}

fn left(mask: &Mask, coded: &Coded<f64>, atoms: &[f64], x: &[f64], d: usize) -> (f64, Vec<f64>) {
    let nothing = vec![0f64; d];
    let decoded =
        residual::Coded { codes: &coded.codes, values: &coded.values, w_dec: atoms, offset: &nothing };
    let mut e = residual(Path::best(), x, &decoded, &[0, x.len() / d], Vec::new()).e;
    (mask.loss(&mut e, d), e)
}

/// Central differences with the codes held, masked and not.
#[test]
fn the_gradient_is_that_of_the_loss() {
    let (d, n, rows) = (9, 12, 20);
    let mut atoms = doubles(toys::atoms(n, d, 3));
    let x = doubles(toys::mixed(&toys::atoms(n, d, 4), d, (rows, 3), true, 0.1, 1));
    for hidden in [0, 3] {
        let mask = Mask::draw(d, hidden, &[5]);
        let coded = mask.code(Path::best(), 3, &atoms, &x);
        let (_, e) = left(&mask, &coded, &atoms, &x, d);
        let g = gradient(Path::best(), &coded, &e, d, &[0, 7, rows]);
        for at in [0, 13, 40, n * d - 1] {
            let mut moved = |by: f64| {
                let before = atoms[at];
                atoms[at] += by;
                let loss = left(&mask, &coded, &atoms, &x, d).0;
                atoms[at] = before;
                loss
            };
            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
            assert!((slope - g[at]).abs() < 1e-7 * (1.0 + slope.abs()), "{at}: {slope} is not {}", g[at]);
        }
    }
}

/// Nothing hidden: the codes are OMP's of the whole row and the loss is its squared error.
#[test]
fn hiding_nothing_is_reconstruction() {
    let (d, n) = (10, 16);
    let atoms = doubles(toys::atoms(n, d, 3));
    let x = doubles(toys::mixed(&toys::atoms(n, d, 4), d, (30, 3), true, 0.1, 1));
    let mask = Mask::draw(d, 0, &[5]);
    assert_eq!((mask.seen.len(), mask.counts.iter().all(|&c| c)), (d, true));
    let coded = mask.code(Path::best(), 3, &atoms, &x);
    let panels = Panels::of_rows(&atoms, d);
    let mut gram = vec![0f64; n * n];
    panels.times(Path::best(), &atoms, &mut gram);
    let omp = AnyCoder::Omp(Omp { k: 3 }).code(Path::best(), &panels, Gram::new(&atoms, d, Some(&gram)), &x);
    assert_eq!(coded.codes.latents, omp.codes.latents);
    assert!(coded.values.iter().zip(&omp.values).all(|(a, b)| (a - b).abs() < 1e-6 * (1.0 + b.abs())));
    let some = Mask::draw(d, 4, &[5]);
    assert!(some.seen.len() == 6 && some.seen.iter().all(|&c| !some.counts[c]));
}

/// Noise of 1/√d per coordinate and twice the true atoms: masking recovers more of them.
#[test]
fn masking_recovers_more_than_reconstruction_from_noise() {
    let (d, n, rows, steps) = (48, 64, 512, 400u64);
    let planted = toys::atoms(n, d, 1);
    let noise = 1.0 / (d as f64).sqrt();
    let batches: Vec<Vec<f32>> =
        (0..40).map(|s| toys::mixed(&planted, d, (rows, 3), true, noise, s)).collect();
    let recovered = |hidden: f64, rotate: bool| {
        let schedule = ScheduleSpec { lr: Some(5e-3), ..ScheduleSpec::default() };
        let spec = Masked {
            n_latents: 2 * n,
            k: 3,
            hidden,
            rotate,
            schedule,
            dead_after_tokens: dead_after_tokens(),
        };
        let mut learner =
            spec.build(&Setup::plain(&d, steps, 2, &batches[0], Threads::new(2).unwrap())).unwrap();
        for step in 0..steps as usize {
            learner.step(&ActivationBatch::new(&batches[step % batches.len()], &[0, rows]));
        }
        toys::mmcs(&planted, learner.freeze(&Scales::of(1.0)).atoms(), d, true)
    };
    let (all, some, turned) = (recovered(0.0, false), recovered(0.1, false), recovered(0.1, true));
    println!("MMCS: reconstruction {all}, masked {some}, masked in a rotation {turned}");
    assert!(some > all && turned > all, "reconstruction {all}, masked {some}, rotated {turned}");
}
