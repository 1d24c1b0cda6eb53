//! How long a step takes against one of TopK with as many latents and as many pairs a row: a measurement, not
//! a test. Run it alone: `cargo test --release -p atomflow-workers --lib pace -- --ignored --nocapture`.

use std::time::Instant;

use serde_json::{Value, json};

use super::LearnerSpec;
use crate::{
    learner::{ActivationBatch, DictLearner, Scales, Setup},
    planted::normal,
    threads::Threads,
};

const ROWS: usize = 2048;
const K: usize = 32;

/// What is measured: a name, fields beside `n_latents`, and the prefixes as parts of the latents.
fn kinds(n: usize) -> Vec<(String, Value)> {
    let prefixes = |number: usize| -> Vec<usize> { (1..=number).map(|i| n * i / number).collect() };
    let matryoshka = |number: usize| {
        let spec = json!({ "kind": "matryoshka", "n_latents": n, "k": K, "prefixes": prefixes(number) });
        (format!("matryoshka, {number} prefixes"), spec)
    };
    let kron = |m: usize, right: usize| {
        (format!("kron {m}x{right}"), json!({ "kind": "kron", "n_latents": n, "k": K, "m": m, "n": right }))
    };
    vec![
        ("topk".to_owned(), json!({ "kind": "topk", "n_latents": n, "k": K })),
        matryoshka(1),
        matryoshka(5),
        matryoshka(10),
        ("archetypal".to_owned(), json!({ "kind": "archetypal", "n_latents": n, "k": K, "candidates": 256 })),
        kron(2, 4),
        kron(4, 4),
        kron(8, 8),
        ("adaptivek".to_owned(), json!({ "kind": "adaptivek", "n_latents": n, "k_min": K, "k_max": K })),
        (
            "topk, multi".to_owned(),
            json!({ "kind": "topk", "n_latents": n, "k": K, "multi_coefficient": 0.125 }),
        ),
        ("csr".to_owned(), json!({ "kind": "csr", "n_latents": n, "k": K })),
        (
            "csr, not multi".to_owned(),
            json!({ "kind": "csr", "n_latents": n, "k": K, "multi_coefficient": 0.0 }),
        ),
        ("recommender".to_owned(), json!({ "kind": "recommender", "n_latents": n, "k": K })),
    ]
}

/// A learner and the width of its rows: as many vectors in all, whatever number of them a row has.
fn learner(spec: &Value, d: usize, x: &[f32]) -> (Box<dyn DictLearner>, usize) {
    let spec: LearnerSpec = serde_json::from_value(spec.clone()).unwrap();
    let inputs = spec.columns().inputs.len().max(1);
    let (widths, sample) = (vec![d; inputs], &x[..1024 * d]);
    let labels = vec![(0..1024 / inputs).map(|row| (row % 10) as f32).collect()];
    let width = d * inputs;
    let setup = Setup {
        d_in: width,
        beside: &labels[..spec.columns().beside.len()],
        input_widths: &widths,
        scales: Scales { inputs: vec![1.0; inputs], beside: vec![1.0; spec.columns().beside.len()] },
        ..Setup::plain(&d, 1000, 1, sample, Threads::new(0).unwrap())
    };
    (spec.build(&setup).unwrap(), width)
}

#[test]
#[ignore = "a measurement"]
fn steps_against_those_of_top_k() {
    for (d, n) in [(384, 3072), (576, 4608), (768, 12288)] {
        let x: Vec<f32> = (0..ROWS * d).map(|i| normal(&[9, i as u64]) as f32).collect();
        let kinds = kinds(n);
        let mut all: Vec<_> = kinds.iter().map(|(_, spec)| learner(spec, d, &x)).collect();
        let mut best = vec![f64::INFINITY; all.len()];
        for _ in 0..6 {
            for ((learner, width), best) in all.iter_mut().zip(&mut best) {
                let start = Instant::now();
                learner.step(&ActivationBatch::new(&x, &[0, x.len() / *width]));
                *best = best.min(start.elapsed().as_secs_f64());
            }
        }
        println!("d {d}, n {n}, {ROWS} vectors, k {K}");
        for ((name, _), seconds) in kinds.iter().zip(&best) {
            println!("  {name:24} {:8.1} ms  {:.2}", seconds * 1e3, seconds / best[0]);
        }
    }
}
