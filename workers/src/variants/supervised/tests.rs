//! Limits in ξ, blocks that never raise the loss, labels that are not known, the two-stage baseline.

use super::{
    pull::{Pull, aim},
    score::{Labelled, cross_entropy, sigma},
    *,
};
use crate::{
    kernels::vector,
    learner::{ActivationBatch, Scales},
    random::{hash, unit},
    state::LearnerState,
    surrogate::{Decay, Statistics},
    toys,
    variants::LearnerSpec,
};

const D: usize = 16;

fn spec(json: serde_json::Value) -> Supervised {
    let mut spec = serde_json::json!({ "label": "y" });
    spec.as_object_mut().unwrap().extend(json.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn start(spec: &Supervised, x: &[f32]) -> SupervisedLearner {
    SupervisedLearner::new(spec, &Setup::plain(&D, 1, 3, x, Threads::new(2).unwrap()))
}

/// A weak atom that the label goes by, strong ones that reconstruction goes by.
fn planted(rows: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let atoms = toys::atoms(12, D, 1);
    let mut x = toys::mixed(&atoms[..11 * D], D, (rows, 2), false, 0.1, seed);
    let mut labels = Vec::new();
    for (r, row) in x.chunks_mut(D).enumerate() {
        let y = unit(hash(&[11, seed, r as u64])) < 0.4;
        vector::axpy(if y { 0.5 } else { 0.0 }, &atoms[11 * D..], row);
        labels.push(f32::from(u8::from(y)));
    }
    (x, labels)
}

/// Probability that a row with the label scores higher than one without.
fn auc(scores: &[f64], labels: &[f32]) -> f64 {
    let of = |y: f32| scores.iter().zip(labels).filter(move |(_, l)| **l == y).map(|(s, _)| *s);
    let wins: f64 = of(1.0)
        .map(|p| {
            of(0.0)
                .map(|n| {
                    if p > n {
                        1.0
                    } else if p == n {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum::<f64>()
        })
        .sum();
    wins / (of(1.0).count() * of(0.0).count()) as f64
}

/// What is exported as the score, applied to rows without labels.
fn scores(learner: &SupervisedLearner, x: &[f32], scale: f32) -> Vec<f64> {
    let dictionary = learner.freeze(&Scales::of(scale));
    let files = dictionary.export().unwrap();
    let state = LearnerState::from_bytes(&files[1].bytes).unwrap();
    let n = learner.spec.n_latents;
    let (weights, bias) = (state.f32("score.weights", &[n]).unwrap(), state.f32("score.bias", &[1]).unwrap());
    let (centre, codes) = (state.f32("b_dec", &[D]).unwrap(), dictionary.encode(x));
    let of = |(row, x): (usize, &[f32])| {
        let made: f32 = match learner.spec.form {
            Form::Filter => {
                let x: Vec<f32> = x.iter().zip(&centre).map(|(x, c)| x - c).collect();
                let atoms = dictionary.atoms().chunks(D);
                atoms.zip(&weights).map(|(atom, w)| w * vector::dot(atom, &x)).sum()
            }
            Form::Feature => {
                let (latents, values) = codes.row(row);
                latents.iter().zip(values).map(|(&latent, v)| weights[latent as usize] * v).sum()
            }
        };
        f64::from(made + bias[0])
    };
    x.chunks(D).enumerate().map(of).collect()
}

fn trained(spec: &Supervised, steps: u64) -> SupervisedLearner {
    let batches: Vec<_> = (0..8).map(|seed| planted(512, seed)).collect();
    let mut learner = start(spec, &batches[0].0);
    for step in 0..steps {
        let (x, y) = &batches[step as usize % 8];
        let labels = std::slice::from_ref(y);
        let report = learner.step(&ActivationBatch::new(x, &[0, 200, 512]).with_beside(labels));
        assert!(!report.diverged());
    }
    learner
}

/// ξ → ∞: the same atoms as online dictionary learning, bit for bit in the filter form.
#[test]
fn with_all_weight_on_reconstruction_it_is_online_dictionary_learning() {
    let (x, y) = planted(300, 1);
    let plain = super::super::mairal::Mairal {
        n_latents: 20,
        lambda: 0.1,
        coder: Default::default(),
        k: None,
        forgetting: None,
        positive_codes: false,
        positive_atoms: false,
        centre: true,
    };
    for form in ["filter", "feature"] {
        let spec = spec(serde_json::json!({ "n_latents": 20, "form": form, "xi": 1e14 }));
        let mut plain = plain.build(&Setup::plain(&D, 1, 3, &x, Threads::new(2).unwrap())).unwrap();
        let mut learner = start(&spec, &x);
        let mut state = learner.save();
        state.push_f32("atoms", vec![20, D], &plain.save().f32("atoms", &[20, D]).unwrap());
        learner.load(&state).unwrap();
        for step in 0..5 {
            plain.step(&ActivationBatch::new(&x, &[0, 300]));
            learner.step(&ActivationBatch::new(&x, &[0, 300]).with_beside(std::slice::from_ref(&y)));
            let atoms = plain.save().f32("atoms", &[20, D]).unwrap();
            if form == "filter" {
                assert_eq!(learner.online.atoms, atoms, "step {step}");
            }
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-4;
            assert!(learner.online.atoms.iter().zip(&atoms).all(near), "{form} step {step}");
        }
    }
}

/// ξ = 0 with three filters: their score is as good as logistic regression on all of the row.
#[test]
fn without_reconstruction_it_is_logistic_regression() {
    let (x, y) = planted(600, 2);
    let spec = spec(serde_json::json!({ "n_latents": 3, "xi": 0.0, "ridge": 1e-6, "forgetting": 0.0 }));
    let mut learner = start(&spec, &x);
    let labels: Vec<f64> = y.iter().map(|&y| f64::from(y)).collect();
    let features: Vec<f64> =
        x.chunks(D).flat_map(|row| row.iter().map(|&v| f64::from(v)).chain([1.0])).collect();
    let mut direct = Score::zero(D + 1, 2);
    let rows = Labelled { features: &features, labels: &labels, lanes: &[0, 600] };
    let decay = Decay { old: 0.0, new: 1.0 / 600.0 };
    (0..2000).for_each(|_| direct.learn(Path::best(), &rows, decay, 1e-6));
    let optimum = cross_entropy(&direct.of(&features), &labels);
    let mut last = f64::INFINITY;
    for step in 0..1500 {
        let report = learner.step(&ActivationBatch::new(&x, &[0, 600]).with_beside(std::slice::from_ref(&y)));
        assert!(report.aux_loss <= last + 1e-5, "step {step}: {} after {last}", report.aux_loss);
        last = report.aux_loss;
    }
    println!("cross-entropy {last}, of logistic regression {optimum}");
    assert!(last < optimum + 2e-3 && last > optimum - 1e-5, "{last}, optimum {optimum}");
    // The direction of the score is that of logistic regression.
    let weights = &learner.score.weights[..3];
    let atoms = learner.online.atoms.chunks(D).zip(weights);
    let mut found = [0f64; D];
    atoms.for_each(|(a, w)| found.iter_mut().zip(a).for_each(|(f, &a)| *f += w * f64::from(a)));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let direct = &direct.weights[..D];
    let cosine = dot(&found, direct) / (dot(&found, &found) * dot(direct, direct)).sqrt();
    assert!(cosine > 0.98, "cosine {cosine}");
}

/// The quadratic of the labels, and so of a sweep, lies above their loss.
#[test]
fn the_quadratic_of_the_filters_majorises() {
    let (x, y) = planted(200, 3);
    let (weights, n) = (vec![0.7, -1.2, 0.4], 3);
    let at = |seed: u64| toys::atoms(n, D, seed);
    let score = |atoms: &[f32]| -> Vec<f64> {
        let of = |row: &[f32]| {
            let parts = atoms.chunks(D).zip(&weights);
            parts.map(|(a, w)| w * f64::from(vector::dot(a, row))).sum::<f64>()
        };
        x.chunks(D).map(of).collect()
    };
    let labels: Vec<f64> = y.iter().map(|&y| f64::from(y)).collect();
    for trial in 0..40 {
        let (from, to) = (at(trial), at(trial + 100));
        let slopes: Vec<f64> = score(&from).iter().zip(&labels).map(|(&s, y)| sigma(s) - y).collect();
        let pull = Pull::of(&x, &slopes, (D, 1), weights.clone(), 0.25);
        // With no reconstruction, the joined sums are the quadratic and nothing else.
        let joined = pull.joined(&Statistics::zero(n, D), &from, (0.0, 1.0));
        let rise = joined.objective(&to) - joined.objective(&from);
        let truth = cross_entropy(&score(&to), &labels) - cross_entropy(&score(&from), &labels);
        assert!(truth <= rise + 1e-5, "trial {trial}: {truth} above {rise}");
    }
}

/// The label's loss of a score lies below the square that codes of the feature form are drawn by.
#[test]
fn the_aim_majorises() {
    for (s, t, y) in [(0.3, -2.0, 1.0), (3.0, -3.0, 0.0), (-1.0, 4.0, 1.0), (0.0, 0.1, 0.0)] {
        let aimed = |rest: f64| aim(s, sigma(s) - y, rest, 0.25);
        let square = |v: f64| 0.125 * (v - aimed(0.0)).powi(2);
        let rise = square(t) - square(s);
        let truth = cross_entropy(&[t], &[y]) - cross_entropy(&[s], &[y]);
        assert!(truth <= rise + 1e-12, "{s} {t} {y}: {truth} above {rise}");
        assert_eq!(aimed(0.5), aimed(0.0) - 0.5);
    }
}

/// Six atoms have no room for the weak one unless the label asks for it.
#[test]
fn it_predicts_better_than_two_stages() {
    let (x, y) = planted(2000, 99);
    for (form, xi) in [("filter", 0.1), ("feature", 0.1)] {
        let of = |xi: f64| {
            let table = serde_json::json!({ "n_latents": 6, "form": form, "xi": xi, "lambda": 0.05 });
            let learner = trained(&spec(table), 160);
            auc(&scores(&learner, &x, 1.0), &y)
        };
        let (joint, two_stage) = (of(xi), of(1e14));
        println!("{form}: AUC {joint}, two-stage {two_stage}");
        assert!(joint >= two_stage, "{form}: AUC {joint}, two-stage {two_stage}");
        if form == "filter" {
            assert!(joint > 0.8, "{form}: AUC {joint}");
        }
    }
}

/// Rows without a label are as good as absent for the score; without any, nothing supervised happens.
#[test]
fn unknown_labels_are_left_out() {
    let (x, y) = planted(200, 4);
    for form in ["filter", "feature"] {
        let spec = spec(serde_json::json!({ "n_latents": 10, "form": form }));
        let step = |labels: Vec<f32>| {
            let mut learner = start(&spec, &x);
            learner.step(&ActivationBatch::new(&x, &[0, 80, 200]).with_beside(&[labels]));
            learner
        };
        let some: Vec<f32> =
            y.iter().enumerate().map(|(r, &y)| if r % 3 == 0 { f32::NAN } else { y }).collect();
        let other: Vec<f32> = some.iter().map(|y| if y.is_nan() { f32::INFINITY } else { *y }).collect();
        assert_eq!(step(some.clone()).save(), step(other).save());
        assert_ne!(step(some).score, step(y.clone()).score);
        let none = step(vec![f32::NAN; 200]);
        assert!(none.score.weights.iter().all(|&w| w == 0.0));
    }
}

/// A covariate that is the label takes all of the score.
#[test]
fn covariates_take_part() {
    let (x, y) = planted(400, 5);
    let spec = spec(serde_json::json!({ "n_latents": 8, "covariates": ["c"] }));
    let mut learner = start(&spec, &x);
    for _ in 0..30 {
        learner.step(&ActivationBatch::new(&x, &[0, 400]).with_beside(&[y.clone(), y.clone()]));
    }
    let weights = &learner.score.weights;
    assert!(weights[8] > 4.0 * weights[..8].iter().fold(0.0, |m: f64, w| m.max(w.abs())), "{weights:?}");
    assert_eq!(spec.columns().beside.len(), 2);
}

#[test]
fn the_score_is_in_the_units_of_the_data() {
    let (x, _) = planted(200, 6);
    let small: Vec<f32> = x.iter().map(|v| v / 4.0).collect();
    for form in ["filter", "feature"] {
        let learner = trained(&spec(serde_json::json!({ "n_latents": 8, "form": form })), 8);
        let pairs = scores(&learner, &x, 1.0).into_iter().zip(scores(&learner, &small, 4.0));
        pairs.for_each(|(a, b)| assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{form}: {a} is not {b}"));
    }
}

#[test]
fn says_which_field_is_wrong() {
    for (json, field) in [
        (serde_json::json!({ "n_latents": 0 }), "n_latents"),
        (serde_json::json!({ "n_latents": 8, "label": "" }), "label"),
        (serde_json::json!({ "n_latents": 8, "classes": 1 }), "classes"),
        (serde_json::json!({ "n_latents": 8, "covariates": [""] }), "covariates"),
        (serde_json::json!({ "n_latents": 8, "xi": -1.0 }), "xi"),
        (serde_json::json!({ "n_latents": 8, "xi": 0.0, "form": "feature" }), "xi"),
        (serde_json::json!({ "n_latents": 8, "lambda": 0.0 }), "lambda"),
        (serde_json::json!({ "n_latents": 8, "ridge": 0.0 }), "ridge"),
        (serde_json::json!({ "n_latents": 8, "forgetting": 2.0 }), "forgetting"),
    ] {
        assert_eq!(spec(json.clone()).validate(4).unwrap_err().field, field, "{json}");
    }
}

mod multinomial;

/// Seven is no class, and a loss is no truth value: nothing could be learned from them, so nothing is.
#[test]
fn labels_that_nobody_can_learn_from_are_refused() {
    let sample = vec![0.5; 4 * 6];
    let build = |labels: [f32; 4], classes: usize| {
        let spec: LearnerSpec = serde_json::from_value(serde_json::json!({
            "kind": "supervised", "n_latents": 4, "label": "y", "classes": classes
        }))
        .unwrap();
        let beside = [labels.to_vec()];
        let threads = Threads::new(1).unwrap();
        let setup =
            Setup { beside: &beside, beside_widths: &[1], ..Setup::plain(&6, 10, 1, &sample, threads) };
        spec.build(&setup).err().map(|e| e.field)
    };
    assert_eq!(build([7.0, f32::NAN, 7.5, -1.0], 2), Some("label"));
    assert_eq!(build([7.0, f32::NAN, 1.0, 0.0], 2), None);
    assert_eq!(build([3.0, f32::NAN, 7.5, 4.0], 3), Some("label"));
    assert_eq!(build([2.0, f32::NAN, 7.5, 4.0], 3), None);
}
