//! The SAE as a limit, no gradient where predictions agree, central differences, two scales, and predictions
//! that are kept.

use super::*;
use crate::{
    learner::ActivationBatch,
    planted::{self, Recipe},
    skeleton::golden::{self, Case, D, F},
    threads::Threads,
    variants::topk::TopK,
};

fn scorer(prediction_weight: f64) -> Scorer {
    let config = serde_json::json!({
        "n_latents": F, "k": 3, "prediction_weight": prediction_weight, "reconstruction_weight": 1.0,
    });
    Scorer { config: serde_json::from_value(config).unwrap(), scales: [2.0, 0.5] }
}

/// Three users and three items in turn.
fn case() -> Case<f64> {
    Case { x: golden::fill(1, 6 * D, 1.5), lanes: vec![0, 2, 6], ..Case::default() }
}

#[test]
fn without_prediction_it_is_top_k() {
    let spec = serde_json::json!({ "n_latents": F, "k": 3 });
    let mut top_k: TopK = serde_json::from_value(spec).unwrap();
    assert_eq!(case().run(&mut scorer(0.0)), case().run(&mut top_k));
}

#[test]
fn gradients_equal_central_differences() {
    let (case, mut variant) = (case(), scorer(3.0));
    let outcome = case.run(&mut variant);
    assert!(outcome.losses.penalty > 0.1);
    let loss = |case: &Case<f64>| case.run(&mut variant).losses.total;
    golden::central_differences(&case, &outcome.gradients, &[], loss);
}

/// Even with dead latents: AuxK sees the residual, not what the prediction adds to its gradient.
#[test]
fn the_auxiliary_loss_is_that_of_top_k() {
    let case = Case { dead: vec![8, 9, 10], aux: AuxK { coefficient: 0.1, k: 2 }, ..case() };
    let aux = |weight| case.run(&mut scorer(weight)).losses.aux;
    assert!(aux(0.0) > 0.0);
    assert_eq!(aux(3.0), aux(0.0));
}

#[test]
fn equal_predictions_have_no_gradient() {
    let x: Vec<f64> = golden::fill(1, 6 * D, 1.5);
    let (cost, gradient) = scorer(3.0).prediction(&x, &vec![0.0; x.len()], D);
    assert!(gradient.iter().all(|&g| g == 0.0));
    let entropy = |pair: &[f64]| {
        let share = sigmoid(vector::dot(&pair[..D], &pair[D..]));
        -share * share.ln() - (1.0 - share) * (1.0 - share).ln()
    };
    golden::close(cost, x.chunks(2 * D).map(entropy).sum(), 1e-12);
}

#[test]
fn paths_and_lanes_change_no_bit() {
    let single = Case::<f32> { x: golden::fill(1, 6 * D, 1.5), ..Case::default() };
    for path in crate::kernels::Path::available() {
        let of = |lanes: Vec<usize>, path| Case { lanes, path, ..single.clone() }.run(&mut scorer(3.0));
        let portable = of(vec![0, 2, 6], crate::kernels::Path::Portable);
        assert_eq!(of(vec![0, 2, 6], path).gradients, portable.gradients, "{path:?}");
    }
}

const WIDTH: usize = 32;

/// Users and items of planted atoms, users five times as large.
fn rows(atoms: &[f32], number: u64) -> Vec<f32> {
    let recipe = Recipe { active: 3, signed: false, noise: 0.01 };
    planted::rows_of(atoms, WIDTH, 1024, recipe, number)
}

fn learn(prediction_weight: f64, steps: usize, k: usize) -> (Box<dyn Dictionary>, Vec<f32>) {
    let atoms = planted::atoms_of(64, WIDTH, 41);
    let batches: Vec<Vec<f32>> = (0..24).map(|number| rows(&atoms, number)).collect();
    let config = serde_json::json!({
        "n_latents": 64, "k": k, "prediction_weight": prediction_weight, "dead_after_tokens": 20_000,
        "schedule": { "lr": 3e-3 },
    });
    let config: Recommender = serde_json::from_value(config).unwrap();
    let (widths, scales) = ([WIDTH; 2], Scales { inputs: vec![0.2, 1.0], beside: Vec::new() });
    let plain = Setup::plain(&WIDTH, steps as u64, 1, &batches[0], Threads::new(0).unwrap());
    let setup = Setup { d_in: 2 * WIDTH, input_widths: &widths, scales: scales.clone(), ..plain };
    let mut learner = config.build(&setup).unwrap();
    for step in 0..steps {
        let x = &batches[step % batches.len()];
        learner.step(&ActivationBatch::new(x, &[0, x.len() / WIDTH / 2]));
    }
    (learner.freeze(&scales), atoms)
}

/// Rows in the units of the data: users were multiplied by 0.2, items by 1.
fn unscaled(x: &[f32]) -> Vec<f32> {
    x.chunks(2 * WIDTH)
        .flat_map(|row| row.iter().enumerate().map(|(c, v)| if c < WIDTH { v * 5.0 } else { *v }))
        .collect()
}

/// One dictionary for both sides, found by both, in the units of each.
#[test]
fn both_sides_recover_the_planted_dictionary() {
    let (dictionary, atoms) = learn(1.0, 1500, 3);
    let of_users: Vec<f32> =
        dictionary.atoms().chunks(2 * WIDTH).take(64).flat_map(|a| &a[..WIDTH]).copied().collect();
    let of_items: Vec<f32> =
        dictionary.atoms().chunks(2 * WIDTH).skip(64).flat_map(|a| &a[WIDTH..]).copied().collect();
    assert_eq!(of_users, of_items);
    let (mmcs, _) = planted::mmcs(&atoms, &of_users, WIDTH, false);
    assert!(mmcs >= 0.95, "MMCS {mmcs}");
    let x = unscaled(&rows(&atoms, 900));
    let codes = dictionary.encode(&x);
    let mut x_hat = vec![0.0; x.len()];
    dictionary.decode(&codes, &mut x_hat);
    for side in 0..2 {
        let half = |v: &[f32]| -> Vec<f64> {
            v.chunks(WIDTH).skip(side).step_by(2).flatten().map(|&v| f64::from(v)).collect()
        };
        let (x, x_hat) = (half(&x), half(&x_hat));
        let missed: f64 = x.iter().zip(&x_hat).map(|(a, b)| (a - b).powi(2)).sum();
        let fvu = missed / x.iter().map(|v| v * v).sum::<f64>();
        assert!(fvu < 0.15, "side {side}: {fvu}");
    }
    assert!(dictionary.export().unwrap().len() == 2);
}

/// With too few latents to reconstruct everything, predictions are kept better when they are asked for.
#[test]
fn predictions_are_kept() {
    let missed = |weight: f64| {
        let (dictionary, atoms) = learn(weight, 800, 2);
        let x = unscaled(&rows(&atoms, 900));
        let mut x_hat = vec![0.0; x.len()];
        dictionary.decode(&dictionary.encode(&x), &mut x_hat);
        let logit = |row: &[f32]| f64::from(vector::dot(&row[..WIDTH], &row[WIDTH..]));
        let pairs = x.chunks(2 * WIDTH).zip(x_hat.chunks(2 * WIDTH));
        let divergence = |(x, x_hat): (&[f32], &[f32])| {
            let (p, q) = (sigmoid(logit(x)), sigmoid(logit(x_hat)));
            p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln()
        };
        pairs.map(divergence).sum::<f64>() / 512.0
    };
    let [without, little, some, paper] = [0.0, 0.1, 1.0, 10.0].map(missed);
    let default: Recommender = serde_json::from_value(serde_json::json!({ "n_latents": 8, "k": 2 })).unwrap();
    assert_eq!(default.prediction_weight, 1.0, "the weight that is measured as some");
    println!(
        "recommender: divergence of predictions {without}, at weights 0.1, 1 and 10: {little}, {some}, {paper}"
    );
    assert!(little < without && some < without, "{little} and {some} against {without}");
}

#[test]
fn both_columns_have_one_width() {
    let config: Recommender = serde_json::from_value(serde_json::json!({ "n_latents": 8, "k": 2 })).unwrap();
    let (widths, sample) = ([3, 5], vec![1.0f32; 16]);
    let plain = Setup::plain(&8, 10, 1, &sample, Threads::new(1).unwrap());
    let scales = Scales { inputs: vec![1.0; 2], beside: Vec::new() };
    let setup = Setup { input_widths: &widths, scales, ..plain };
    assert_eq!(config.build(&setup).err().map(|e| e.field), Some("user"));
}
