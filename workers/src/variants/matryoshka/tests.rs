//! Golden numbers, central differences, BatchTopK as a limit, prefixes after training, and absorption.

use super::*;
use crate::{
    learner::ActivationBatch,
    planted::{self, ATOMS},
    skeleton::golden::{self, B, Case, F, Outcome},
    threads::Threads,
};

fn nest(spec: &serde_json::Value) -> Nest {
    Nest::of(&serde_json::from_value(spec.clone()).unwrap(), 3)
}

fn golden_nest(prefixes: &[usize]) -> Nest {
    nest(&serde_json::json!({ "n_latents": F, "k": 3, "prefixes": prefixes }))
}

/// The golden loss is not divided by the variance: scaled back here.
fn unscaled(mut outcome: Outcome) -> Outcome {
    let factor = outcome.losses.scatter / B as f64;
    outcome.losses.total *= factor;
    outcome.gradients.iter_mut().flatten().for_each(|v| *v *= factor);
    outcome
}

#[test]
fn golden_numbers() {
    let outcome = unscaled(Case::<f64>::default().run(&mut golden_nest(&[4, 8, 12])));
    golden::check(
        &outcome,
        6.502_699_541_2,
        &[
            (3.063_823_89, 0.139_241_23),
            (1.773_986_98, 0.721_094_63),
            (3.546_912_97, 0.206_708_54),
            (4.183_450_89, 1.250_023_68),
        ],
    );
}

/// The golden row of BatchTopK, threshold included.
#[test]
fn one_prefix_equals_batch_top_k() {
    let mut variant = golden_nest(&[F]);
    let outcome = unscaled(Case::<f64>::default().run(&mut variant));
    golden::check(
        &outcome,
        8.055_068_946_1,
        &[
            (5.172_622_45, 0.149_292_29),
            (2.873_293_74, 0.773_146_46),
            (5.867_818_31, 0.259_615_35),
            (5.562_723_77, 1.176_984_73),
        ],
    );
    golden::close(f64::from(variant.threshold.unscaled(1.0)), 0.386_688_16, 5e-8);
}

#[test]
fn gradients_equal_central_differences_with_weights_and_drawn_prefixes() {
    let weighted = serde_json::json!({
        "n_latents": F, "k": 3, "prefixes": [2, 7, 12], "weights": [0.5, 2.0, 0.25],
    });
    let drawn = serde_json::json!({ "n_latents": F, "k": 3, "sampled_prefixes": 3 });
    for spec in [weighted, drawn] {
        let (case, mut variant) = (Case::<f64>::default(), nest(&spec));
        let outcome = case.run(&mut variant);
        let loss = |case: &Case<f64>| case.run(&mut variant).losses.total;
        golden::central_differences(&case, &outcome.gradients, &[], loss);
    }
}

#[test]
fn paths_and_lanes_change_no_bit() {
    golden::paths_and_lanes(&Case::default(), &Case::default(), || Box::new(golden_nest(&[4, 8, 12])));
}

#[test]
fn drawn_prefixes_are_a_function_of_the_step_and_short_ones_are_frequent() {
    let variant = nest(&serde_json::json!({ "n_latents": 1024, "k": 4, "sampled_prefixes": 4 }));
    let all: Vec<Vec<usize>> = (1..500).map(|step| variant.ends(step).into_owned()).collect();
    assert_eq!(all[7], variant.ends(8).into_owned());
    assert!(all.iter().all(|ends| ends.len() == 5 && ends.is_sorted() && ends[4] == 1024 && ends[0] > 0));
    // P(length > 4) = (4^−½ − 1024^−½)/(1 − 1024^−½) = 0.484.
    let drawn: Vec<usize> = all.iter().flat_map(|ends| ends[..4].to_vec()).collect();
    let long = drawn.iter().filter(|&&end| end > 4).count() as f64 / drawn.len() as f64;
    assert!((0.44..0.60).contains(&long), "{long}: without repeats a little more than 0.484");
}

#[test]
fn fields_are_checked() {
    let broken = [
        serde_json::json!({ "n_latents": 8, "k": 2, "prefixes": [4, 4, 8] }),
        serde_json::json!({ "n_latents": 8, "k": 2, "prefixes": [4] }),
        serde_json::json!({ "n_latents": 8, "k": 2, "weights": [1.0] }),
        serde_json::json!({ "n_latents": 8, "k": 2, "sampled_prefixes": 8 }),
        serde_json::json!({ "n_latents": 8, "k": 9 }),
    ];
    for spec in broken {
        assert!(nest(&spec).config.validate(4).is_err(), "{spec}");
    }
    assert_eq!(nest(&serde_json::json!({ "n_latents": 8, "k": 2 })).config.fixed().as_ref(), [1, 2, 4, 8]);
}

fn trained(spec: &serde_json::Value, d: usize, batches: &[Vec<f32>], steps: usize) -> Box<dyn Dictionary> {
    let config: Matryoshka = serde_json::from_value(spec.clone()).unwrap();
    let setup = Setup::plain(&d, steps as u64, 1, &batches[0], Threads::new(0).unwrap());
    let mut learner = config.build(&setup).unwrap();
    planted::train(&mut *learner, batches, steps);
    learner.freeze(&Scales::of(1.0))
}

/// Error over scatter with the latents below `end` alone.
fn fvu(dictionary: &dyn Dictionary, x: &[f32], end: usize) -> f64 {
    let (codes, d) = (dictionary.encode(x), dictionary.d_in());
    let mut kept = crate::codes::Codes::new(codes.n_latents);
    for row in 0..codes.rows() {
        let (latents, values) = codes.row(row);
        let pairs = latents.iter().copied().zip(values.iter().copied());
        kept.push_row(pairs.filter(|&(latent, _)| (latent as usize) < end));
    }
    let mut x_hat = vec![0.0; x.len()];
    dictionary.decode(&kept, &mut x_hat);
    let missed: f64 = x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    missed / crate::learner::BatchFacts::of(x, d, &[0, x.len() / d], &Threads::new(1).unwrap()).scatter
}

/// The error never grows with the prefix, the dictionary is found, and a row alone has k pairs like a batch.
#[test]
fn longer_prefixes_reconstruct_better_and_the_dictionary_is_recovered() {
    let (atoms, steps) = (planted::atoms(), 3000);
    let spec = serde_json::json!({
        "n_latents": ATOMS, "k": 4, "dead_after_tokens": 20_000, "schedule": { "lr": 2e-3 },
    });
    let dictionary = trained(&spec, planted::D, &planted::batches(&atoms), steps);
    let held_out = planted::batch(&atoms, 777);
    let of_prefix = [8, 16, 32, 64, 128].map(|end| fvu(&*dictionary, &held_out, end));
    assert!(of_prefix.is_sorted_by(|a, b| a >= b), "{of_prefix:?}");
    let (mmcs, _) = planted::mmcs(&atoms, dictionary.atoms(), planted::D, false);
    let l0 = dictionary.encode(&held_out).nnz() as f64 / planted::ROWS as f64;
    println!("matryoshka: MMCS {mmcs}, FVU of prefixes {of_prefix:?}, L0 {l0}");
    assert!(mmcs >= 0.95, "MMCS {mmcs}");
    assert!((l0 / 4.0 - 1.0).abs() < 0.05, "L0 {l0} of rows alone");
}

/// Parents and children of the toy of absorption.
const PARENTS: usize = 4;
const CHILDREN: usize = 4;
const TOY_D: usize = 32;

/// Rows of parents, each there with probability 1/4, and then four times in five with one child.
fn family(atoms: &[f32], number: u64) -> (Vec<f32>, Vec<[bool; 2]>) {
    let draw = |words: &[u64]| unit(hash(&[&[11, number], words].concat()));
    let (mut x, mut has) = (vec![0f32; 1024 * TOY_D], Vec::new());
    for (r, row) in x.chunks_mut(TOY_D).enumerate() {
        for parent in 0..PARENTS {
            let (r, p) = (r as u64, parent as u64);
            let here = draw(&[r, p, 0]) < 0.25;
            let child = (draw(&[r, p, 1]) * 5.0) as usize;
            has.push([here, here && child < CHILDREN]);
            if here {
                let size = (0.8 + 0.4 * draw(&[r, p, 2])) as f32;
                crate::kernels::vector::axpy(size, &atoms[parent * TOY_D..][..TOY_D], row);
                if child < CHILDREN {
                    let atom = &atoms[(PARENTS + parent * CHILDREN + child) * TOY_D..][..TOY_D];
                    crate::kernels::vector::axpy(size, atom, row);
                }
            }
        }
    }
    (x, has)
}

/// (recall of the parent's latent where a child is there, mean cosine of the children's latents with the
/// parent beyond that of the planted ones).
fn absorption(dictionary: &dyn Dictionary, atoms: &[f32]) -> (f64, f64) {
    let cosine = |a: &[f32], b: &[f32]| f64::from(crate::kernels::vector::dot(a, b));
    let learned: Vec<&[f32]> = dictionary.atoms().chunks(TOY_D).collect();
    let of = |atom: usize| &atoms[atom * TOY_D..][..TOY_D];
    let nearest = |atom: usize| {
        let best =
            |a: &usize, b: &usize| cosine(learned[*a], of(atom)).total_cmp(&cosine(learned[*b], of(atom)));
        (0..learned.len()).max_by(best).unwrap()
    };
    let (x, has) = family(atoms, 500);
    let codes = dictionary.encode(&x);
    let (mut there, mut found, mut leaked) = (0.0, 0.0, 0.0);
    for parent in 0..PARENTS {
        let latent = nearest(parent) as u32;
        for row in (0..codes.rows()).filter(|row| has[row * PARENTS + parent][1]) {
            there += 1.0;
            found += f64::from(codes.row(row).0.contains(&latent));
        }
        for child in 0..CHILDREN {
            let child = PARENTS + parent * CHILDREN + child;
            leaked += cosine(learned[nearest(child)], of(parent)) - cosine(of(child), of(parent));
        }
    }
    (found / there, leaked / (PARENTS * CHILDREN) as f64)
}

/// The claim of the paper in a toy: BatchTopK lets a child's latent carry its parent, whose own latent is
/// then silent; nested dictionaries do so less.
#[test]
fn nested_dictionaries_absorb_less() {
    let n = PARENTS * (1 + CHILDREN);
    let atoms = planted::atoms_of(n, TOY_D, 21);
    let batches: Vec<Vec<f32>> = (0..32).map(|number| family(&atoms, number).0).collect();
    let of = |prefixes: &[usize]| {
        let spec = serde_json::json!({
            "n_latents": n, "k": 2, "prefixes": prefixes, "dead_after_tokens": 20_000, "schedule": { "lr": 2e-3 },
        });
        absorption(&*trained(&spec, TOY_D, &batches, 3000), &atoms)
    };
    let (flat, nested) = (of(&[n]), of(&[PARENTS, n]));
    println!("absorption, (recall, leak): BatchTopK {flat:?}, Matryoshka {nested:?}");
    assert!(nested.0 > flat.0, "recall of parents: {nested:?} against {flat:?}");
    assert!(nested.1 < flat.1, "leak into children: {nested:?} against {flat:?}");
}

/// A batch that arrives alone trains like one among others; the empty batch leaves the threshold alone.
#[test]
fn the_threshold_is_saved() {
    let (atoms, spec) = (planted::atoms(), serde_json::json!({ "n_latents": ATOMS, "k": 4 }));
    let config: Matryoshka = serde_json::from_value(spec).unwrap();
    let x = planted::batch(&atoms, 1);
    let setup = Setup::plain(&planted::D, 10, 1, &x, Threads::new(0).unwrap());
    let mut learner = config.build(&setup).unwrap();
    learner.step(&ActivationBatch::new(&x, &[0, planted::ROWS]));
    let bits = learner.save().u64("threshold", 2).unwrap();
    assert!(f64::from_bits(bits[0]) > 0.0);
}
