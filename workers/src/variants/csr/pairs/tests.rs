//! Who is paired with whom, the loss against InfoNCE on the pairs alone, and retrieval.

use super::*;
use crate::{
    conformance,
    kernels::vector,
    learner::{ActivationBatch, Scales, Setup},
    planted,
    random::{hash, unit},
    skeleton::{
        golden::{self, Case, F, close},
        subspace::active_subspace,
    },
    threads::Threads,
    variants::{LearnerConfig, LearnerSpec, csr::Csr},
};

fn csr(contrast_coefficient: f64) -> Csr {
    let spec = serde_json::json!({
        "n_latents": F, "k": 2, "contrast_coefficient": contrast_coefficient, "positives": "group",
    });
    serde_json::from_value(spec).unwrap()
}

fn case(groups: [f64; 5]) -> Case<f64> {
    Case { beside: vec![groups.to_vec()], ..Case::default() }
}

#[test]
fn pairs_are_of_one_group_and_no_group_is_twice_in_a_round() {
    let nan = f64::NAN;
    let groups = [3.0, 1.0, 3.0, nan, 1.0, 3.0, 0.0, 3.0, -0.0, nan, 3.0, 5.0];
    let expected = vec![vec![(0, 2), (1, 4), (6, 8)], vec![(5, 7)]];
    assert_eq!(rounds(&groups), expected);
    assert!(rounds(&[nan, 1.0, 2.0]).is_empty());
}

#[test]
fn gradients_equal_central_differences() {
    let (case, mut variant) = (case([4.0, 7.0, 7.0, 4.0, 7.0]), csr(0.7));
    let outcome = case.run(&mut variant);
    assert!(outcome.losses.penalty > 0.05);
    let loss = |case: &Case<f64>| case.run(&mut variant).losses.total;
    golden::central_differences(&case, &outcome.gradients, &[], loss);
}

/// Two pairs are InfoNCE of two rows against two rows; without pairs there is no contrast.
#[test]
fn pairs_are_the_two_views_of_info_nce() {
    let penalty = |groups| case(groups).run(&mut csr(1.0)).losses.penalty;
    let nan = f64::NAN;
    assert_eq!(penalty([1.0, 2.0, nan, 3.0, nan]), 0.0);
    assert_eq!(penalty([1.0, 1.0, nan, 1.0, 1.0]), 0.0, "pairs of one group are no negatives");
    // Rows 0 and 1 ask, rows 0 and 1 again are asked for: as if each row were its own positive.
    let mut twice = case([1.0, 2.0, 1.0, 2.0, nan]);
    twice.x.copy_within(..2 * golden::D, 2 * golden::D);
    let mut own: Csr = csr(1.0);
    own.positives = None;
    let mut alone = case([0.0; 5]);
    alone.x.truncate(2 * golden::D);
    alone.lanes = vec![0, 2];
    close(twice.run(&mut csr(1.0)).losses.penalty, alone.run(&mut own).losses.penalty, 1e-12);
}

#[test]
fn paths_and_lanes_change_no_bit() {
    let single = Case::<f32> { beside: vec![vec![1.0, 2.0, 2.0, 1.0, 1.0]], ..Case::default() };
    golden::paths_and_lanes(&single, &case([1.0, 2.0, 2.0, 1.0, 1.0]), || Box::new(csr(0.7)));
}

#[test]
fn a_learner_with_pairs_keeps_every_promise() {
    let table = serde_json::json!({
        "kind": "csr", "n_latents": 40, "k": 4, "dead_after_tokens": 200, "positives": "group",
    });
    conformance::check(&serde_json::from_value::<LearnerSpec>(table).unwrap());
    let wide = Setup { beside_widths: &[2], ..Setup::plain(&6, 5, 1, &[0.5; 12], Threads::new(1).unwrap()) };
    assert_eq!(csr(0.1).build(&wide).err().map(|e| e.field), Some("positives"));
    assert_eq!(
        Csr { positives: Some(String::new()), ..csr(0.1) }.validate(6).unwrap_err().field,
        "positives"
    );
}

const CLASSES: usize = 60;

/// Rows of a class share three atoms of 128; three more are anybody's.
fn classes(atoms: &[f32], rows: usize, number: u64) -> (Vec<f32>, Vec<f32>) {
    let d = planted::D;
    let recipe = planted::Recipe { active: 3, ..planted::T2 };
    let (mut x, mut labels) = (planted::rows_of(atoms, d, rows, recipe, number), Vec::new());
    for (r, row) in x.chunks_mut(d).enumerate() {
        let class = hash(&[71, number, r as u64]) % CLASSES as u64;
        for i in 0..3 {
            let atom = (hash(&[72, class, i]) % planted::ATOMS as u64) as usize;
            let c = 0.4 + 0.8 * unit(hash(&[73, number, r as u64, i]));
            vector::axpy(c as f32, &atoms[atom * d..][..d], row);
        }
        labels.push(class as f32);
    }
    (x, labels)
}

/// Share of rows whose nearest other row, by the cosine, has the same label.
fn retrieval_at_1(rows: &[Vec<f32>], labels: &[f32]) -> f64 {
    let unit: Vec<Vec<f32>> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            vector::normalize(&mut row);
            row
        })
        .collect();
    let nearest = |at: usize| {
        let others = (0..unit.len()).filter(|&other| other != at);
        others.max_by(|&a, &b| vector::dot(&unit[at], &unit[a]).total_cmp(&vector::dot(&unit[at], &unit[b])))
    };
    let right = |at: &usize| nearest(*at).is_some_and(|other| labels[other] == labels[*at]);
    (0..unit.len()).filter(right).count() as f64 / unit.len() as f64
}

/// Eight latents say more of who belongs together than eight principal directions, and pairs help.
#[test]
fn retrieval_with_eight_latents_beats_eight_principal_directions() {
    let (atoms, d, steps) = (planted::atoms(), planted::D, 600);
    let (sample, _) = classes(&atoms, 1024, 99);
    let (x, labels) = classes(&atoms, 1000, 77);
    let batches: Vec<_> = (0..16).map(|number| classes(&atoms, 1024, number)).collect();
    let of = |fields: serde_json::Value| {
        let mut table = serde_json::json!({
            "n_latents": 256, "k": 8, "dead_after_tokens": 20_000, "schedule": { "lr": 3e-3 },
        });
        table.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let config: Csr = serde_json::from_value(table).unwrap();
        let setup = Setup::plain(&d, steps, 1, &sample, Threads::new(0).unwrap());
        let setup = Setup { beside_widths: if config.positives.is_some() { &[1] } else { &[] }, ..setup };
        let mut learner = config.build(&setup).unwrap();
        for step in 0..steps as usize {
            let (x, groups) = &batches[step % batches.len()];
            let beside = if config.positives.is_some() { std::slice::from_ref(groups) } else { &[] };
            learner.step(&ActivationBatch::new(x, &[0, 1024]).with_beside(beside));
        }
        let codes = learner.freeze(&Scales::of(1.0)).encode(&x);
        let dense = |row: usize| {
            let mut out = vec![0f32; 256];
            let (latents, values) = codes.row(row);
            latents.iter().zip(values).for_each(|(&latent, &v)| out[latent as usize] = v);
            out
        };
        retrieval_at_1(&(0..labels.len()).map(dense).collect::<Vec<_>>(), &labels)
    };
    let plain = of(serde_json::json!({}));
    let paired = of(serde_json::json!({ "positives": "class", "contrast_coefficient": 1.0 }));
    let basis = active_subspace(&sample, d, Some(8));
    let mean: Vec<f32> = (0..d).map(|c| sample.chunks(d).map(|row| row[c]).sum::<f32>() / 1024.0).collect();
    let projected = |row: &[f32]| {
        let off: Vec<f32> = row.iter().zip(&mean).map(|(x, m)| x - m).collect();
        basis.iter().map(|direction| vector::dot(direction, &off)).collect::<Vec<f32>>()
    };
    let pca = retrieval_at_1(&x.chunks(d).map(projected).collect::<Vec<_>>(), &labels);
    println!("retrieval@1 of {CLASSES} classes: CSR {plain}, with pairs {paired}, PCA {pca}");
    assert!(plain > pca + 0.1 && paired > plain, "CSR {plain}, with pairs {paired}, PCA {pca}");
}
