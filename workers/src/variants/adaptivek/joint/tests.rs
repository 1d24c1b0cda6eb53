//! The gradient, the phase as a limit, and a probe that has seen few labels when it starts.

use super::*;
use crate::{
    conformance,
    kernels::Path,
    learner::{ActivationBatch, Setup},
    linear::ridge::Ridge,
    random::{hash, unit},
    skeleton::golden::{B, D, close, fill, rows},
    threads::Threads,
    variants::{LearnerConfig, LearnerSpec, adaptivek::AdaptiveK},
};

fn probe() -> Probe {
    Probe { weights: fill(21, D, 2.0), intercept: 4.0, penalty: 0.03 }
}

fn moved() -> Probe {
    Probe { weights: fill(22, D, 2.0), intercept: 3.5, penalty: 0.03 }
}

/// What is minimised.
fn objective(joint: &Joint, probe: &Probe, rows: &Labelled<f64>) -> f64 {
    let known = rows.x.chunks(D).zip(rows.labels).filter(|(_, y)| y.is_finite());
    let squares: Vec<f64> = known.map(|(x, y)| (probe.read(x) - y * rows.unit).powi(2)).collect();
    let off: Vec<f64> = probe.weights.iter().zip(&joint.anchor.weights).map(|(w, a)| w - a).collect();
    squares.iter().sum::<f64>() / squares.len() as f64
        + probe.penalty * vector::dot(&probe.weights, &probe.weights)
        + joint.deviation
            * (vector::dot(&off, &off).sqrt() + (probe.intercept - joint.anchor.intercept).abs())
}

#[test]
fn the_gradient_equals_central_differences() {
    let (x, labels) = (rows::<f64>(), [0.3, f64::NAN, 0.7, 1.0, 0.1]);
    let rows = Labelled { x: &x, labels: &labels, unit: 10.0, lanes: &[0, 2, 2, B] };
    let (joint, at) = (Joint::new(probe(), 0.1, 0.2), moved());
    let gradient = joint.gradient(&at, &rows).unwrap();
    for (i, g) in gradient.iter().enumerate() {
        let by = |delta: f64| {
            let mut probe = at.clone();
            *probe.weights.get_mut(i).unwrap_or(&mut probe.intercept) += delta;
            objective(&joint, &probe, &rows)
        };
        close(*g, (by(1e-6) - by(-1e-6)) / 2e-6, 1e-7);
    }
    assert!(joint.gradient(&at, &Labelled { labels: &[f64::NAN; B], ..rows }).is_none());
}

/// Nothing pulls where ridge regression has found the minimum, on its own sample.
#[test]
fn on_its_sample_the_probe_is_at_rest() {
    let x: Vec<f32> = (0..40 * D).map(|i| unit(hash(&[1, i as u64])) as f32).collect();
    let labels: Vec<f32> = x.chunks(D).map(|row| 3.0 * row[0] - row[2] + 0.1 * row[3] * row[4]).collect();
    let found = Ridge::fit(Path::best(), &x, D, &labels).unwrap();
    let penalty = found.penalty / 40.0;
    let probe = Probe { weights: found.weights, intercept: found.intercept, penalty };
    let joint = Joint::new(probe.clone(), 0.1, 0.2);
    let rows = Labelled { x: &x, labels: &labels, unit: 1.0, lanes: &[0, 40] };
    for g in joint.gradient(&probe, &rows).unwrap() {
        close(g, 0.0, 1e-9);
    }
}

const WIDTH: usize = 16;

/// Rows whose complexity is linear in them, up to noise.
fn labelled(rows: usize, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let x: Vec<f32> = (0..rows * WIDTH).map(|i| (unit(hash(&[9, seed, i as u64])) - 0.5) as f32).collect();
    let label = |(r, row): (usize, &[f32])| {
        let noise = 2.0 * (unit(hash(&[10, seed, r as u64])) - 0.5);
        5.0 + row.iter().zip([3.0, -2.0, 1.0, 0.5]).map(|(x, w)| w * x).sum::<f32>() + noise as f32
    };
    let labels = x.chunks(WIDTH).enumerate().map(label).collect();
    (x, labels)
}

fn spec(joint_share: f64, deviation_weight: f64) -> AdaptiveK {
    let table = serde_json::json!({
        "n_latents": 24, "k_min": 1, "k_max": 8, "joint_share": joint_share, "probe_lr": 0.02,
        "deviation_weight": deviation_weight,
    });
    serde_json::from_value(table).unwrap()
}

/// The probe after 200 steps from 24 labelled rows, and its mean squared error on rows it has not seen.
fn learned(joint_share: f64, deviation_weight: f64) -> (Vec<f64>, f64) {
    let (sample, labels) = labelled(24, 1);
    let beside = [labels];
    let setup = Setup::plain(&WIDTH, 200, 1, &sample, Threads::new(2).unwrap());
    let setup = Setup { beside: &beside, beside_widths: &[1], ..setup };
    let mut learner = spec(joint_share, deviation_weight).build(&setup).unwrap();
    for step in 0..200 {
        let (x, labels) = labelled(256, 100 + step);
        learner.step(&ActivationBatch::new(&x, &[0, 256]).with_beside(&[labels]));
    }
    let state = learner.save();
    let floats = |name, n| state.u64(name, n).unwrap().into_iter().map(f64::from_bits).collect::<Vec<_>>();
    let probe =
        Probe { weights: floats("probe", WIDTH), intercept: floats("probe_bias", 1)[0], penalty: 0.0 };
    let (x, labels) = labelled(2000, 7);
    let errors = x.chunks(WIDTH).zip(&labels).map(|(x, y)| (probe.read(x) - f64::from(*y)).powi(2));
    let error = errors.sum::<f64>() / 2000.0;
    (probe.weights, error)
}

#[test]
fn the_probe_learns_from_the_labels_of_batches() {
    let [fixed, never] = [learned(0.0, 0.2), learned(0.0, 0.0)];
    assert_eq!(fixed, never);
    let (free, held) = (learned(0.5, 0.0), learned(0.5, 50.0));
    let far = |of: &[f64]| of.iter().zip(&fixed.0).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    let moved = [far(&free.0), far(&held.0)];
    println!("probe error: ridge on 24 rows {}, joint {}, held {}; moved {moved:?}", fixed.1, free.1, held.1);
    // The noise alone is 1/3.
    assert!(free.1 < 0.9 * fixed.1 && free.1 < 0.5, "{} and {}", fixed.1, free.1);
    assert!(moved[1] > 0.0 && moved[1] < 0.3 * moved[0], "{moved:?}");
}

#[test]
fn a_joint_learner_keeps_every_promise() {
    let table = serde_json::json!({
        "kind": "adaptivek", "n_latents": 40, "k_min": 2, "k_max": 6, "dead_after_tokens": 200,
        "joint_share": 0.6,
    });
    conformance::check(&serde_json::from_value::<LearnerSpec>(table).unwrap());
    assert_eq!(spec(1.5, 0.0).validate(WIDTH).unwrap_err().field, "joint_share");
    assert_eq!(spec(0.5, -1.0).validate(WIDTH).unwrap_err().field, "deviation_weight");
}
