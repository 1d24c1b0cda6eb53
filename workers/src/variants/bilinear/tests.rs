//! The bilinear loss against golden numbers, the direct form and differences, in f64.

use super::*;
use crate::{kernels::vector::dot, toys::golden};

const D: usize = 6;

fn setting() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let mut x: Vec<f64> = golden(1, 30).iter().map(|v| 1.5 * v).collect();
    x.chunks_mut(D).for_each(vector::normalize);
    let half = |t| golden(t, 72).iter().map(|v| 0.5 * v).collect();
    (x, half(15), half(16))
}

fn evaluate(x: &[f64], left: &[f64], right: &[f64], alpha: f64) -> gradient::Gradient<f64> {
    evaluate_form(x, left, right, alpha, false)
}

fn evaluate_form(
    x: &[f64],
    left: &[f64],
    right: &[f64],
    alpha: f64,
    ordered: bool,
) -> gradient::Gradient<f64> {
    let features = Features::of(Path::best(), x, D, (left, right));
    let (path, lanes) = (Path::best(), &[0, 2, 5][..]);
    Problem { path, lanes, x, d: D, left, right, alpha, ordered }.gradient(&features)
}

#[test]
fn golden_numbers() {
    let (x, left, right) = setting();
    let found = evaluate(&x, &left, &right, 0.0);
    let close = |found: f64, golden: f64, within: f64| {
        assert!((found - golden).abs() <= within, "{found:.10} is not {golden}");
    };
    close(found.loss, 0.883_761_015_1, 6e-11);
    close(dot(&found.left, &found.left).sqrt(), 0.179_650_51, 6e-9);
    close(found.left[0], 0.003_037_59, 6e-9);
    close(dot(&found.right, &found.right).sqrt(), 0.161_191_01, 6e-9);
    close(found.right[0], 0.006_397_33, 6e-9);
}

/// `‖xxᵀ − Σ f·l·rᵀ‖²` written down with d² numbers.
#[test]
fn the_kernel_form_is_the_direct_form() {
    let (x, left, right) = setting();
    let direct = |row: &[f64]| {
        let mut error: Vec<f64> = (0..D * D).map(|i| row[i / D] * row[i % D]).collect();
        for (l, r) in left.chunks(D).zip(right.chunks(D)) {
            let f = dot(row, l) * dot(row, r);
            error.iter_mut().enumerate().for_each(|(i, e)| *e -= f * l[i / D] * r[i % D]);
        }
        dot(&error, &error)
    };
    let mean = x.chunks(D).map(direct).sum::<f64>() / 5.0;
    let found = evaluate(&x, &left, &right, 0.0).loss;
    assert!((found - mean).abs() < 1e-12, "{found} is not {mean}");
}

#[test]
fn gradients_are_central_differences_with_the_density() {
    let (x, left, right) = setting();
    let moved = |values: &[f64], i: usize, by: f64| {
        let mut values = values.to_vec();
        values[i] += by;
        values
    };
    for ordered in [false, true] {
        let found = evaluate_form(&x, &left, &right, 0.3, ordered);
        let loss = |left: &[f64], right: &[f64]| evaluate_form(&x, left, right, 0.3, ordered).loss;
        for i in 0..72 {
            let slope = |of: &dyn Fn(f64) -> f64| (of(1e-6) - of(-1e-6)) / 2e-6;
            let by_left = slope(&|by| loss(&moved(&left, i, by), &right));
            let by_right = slope(&|by| loss(&left, &moved(&right, i, by)));
            assert!((by_left - found.left[i]).abs() < 1e-7, "left {i}: {} is not {by_left}", found.left[i]);
            assert!(
                (by_right - found.right[i]).abs() < 1e-7,
                "right {i}: {} is not {by_right}",
                found.right[i]
            );
        }
    }
}

/// The ordered loss is the mean of the plain one over the dictionaries of the first latents.
#[test]
fn ordered_is_the_mean_over_prefixes() {
    let (x, left, right) = setting();
    let n = left.len() / D;
    let prefix = |m: usize| evaluate(&x, &left[..m * D], &right[..m * D], 0.0).loss;
    let mean = (1..=n).map(prefix).sum::<f64>() / n as f64;
    let found = evaluate_form(&x, &left, &right, 0.0, true).loss;
    assert!((found - mean).abs() < 1e-12, "{found} is not {mean}");
}

/// Rows of four strong and many weak directions, learned in either form and by either optimizer.
fn learned(ordered: bool, optimizer: &str, lr: f64) -> (Vec<f64>, f64) {
    let d = 16;
    let x = crate::toys::mixed(&crate::toys::atoms(24, d, 2), d, (512, 2), true, 0.02, 5);
    let table = serde_json::json!({
        "n_latents": 32, "k": 32, "alpha": 0.0, "ordered": ordered, "optimizer": optimizer,
        "schedule": { "lr": lr },
    });
    let spec: Bilinear = serde_json::from_value(table).unwrap();
    let mut learner = spec.build(&Setup::plain(&d, 300, 1, &x, Threads::new(0).unwrap())).unwrap();
    let mut loss = 0.0;
    for _ in 0..300 {
        loss = learner.step(&crate::learner::ActivationBatch::new(&x, &[0, 512])).loss;
    }
    let state = learner.save();
    let side = |name| state.f32(name, &[32, d]).unwrap().into_iter().map(f64::from).collect::<Vec<f64>>();
    let (left, right) = (side("left"), side("right"));
    let unit: Vec<f64> = unit_rows(&x, d).into_iter().map(f64::from).collect();
    let of_prefix = |m: usize| {
        let (left, right) = (&left[..m * d], &right[..m * d]);
        let features = Features::of(Path::best(), &unit, d, (left, right));
        let (path, lanes) = (Path::best(), &[0, 512][..]);
        Problem { path, lanes, x: &unit, d, left, right, alpha: 0.0, ordered: false }.gradient(&features).loss
    };
    ([4, 8, 16, 32].map(of_prefix).to_vec(), loss)
}

/// In the ordered form the first latents reconstruct alone; in the other they do not.
#[test]
fn first_latents_reconstruct_alone_where_they_are_ordered() {
    let [(plain, _), (ordered, _)] = [false, true].map(|ordered| learned(ordered, "adam", 0.02));
    println!("bilinear loss of the first 4, 8, 16, 32 latents: plain {plain:.3?}, ordered {ordered:.3?}");
    assert!(ordered.is_sorted_by(|a, b| a > b), "{ordered:?}");
    assert!(ordered[0] < plain[0] - 0.05 && ordered[1] < plain[1] - 0.05, "{ordered:?} {plain:?}");
}

/// Muon with the learning rate of its authors gets at least near where Adam gets.
#[test]
fn muon_learns_as_well_as_adam() {
    let [(_, adam), (_, muon)] = [("adam", 0.02), ("muon", 0.03)].map(|(name, lr)| learned(false, name, lr));
    println!("bilinear loss after 300 steps: Adam {adam}, Muon {muon}");
    assert!(muon < 1.05 * adam, "Adam {adam}, Muon {muon}");
}

#[test]
fn other_modes_keep_every_promise() {
    for (ordered, optimizer) in [(true, "adam"), (false, "muon"), (true, "muon")] {
        let table = serde_json::json!({
            "kind": "bilinear", "n_latents": 40, "k": 8, "ordered": ordered, "optimizer": optimizer,
            "schedule": { "lr": 0.02 },
        });
        crate::conformance::check(&serde_json::from_value(table).unwrap());
    }
}

/// One orthonormal basis on both sides: features are squared projections, and what is lost is what
/// lies between different directions.
#[test]
fn an_orthonormal_basis_loses_what_is_off_the_diagonal() {
    let (x, _, _) = setting();
    let basis = crate::linear::polar::polar(Path::best(), &golden(7, 36), D);
    let found = evaluate(&x, &basis, &basis, 0.0).loss;
    let features = Features::of(Path::best(), &x, D, (&basis, &basis));
    let off_diagonal = |row: &[f64]| {
        let squares: Vec<f64> = basis.chunks(D).map(|l| dot(row, l).powi(2)).collect();
        squares.iter().sum::<f64>().powi(2) - dot(&squares, &squares)
    };
    assert!((found - x.chunks(D).map(off_diagonal).sum::<f64>() / 5.0).abs() < 1e-12);
    assert!((features.f[3] - dot(&x[..D], &basis[3 * D..][..D]).powi(2)).abs() < 1e-14);
}

/// A direction that is a latent comes back from its code alone, up to sign, and with x exactly.
#[test]
fn a_row_along_one_latent_is_reconstructed() {
    let mut left = vec![0f32; 2 * 4];
    (left[0], left[5]) = (1.0, 1.0);
    let frozen = FrozenBilinear {
        d: 4,
        k: 1,
        left: left.clone(),
        right: left.clone(),
        atoms: left,
        threads: Threads::new(1).unwrap(),
    };
    let x = [-3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0];
    let codes = frozen.encode(&x);
    assert_eq!((codes.latents.clone(), codes.values.clone()), (vec![0, 1], vec![3.0, 2.0]));
    let mut x_hat = [0f32; 8];
    frozen.decode(&codes, &mut x_hat);
    assert_eq!(x_hat, [3.0, 0.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    frozen.reconstruct(&x, &codes, &mut x_hat);
    assert_eq!(x_hat, x);
}
