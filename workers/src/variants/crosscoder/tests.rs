//! Central differences, one column is BatchTopK, and where planted atoms live.

use super::*;
use crate::{
    planted,
    skeleton::golden::{self, Case, D, F},
    threads::Threads,
};

fn learner(widths: &[usize]) -> Learner {
    Learner { k: 3, widths: widths.to_vec(), threshold: Threshold::default() }
}

#[test]
fn gradients_equal_central_differences() {
    for widths in [&[D][..], &[2, 4], &[2, 2, 2]] {
        let case = Case::<f64>::default();
        let outcome = case.run(&mut learner(widths));
        let loss = |c: &Case<f64>| c.run(&mut learner(widths)).losses.total;
        golden::central_differences(&case, &outcome.gradients, &[], loss);
        golden::paths_and_lanes(&Case::default(), &case, || Box::new(learner(widths)));
    }
}

#[test]
fn one_column_is_batch_top_k() {
    let case = Case::<f64>::default();
    let outcome = case.run(&mut learner(&[D]));
    // The golden number of BatchTopK, which is not divided by the variance.
    let loss = outcome.losses.total * outcome.losses.scatter / golden::B as f64;
    golden::close(loss, 8.055_068_946_1, 1e-10);
    assert_eq!(outcome.nnz, 3 * golden::B);
    assert_eq!(F, outcome.gradients[1].len());
}

/// Half of the atoms live in both columns, a quarter in each alone.
#[test]
fn relative_norms_say_where_a_planted_atom_lives() {
    const N: usize = 48;
    let half = planted::D / 2;
    let mut atoms = planted::atoms_of(N, planted::D, 1);
    for (i, atom) in atoms.chunks_mut(planted::D).enumerate() {
        match i % 4 {
            0 => atom[..half].fill(0.0),
            1 => atom[half..].fill(0.0),
            _ => (),
        }
        vector::normalize(atom);
    }
    let rows = |number| planted::rows_of(&atoms, planted::D, planted::ROWS, planted::T2, number);
    let batches: Vec<Vec<f32>> = (0..24).map(rows).collect();
    let spec = serde_json::json!({
        "n_latents": N, "k": 4, "inputs": ["a", "b"], "dead_after_tokens": 20_000, "schedule": { "lr": 2e-3 },
    });
    let spec: Crosscoder = serde_json::from_value(spec).unwrap();
    let plain = Setup::plain(&planted::D, 2000, 1, &batches[0], Threads::new(0).unwrap());
    let scales = Scales { inputs: vec![1.0, 1.0], beside: Vec::new() };
    let mut learner =
        spec.build(&Setup { input_widths: &[half, half], scales: scales.clone(), ..plain }).unwrap();
    planted::train(&mut *learner, &batches, 2000);
    let dictionary = learner.freeze(&scales);
    let (mmcs, _) = planted::mmcs(&atoms, dictionary.atoms(), planted::D, false);
    assert!(mmcs > 0.9, "MMCS {mmcs}");
    let mut relative_norms = [Vec::new(), Vec::new(), Vec::new()];
    for (i, atom) in atoms.chunks(planted::D).enumerate() {
        let cosine = |learned: &&[f32]| vector::dot(atom, learned);
        let best = dictionary.atoms().chunks(planted::D).max_by(|a, b| cosine(a).total_cmp(&cosine(b)));
        let norm = |part: &[f32]| vector::dot(part, part).sqrt();
        let (a, b) = best.map(|best| (norm(&best[..half]), norm(&best[half..]))).unwrap();
        let relative = b / (a + b);
        relative_norms[(i % 4).min(2)].push(relative);
    }
    let share = |at: usize, right: &dyn Fn(f32) -> bool| {
        let all = &relative_norms[at];
        all.iter().filter(|&&relative| right(relative)).count() as f32 / all.len() as f32
    };
    let shares = [share(0, &|r| r > 0.8), share(1, &|r| r < 0.2), share(2, &|r| (0.2..0.8).contains(&r))];
    println!("atoms where they were planted: {shares:?}; relative norms {relative_norms:?}");
    assert!(shares.iter().all(|&share| share >= 0.8), "{shares:?} {relative_norms:?}");
}
