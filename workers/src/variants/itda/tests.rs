//! ITDA: how the dictionary grows, what it keeps, where atoms come from.

use super::*;
use crate::{
    learner::{ActivationBatch, Scales, StepReport},
    toys,
};

const D: usize = 32;
const ROWS: usize = 1000;

fn data(step: u64) -> Vec<f32> {
    toys::mixed(&toys::atoms(60, D, 1), D, (ROWS, 3), false, 0.005, step)
}

fn learned(tau: f64, steps: u64) -> (Box<dyn DictLearner>, StepReport) {
    let spec = Itda { n_latents: 4096, k: 8, tau, initial: None, merge: Vec::new() };
    let sample = data(99);
    let mut learner = spec.build(&Setup::plain(&D, 8, 1, &sample, Threads::new(0).unwrap())).unwrap();
    let mut report = StepReport::default();
    for step in 0..steps {
        report = learner.step(&ActivationBatch::new(&data(step % 4), &[0, ROWS]));
    }
    (learner, report)
}

fn used(learner: &dyn DictLearner) -> u64 {
    learner.save().u64("used", 1).unwrap()[0]
}

#[test]
fn the_dictionary_shrinks_and_the_error_grows_with_tau() {
    let of = |tau: f64| {
        let (learner, report) = learned(tau, 4);
        (used(&*learner), report.squared_error / report.scatter)
    };
    let [fine, middle, coarse] = [0.0005, 0.002, 0.008].map(of);
    println!("ITDA at tau .0005, .002, .008: (atoms, FVU) {fine:?} {middle:?} {coarse:?}");
    assert!(fine.0 > middle.0 && middle.0 > coarse.0, "{fine:?} {middle:?} {coarse:?}");
    assert!(fine.1 < middle.1 && middle.1 < coarse.1, "{fine:?} {middle:?} {coarse:?}");
}

#[test]
fn an_infinite_tau_admits_nobody() {
    let (learner, _) = learned(f64::INFINITY, 4);
    assert_eq!(used(&*learner), D as u64);
}

/// Pursuit is greedy, so a row that was fine may get worse when atoms are added: a second pass adds few
/// atoms (9 % here), not none. What is an atom itself never is admitted again.
#[test]
fn a_second_pass_adds_few() {
    let (first, second) = (used(&*learned(0.002, 4).0), used(&*learned(0.002, 8).0));
    println!("ITDA: {first} atoms after one pass, {second} after two");
    assert!(second - first <= first / 8, "{first} then {second}");
    // A batch twice: what was admitted from it is reconstructed by itself.
    let batch = data(0);
    let admitted = |learner: &dyn DictLearner| learner.save().u64("provenance", 2 * 4096).unwrap();
    let (mut learner, _) = learned(0.002, 1);
    let before = admitted(&*learner);
    learner.step(&ActivationBatch::new(&batch, &[0, ROWS]));
    let after = admitted(&*learner);
    let rows = |words: &[u64], step: u64| {
        let of = words.as_chunks::<2>().0.iter().filter(|w| w[0] == step).map(|w| w[1]);
        of.collect::<BTreeSet<u64>>()
    };
    assert!(rows(&after, 2).is_disjoint(&rows(&before, 1)), "a row was admitted twice");
}

#[test]
fn atoms_reconstruct_themselves_and_know_where_they_come_from() {
    let (learner, _) = learned(0.002, 2);
    let state = learner.save();
    let words = state.u64("provenance", 2 * 4096).unwrap();
    let atoms = learner.freeze(&Scales::of(2.0)).atoms().to_vec();
    for (atom, origin) in atoms.chunks(D).zip(words.as_chunks::<2>().0).take(used(&*learner) as usize) {
        let batch = if origin[0] == 0 { data(99) } else { data(origin[0] - 1) };
        let row = unit_rows(&batch[origin[1] as usize * D..][..D], D);
        assert_eq!(row, atom);
    }
    let dictionary = learner.freeze(&Scales::of(2.0));
    let mut x_hat = vec![0f32; used(&*learner) as usize * D];
    let own = &atoms[..x_hat.len()];
    dictionary.decode(&dictionary.encode(own), &mut x_hat);
    assert!(own.iter().zip(&x_hat).all(|(a, b)| (a - b).abs() < 1e-3), "an atom misses itself");
    assert_eq!(jaccard(&words, &words), 1.0);
    let (other, _) = learned(0.008, 2);
    let others = other.save().u64("provenance", 2 * 4096).unwrap();
    assert!((0.0..1.0).contains(&jaccard(&words, &others)));
    assert_eq!(jaccard(&words, &[]), 0.0);
}

/// Copies inside one batch become one atom.
#[test]
fn copies_within_a_batch_are_admitted_once() {
    let sample = data(99);
    let spec = Itda { n_latents: 64, k: 4, tau: 1e-6, initial: Some(1), merge: Vec::new() };
    let mut learner = spec.build(&Setup::plain(&D, 1, 1, &sample, Threads::new(1).unwrap())).unwrap();
    let row = &data(5)[..D];
    let copies: Vec<f32> = (0..6).flat_map(|i| row.iter().map(move |v| v * (1.0 + i as f32))).collect();
    learner.step(&ActivationBatch::new(&copies, &[0, 6]));
    assert_eq!(used(&*learner), 2);
}
