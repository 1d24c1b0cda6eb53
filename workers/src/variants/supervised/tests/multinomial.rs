//! More than two classes: bounds, the limit without reconstruction, and the two-stage baseline.

use super::*;
use crate::conformance;

const CLASSES: usize = 3;

/// Three weak atoms, one of each class, among strong ones.
fn classes(rows: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let atoms = toys::atoms(13, D, 1);
    let mut x = toys::mixed(&atoms[..10 * D], D, (rows, 2), false, 0.1, seed);
    let mut labels = Vec::new();
    for (r, row) in x.chunks_mut(D).enumerate() {
        let class = hash(&[12, seed, r as u64]) as usize % CLASSES;
        vector::axpy(0.7, &atoms[(10 + class) * D..][..D], row);
        labels.push(class as f32);
    }
    (x, labels)
}

/// Weights and scores of some rows that mean nothing.
fn anything(features: usize) -> Score {
    let mut score = Score::zero(features, CLASSES);
    score.weights = (0..CLASSES * features).map(|i| ((i * i * 7 + 3 * i) % 11) as f64 / 5.0 - 1.0).collect();
    score
}

#[test]
fn slopes_are_central_differences() {
    let (score, labels) = (anything(1), [2.0, 0.0]);
    let scores = [0.3, -1.2, 0.8, 2.0, 0.1, -0.4];
    let slopes = score.slopes(&scores, &labels);
    for i in 0..6 {
        let by = |delta: f64| {
            let mut scores = scores;
            scores[i] += delta;
            2.0 * score.cross_entropy(&scores, &labels)
        };
        assert!((slopes[i] - (by(1e-6) - by(-1e-6)) / 2e-6).abs() < 1e-8);
    }
    assert!(score.knows(0.0) && score.knows(2.0) && !score.knows(3.0) && !score.knows(0.5));
    assert!(!score.knows(-1.0) && !score.knows(f64::NAN));
}

/// The squares that codes are drawn by lie above the loss, for all scores of a row together.
#[test]
fn the_aims_majorise() {
    let score = anything(1);
    for trial in 0..50u64 {
        let at = |stream: u64| -> Vec<f64> {
            (0..3).map(|h| 6.0 * (unit(hash(&[stream, trial, h])) - 0.5)).collect()
        };
        let (from, to, label) = (at(1), at(2), [(trial % 3) as f64]);
        let slopes = score.slopes(&from, &label);
        let square = |at: &[f64]| -> f64 {
            let of = |h: usize| 0.25 * (at[h] - aim(from[h], slopes[h], 0.0, 0.5)).powi(2);
            (0..3).map(of).sum()
        };
        let truth = score.cross_entropy(&to, &label) - score.cross_entropy(&from, &label);
        assert!(truth <= square(&to) - square(&from) + 1e-12, "trial {trial}");
    }
}

#[test]
fn the_quadratic_of_the_filters_majorises() {
    let (x, y) = classes(200, 3);
    let (score, n) = (anything(4), 4);
    let labels: Vec<f64> = y.iter().map(|&y| f64::from(y)).collect();
    let scores = |atoms: &[f32]| -> Vec<f64> {
        let features: Vec<f64> =
            x.chunks(D).flat_map(|row| atoms.chunks(D).map(|a| f64::from(vector::dot(a, row)))).collect();
        score.of(&features)
    };
    for trial in 0..40 {
        let (from, to) = (toys::atoms(n, D, trial), toys::atoms(n, D, trial + 100));
        let slopes = score.slopes(&scores(&from), &labels);
        let pull = Pull::of(&x, &slopes, (D, CLASSES), score.weights.clone(), 0.5);
        let joined = pull.joined(&Statistics::zero(n, D), &from, (0.0, 1.0));
        let rise = joined.objective(&to) - joined.objective(&from);
        let truth = score.cross_entropy(&scores(&to), &labels) - score.cross_entropy(&scores(&from), &labels);
        assert!(truth <= rise + 1e-5, "trial {trial}: {truth} above {rise}");
    }
}

/// ξ = 0 with as many filters as a row has columns: multinomial regression on the row.
#[test]
fn without_reconstruction_it_is_multinomial_regression() {
    let (x, mut y) = classes(600, 2);
    // A third of the labels say nothing: what is certain has no optimum but the ridge's.
    y.iter_mut().step_by(3).enumerate().for_each(|(i, y)| *y = (hash(&[13, i as u64]) % 3) as f32);
    let table = serde_json::json!({
        "n_latents": 4, "classes": CLASSES, "xi": 0.0, "ridge": 1e-4, "forgetting": 0.0,
    });
    let mut learner = start(&spec(table), &x);
    let labels: Vec<f64> = y.iter().map(|&y| f64::from(y)).collect();
    let features: Vec<f64> =
        x.chunks(D).flat_map(|row| row.iter().map(|&v| f64::from(v)).chain([1.0])).collect();
    let mut direct = Score::zero(D + 1, CLASSES);
    let rows = Labelled { features: &features, labels: &labels, lanes: &[0, 600] };
    let decay = Decay { old: 0.0, new: 1.0 / 600.0 };
    (0..2000).for_each(|_| direct.learn(Path::best(), &rows, decay, 1e-4));
    let optimum = direct.cross_entropy(&direct.of(&features), &labels);
    let mut last = f64::INFINITY;
    for step in 0..1500 {
        let report = learner.step(&ActivationBatch::new(&x, &[0, 600]).with_beside(std::slice::from_ref(&y)));
        assert!(report.aux_loss <= last + 1e-4, "step {step}: {} after {last}", report.aux_loss);
        last = report.aux_loss;
    }
    println!("cross-entropy of three classes {last}, of multinomial regression {optimum}");
    assert!(optimum > 0.3 && optimum < 0.9 && last < optimum + 0.01, "{last}, optimum {optimum}");
}

/// Share of rows whose class has the largest of the exported scores.
fn accuracy(learner: &SupervisedLearner, x: &[f32], labels: &[f32]) -> f64 {
    let dictionary = learner.freeze(&Scales::of(1.0));
    let state = LearnerState::from_bytes(&dictionary.export().unwrap()[1].bytes).unwrap();
    let n = learner.spec.n_latents;
    let weights = state.f32("score.weights", &[CLASSES, n]).unwrap();
    let (bias, centre) = (state.f32("score.bias", &[CLASSES, 1]).unwrap(), state.f32("b_dec", &[D]).unwrap());
    let codes = dictionary.encode(x);
    let made = |row: usize| -> Vec<f32> {
        if learner.spec.form == Form::Filter {
            let x: Vec<f32> = x[row * D..][..D].iter().zip(&centre).map(|(x, c)| x - c).collect();
            return dictionary.atoms().chunks(D).map(|atom| vector::dot(atom, &x)).collect();
        }
        let mut out = vec![0f32; n];
        let (latents, values) = codes.row(row);
        latents.iter().zip(values).for_each(|(&latent, &v)| out[latent as usize] = v);
        out
    };
    let right = |&row: &usize| {
        let made = made(row);
        let score = |class: usize| vector::dot(&weights[class * n..][..n], &made) + bias[class];
        let best = (0..CLASSES).max_by(|&a, &b| score(a).total_cmp(&score(b)));
        best == Some(labels[row] as usize)
    };
    (0..labels.len()).filter(right).count() as f64 / labels.len() as f64
}

#[test]
fn it_tells_classes_better_than_two_stages() {
    let (x, y) = classes(2000, 99);
    let batches: Vec<_> = (0..8).map(|seed| classes(512, seed)).collect();
    for form in ["filter", "feature"] {
        let of = |xi: f64| {
            let table = serde_json::json!({
                "n_latents": 6, "classes": CLASSES, "form": form, "xi": xi, "lambda": 0.05,
            });
            let mut learner = start(&spec(table), &batches[0].0);
            for step in 0..160 {
                let (x, y) = &batches[step % 8];
                learner.step(&ActivationBatch::new(x, &[0, 200, 512]).with_beside(std::slice::from_ref(y)));
            }
            accuracy(&learner, &x, &y)
        };
        let (joint, two_stage) = (of(0.1), of(1e14));
        println!("{form}: accuracy of three classes {joint}, two-stage {two_stage}");
        assert!(joint >= two_stage, "{form}: accuracy {joint}, two-stage {two_stage}");
        if form == "filter" {
            assert!(joint > 0.6, "{form}: accuracy {joint}");
        }
    }
}

#[test]
fn a_multinomial_learner_keeps_every_promise() {
    for form in ["filter", "feature"] {
        let table = serde_json::json!({
            "kind": "supervised", "n_latents": 40, "label": "y", "classes": 4, "covariates": ["p"],
            "lambda": 0.05, "form": form,
        });
        conformance::check(&serde_json::from_value(table).unwrap());
    }
}
