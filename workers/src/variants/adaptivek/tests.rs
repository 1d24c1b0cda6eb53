//! TopK as a limit, the rule for k, the probe, and a dictionary of rows of different complexity.

use super::{probe::latents_of, *};
use crate::{
    learner::ActivationBatch,
    planted::{self, ATOMS, ROWS},
    skeleton::golden::{self, Case, D, F},
    threads::Threads,
    variants::topk::TopK,
};

fn adaptive(probe: Probe, l1_weight: f64) -> Adaptive {
    let config = serde_json::json!({ "n_latents": F, "k_min": 1, "k_max": 5, "l1_weight": l1_weight });
    Adaptive { config: serde_json::from_value(config).unwrap(), probe, joint: None }
}

/// 1 + 4·σ(0) = 3.
fn constant() -> Probe {
    Probe { weights: vec![0.0; D], intercept: 5.0, penalty: 0.0 }
}

fn varying() -> Probe {
    Probe { weights: golden::fill(21, D, 6.0), intercept: 4.0, penalty: 0.0 }
}

#[test]
fn a_constant_complexity_is_top_k() {
    let case = Case::<f64>::default();
    let top_k = serde_json::json!({ "n_latents": F, "k": 3 });
    let mut top_k: TopK = serde_json::from_value(top_k).unwrap();
    assert_eq!(case.run(&mut adaptive(constant(), 0.0)), case.run(&mut top_k));
}

#[test]
fn gradients_equal_central_differences() {
    let (case, mut variant) = (Case::<f64>::default(), adaptive(varying(), 0.2));
    let counts = variant.probe.latents(&case.x, (1, 5));
    assert!(counts.iter().max() > counts.iter().min(), "{counts:?}");
    let outcome = case.run(&mut variant);
    assert!(outcome.losses.penalty > 0.0);
    let loss = |case: &Case<f64>| case.run(&mut variant).losses.total;
    golden::central_differences(&case, &outcome.gradients, &[], loss);
}

#[test]
fn paths_and_lanes_change_no_bit() {
    golden::paths_and_lanes(&Case::default(), &Case::default(), || Box::new(adaptive(varying(), 0.0)));
}

#[test]
fn k_grows_with_complexity_and_stays_in_its_range() {
    let of = |s: f64| latents_of(s, 20, 320);
    assert_eq!([of(-1e9), of(5.0), of(1e9), of(f64::NAN)], [20, 170, 320, 20]);
    assert_eq!(of(0.0), 20 + (300.0f64 / (1.0 + 3f64.exp())).round() as usize);
    assert!((-50..150).all(|s| of(f64::from(s) / 10.0) <= of(f64::from(s + 1) / 10.0)));
}

#[test]
fn complexity_is_measured_against_the_most_complex() {
    let x: Vec<f64> = golden::rows();
    let hundred = Probe { weights: golden::fill(21, D, 60.0), intercept: 40.0, penalty: 0.0 };
    assert_eq!(hundred.of_ten(100.0).latents(&x, (1, 50)), varying().latents(&x, (1, 50)));
}

/// Rows of one to eight planted atoms, and how many each has.
fn mixed(atoms: &[f32], number: u64) -> (Vec<f32>, Vec<f32>) {
    let kinds: Vec<Vec<f32>> = (0..4)
        .map(|kind| {
            let recipe = planted::Recipe { active: 1 << kind, ..planted::T2 };
            planted::rows_of(atoms, planted::D, ROWS / 4, recipe, number)
        })
        .collect();
    let (mut x, mut labels) = (Vec::new(), Vec::new());
    for row in 0..ROWS {
        x.extend_from_slice(&kinds[row % 4][row / 4 * planted::D..][..planted::D]);
        labels.push(if row % 3 == 0 { (1 << (row % 4)) as f32 } else { f32::NAN });
    }
    (x, labels)
}

/// A third of the sample is labelled; rows of more atoms get more latents, and the atoms are found.
#[test]
fn complex_rows_get_more_latents() {
    let (atoms, steps) = (planted::atoms(), 2500);
    let config = serde_json::json!({
        "n_latents": ATOMS, "k_min": 1, "k_max": 8, "dead_after_tokens": 20_000, "schedule": { "lr": 2e-3 },
    });
    let config: AdaptiveK = serde_json::from_value(config).unwrap();
    let (sample, labels) = mixed(&atoms, 99);
    let (beside, widths) = ([labels], [1]);
    let mut setup = Setup::plain(&planted::D, steps as u64, 1, &sample, Threads::new(0).unwrap());
    (setup.beside, setup.beside_widths) = (&beside, &widths);
    let mut learner = config.build(&setup).unwrap();
    let batches: Vec<Vec<f32>> = (0..32).map(|number| mixed(&atoms, number).0).collect();
    let last = planted::train(&mut *learner, &batches, steps);
    let dictionary = learner.freeze(&Scales::of(1.0));
    let (mmcs, _) = planted::mmcs(&atoms, dictionary.atoms(), planted::D, false);
    let codes = dictionary.encode(&mixed(&atoms, 77).0);
    let of_kind = |kind: usize| {
        let rows = (kind..ROWS).step_by(4);
        rows.map(|row| codes.row(row).0.len()).sum::<usize>() as f64 * 4.0 / ROWS as f64
    };
    let latents = [0, 1, 2, 3].map(of_kind);
    println!(
        "adaptivek: MMCS {mmcs}, FVU {}, latents of rows {latents:?}",
        last.squared_error / last.scatter
    );
    assert!(mmcs >= 0.95, "MMCS {mmcs}");
    assert!(latents.is_sorted_by(|a, b| a < b), "{latents:?}");
    let report = learner.step(&ActivationBatch::new(&batches[0], &[0, ROWS]));
    assert!(report.nnz > ROWS as u64 && report.nnz < 8 * ROWS as u64);
}

#[test]
fn a_sample_without_labels_is_refused() {
    let config: AdaptiveK =
        serde_json::from_value(serde_json::json!({ "n_latents": 16, "k_min": 1, "k_max": 4 })).unwrap();
    let (sample, beside, widths) = (vec![1.0f32; 12], [vec![f32::NAN; 3]], [1]);
    let mut setup = Setup::plain(&4, 10, 1, &sample, Threads::new(1).unwrap());
    (setup.beside, setup.beside_widths) = (&beside, &widths);
    assert_eq!(config.build(&setup).err().map(|e| e.field), Some("complexity"));
    assert!(AdaptiveK { k_min: 5, ..config.clone() }.validate(4).is_err());
    assert!(AdaptiveK { k_max: 17, ..config }.validate(4).is_err());
}
