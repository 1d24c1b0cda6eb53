//! The laws of merging, and what two halves merged are against one pass over both.

use std::collections::BTreeMap;

use super::*;
use crate::{
    conformance,
    learner::{ActivationBatch, DictLearner, Dictionary, Scales},
    threads::Threads,
    toys,
    variants::{LearnerConfig, LearnerSpec, itda::unit_rows},
};

const D: usize = 32;
const ROWS: usize = 600;
const TAU: f64 = 0.002;

fn data(number: u64) -> Vec<f32> {
    toys::mixed(&toys::atoms(60, D, 1), D, (ROWS, 3), false, 0.005, number)
}

fn spec(tau: f64, merge: &[&str]) -> Itda {
    let merge = merge.iter().map(|&name| name.to_owned()).collect();
    Itda { n_latents: 2048, k: 8, tau, initial: None, merge }
}

fn start(spec: &Itda, files: &BTreeMap<String, Vec<u8>>) -> Box<dyn DictLearner> {
    let sample = data(99);
    spec.build(&Setup { files, ..Setup::plain(&D, 8, 1, &sample, Threads::new(0).unwrap()) }).unwrap()
}

/// A dictionary of some batches.
fn learned(numbers: std::ops::Range<u64>) -> Box<dyn DictLearner> {
    let mut learner = start(&spec(TAU, &[]), &BTreeMap::new());
    for number in numbers {
        learner.step(&ActivationBatch::new(&data(number), &[0, ROWS]));
    }
    learner
}

fn exported(learner: &dyn DictLearner) -> Exported {
    let files = learner.freeze(&Scales::of(2.0)).export().unwrap();
    Exported::read(&files[0].bytes, &files[1].bytes, D).unwrap()
}

/// Files of dictionaries under the names "a", "b", …
fn directories(learners: &[&dyn DictLearner]) -> BTreeMap<String, Vec<u8>> {
    let of = |(name, learner): (&str, &&dyn DictLearner)| {
        let files = learner.freeze(&Scales::of(3.0)).export().unwrap();
        files.into_iter().map(|file| (format!("{name}/{}", file.name), file.bytes)).collect::<Vec<_>>()
    };
    ["a", "b", "c"].into_iter().zip(learners).flat_map(of).collect()
}

fn fvu(dictionary: &dyn Dictionary, x: &[f32]) -> f64 {
    let mut x_hat = vec![0f32; x.len()];
    dictionary.decode(&dictionary.encode(x), &mut x_hat);
    let error: f64 = x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let rows = ROWS as f64;
    let mean = |c: usize| x.chunks(D).map(|row| f64::from(row[c])).sum::<f64>() / rows;
    let means: Vec<f64> = (0..D).map(mean).collect();
    error / x.iter().enumerate().map(|(i, &v)| (f64::from(v) - means[i % D]).powi(2)).sum::<f64>()
}

#[test]
fn the_laws_of_merging() {
    let (a, b) = (learned(0..2), learned(2..4));
    let files = directories(&[&*a, &*b, &*a]);
    let (alone, others) = (exported(&*a), exported(&*b));
    let merge = |tau: f64, names: &[&str]| exported(&*start(&spec(tau, names), &files));
    // One is itself, and so is one with itself.
    assert_eq!(merge(TAU, &["a"]).atoms, alone.atoms);
    assert_eq!(merge(TAU, &["a", "c"]), merge(TAU, &["a"]));
    // The first comes first; the others' atoms in order, each known by run, step and row.
    let both = merge(TAU, &["a", "b"]);
    let (first, rest) = both.atoms.split_at(alone.atoms.len());
    assert_eq!(first, alone.atoms);
    let mut expected = others.atoms.chunks(D).zip(&others.origins);
    for (atom, origin) in rest.chunks(D).zip(&both.origins[alone.origins.len()..]) {
        let (_, from) = expected.find(|(other, _)| *other == atom).unwrap();
        assert_eq!(*origin, (2 << STEP_BITS | from.0, from.1));
    }
    assert!(!rest.is_empty() && rest.len() < others.atoms.len());
    // Nobody is admitted at an infinite tau, everybody who is no atom already at a tau of rounding.
    assert_eq!(merge(f64::INFINITY, &["a", "b"]), merge(TAU, &["a"]));
    let all = merge(1e-10, &["a", "b"]).origins.len();
    let fresh = others.atoms.chunks(D).filter(|b| !alone.atoms.chunks(D).any(|a| a == *b)).count();
    assert!(all <= alone.origins.len() + fresh && all > alone.origins.len() + fresh * 9 / 10, "{all}");
}

/// Two halves merged against one pass over both: sizes and errors of the same kind.
#[test]
fn halves_merged_are_as_good_as_one_pass() {
    let (a, b, whole) = (learned(0..3), learned(3..6), learned(0..6));
    let merged = start(&spec(TAU, &["a", "b"]), &directories(&[&*a, &*b]));
    let x = data(50);
    let of = |learner: &dyn DictLearner| {
        (exported(learner).origins.len(), fvu(&*learner.freeze(&Scales::of(1.0)), &x))
    };
    let [a, b, merged, whole] = [&*a, &*b, &*merged, &*whole].map(of);
    println!("ITDA (atoms, FVU): halves {a:?} {b:?}, merged {merged:?}, one pass {whole:?}");
    assert!(merged.0 >= a.0.max(b.0) && merged.0 < a.0 + b.0, "{merged:?}");
    assert!(merged.1 < a.1.min(b.1) && merged.1 < 1.15 * whole.1, "{merged:?} against {whole:?}");
}

#[test]
fn learning_goes_on_from_what_was_merged() {
    let (a, b) = (learned(0..1), learned(1..2));
    let mut merged = start(&spec(TAU, &["a", "b"]), &directories(&[&*a, &*b]));
    let before = exported(&*merged);
    merged.step(&ActivationBatch::new(&data(7), &[0, ROWS]));
    let after = exported(&*merged);
    assert_eq!(after.atoms[..before.atoms.len()], before.atoms);
    assert!(after.origins.len() > before.origins.len());
    let last = after.origins.last().unwrap();
    assert_eq!(last.0, 1, "a row of this run's first step");
    assert_eq!(unit_rows(&data(7)[last.1 as usize * D..][..D], D), after.atoms[after.atoms.len() - D..]);
}

#[test]
fn a_merged_learner_keeps_every_promise() {
    let table = serde_json::json!({
        "kind": "itda", "n_latents": 40, "k": 3, "tau": 1e-5, "merge": ["base", "base/"],
    });
    conformance::check(&serde_json::from_value::<LearnerSpec>(table).unwrap());
}

#[test]
fn what_is_no_itda_dictionary_is_refused() {
    let sample = data(99);
    let mut files = BTreeMap::from([("a/cfg.json".to_owned(), br#"{"architecture": "topk"}"#.to_vec())]);
    files.insert("a/sae_weights.safetensors".to_owned(), LearnerState::default().to_bytes().unwrap());
    let setup = Setup { files: &files, ..Setup::plain(&D, 8, 1, &sample, Threads::new(1).unwrap()) };
    assert_eq!(spec(TAU, &["a"]).build(&setup).err().map(|e| e.field), Some("merge"));
    assert_eq!(spec(TAU, &["b"]).build(&setup).err().map(|e| e.field), Some("merge"));
    let both = Itda { initial: Some(3), ..spec(TAU, &["a"]) };
    assert_eq!(both.validate(D).unwrap_err().field, "initial");
}
