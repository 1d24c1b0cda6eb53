//! The integer of a row, and a planted head that is found by its integers.

use super::*;
use crate::{
    learner::ActivationBatch,
    planted,
    random::{hash, unit},
    skeleton::golden::{Case, F},
    threads::Threads,
    variants::LearnerSpec,
};

/// Heads, and examples of a task.
const HEADS: usize = 12;
const EXAMPLES: usize = 200;
/// The head whose output depends on the label.
const PLANTED: usize = 7;
const D: usize = 16;
const N: usize = 32;

/// Rows of one head, labels alternating: two atoms of its own, chosen by chance, or by label if planted.
fn head(atoms: &[f32], number: usize) -> Vec<f32> {
    let row = |example: usize| {
        let chance = hash(&[21, number as u64, example as u64]) % 2;
        let which = if number == PLANTED { example as u64 % 2 } else { chance };
        let atom = &atoms[(2 * number + which as usize) * D..][..D];
        let size = 0.5 + unit(hash(&[22, number as u64, example as u64])) as f32;
        let noise = |i: usize| 0.02 * planted::normal(&[23, number as u64, example as u64, i as u64]) as f32;
        (0..D).map(|i| size * atom[i] + noise(i)).collect::<Vec<f32>>()
    };
    (0..EXAMPLES).flat_map(row).collect()
}

fn labels() -> Vec<f32> {
    (0..EXAMPLES).map(|example| (example % 2) as f32).collect()
}

fn learned(heads: &[Vec<f32>]) -> Box<dyn Dictionary> {
    let x = heads.concat();
    let spec = serde_json::json!({
        "kind": "discrete", "n_latents": N, "l1_coefficient": 0.1, "schedule": { "lr": 5e-3 },
    });
    let spec: LearnerSpec = serde_json::from_value(spec).unwrap();
    let setup = Setup::plain(&D, 300, 5, &x, Threads::new(1).unwrap());
    let mut learner = spec.build(&setup).unwrap();
    for _ in 0..300 {
        learner.step(&ActivationBatch::new(&x, &[0, HEADS * EXAMPLES]));
    }
    learner.freeze(&Scales::of(1.0))
}

fn score(dictionary: &dyn Dictionary, head: &[f32], labels: &[f32]) -> f64 {
    let mut contrast = Contrast::new(N);
    contrast.add(&dictionary.encode(head), labels);
    contrast.score()
}

#[test]
fn a_planted_head_has_rank_1_and_shuffled_labels_give_chance() {
    let atoms = planted::atoms_of(2 * HEADS, D, 11);
    let heads: Vec<Vec<f32>> = (0..HEADS).map(|number| head(&atoms, number)).collect();
    let dictionary = learned(&heads);
    let scores: Vec<f64> = heads.iter().map(|head| score(&*dictionary, head, &labels())).collect();
    let others = scores.iter().enumerate().filter(|(number, _)| *number != PLANTED);
    let best = others.map(|(_, &score)| score).fold(0.0, f64::max);
    assert!(scores[PLANTED] > 0.9 && best < 0.3, "{scores:?}");
    // The share of the other heads below the planted one is the AUC: 1 with labels, ½ without.
    let below = |shuffle: u64| {
        let shuffled: Vec<f32> = (0..EXAMPLES).map(|e| (hash(&[31, shuffle, e as u64]) % 2) as f32).collect();
        let scores: Vec<f64> = heads.iter().map(|head| score(&*dictionary, head, &shuffled)).collect();
        let lower = scores.iter().filter(|&&score| score < scores[PLANTED]).count();
        lower as f64 / (HEADS - 1) as f64
    };
    let auc = (0..40).map(below).sum::<f64>() / 40.0;
    assert!((auc - 0.5).abs() < 0.15, "AUC {auc} with shuffled labels");
}

#[test]
fn the_score_ignores_names_and_adds_up_over_shards() {
    let codes = |rename: u32| {
        let mut codes = Codes::new(5);
        [0, 1, 1, 2].into_iter().for_each(|l: u32| codes.push_row([((l + rename) % 5, 1.0)]));
        codes.push_row([]);
        codes
    };
    let of = |rename, labels: &[f32]| {
        let mut contrast = Contrast::new(5);
        contrast.add(&codes(rename), labels);
        contrast
    };
    let labels = [0.0, 1.0, 1.0, 0.0, f32::NAN];
    assert_eq!(of(0, &labels).score(), 1.0);
    assert_eq!(of(0, &labels).score(), of(3, &labels).score());
    assert_eq!(of(0, &[1.0, 1.0, 0.0, 1.0, 0.0]).score(), 2.0 / 3.0);
    assert_eq!(of(0, &[1.0; 5]).score(), 0.0);
    let mut twice = of(0, &labels);
    twice.merge(&of(0, &labels));
    assert_eq!(twice.counts[1], [0, 4]);
}

/// The strongest latent of the ReLU codes, alone; rows without a positive one have no integer.
#[test]
fn the_integer_is_the_strongest_latent() {
    let p = crate::skeleton::golden::parameters::<f32>();
    let folded = FrozenParameters {
        d_in: p.d_in,
        pre_bias: true,
        w_enc: p.w_enc.value.clone(),
        b_enc: p.b_enc.value.clone(),
        w_dec: p.w_dec.value.clone(),
        b_dec: p.b_dec.value.clone(),
        threads: Threads::new(1).unwrap(),
        card: None,
    };
    let fields = serde_json::json!({ "n_latents": F, "l1_coefficient": 0.3 });
    let discrete: Discrete = serde_json::from_value(fields).unwrap();
    let x = Case::<f32>::default().x;
    let one = discrete.freeze(&p, folded.clone(), &Scales::of(1.0)).encode(&x);
    let all = relu::freeze(folded).encode(&x);
    for row in 0..all.rows() {
        let (latents, values) = all.row(row);
        let strongest = (0..latents.len()).max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap();
        assert_eq!(one.row(row), (&latents[strongest..][..1], &values[strongest..][..1]));
    }
}

/// It learns as ReLU does.
#[test]
fn it_learns_as_relu() {
    let fields = serde_json::json!({ "n_latents": F, "l1_coefficient": 0.3, "sparsity_warmup_share": 0 });
    let mut discrete: Discrete = serde_json::from_value(fields.clone()).unwrap();
    let mut relu: relu::Relu = serde_json::from_value(fields).unwrap();
    relu.form = relu::Form::First2023;
    assert_eq!(Case::<f64>::default().run(&mut discrete), Case::<f64>::default().run(&mut relu));
}
