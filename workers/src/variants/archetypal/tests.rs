//! Golden numbers, the hull, freedom as a limit, and agreement between seeds.

use super::*;
use crate::{
    planted::{self, ATOMS, normal},
    skeleton::golden::{self, B, Case, D, F, close, norm},
    threads::Threads,
    variants::topk::TopK,
};

/// Four candidates, all in the support of every atom.
fn golden_hull() -> (Hull<f64>, Vec<f64>, Vec<f64>) {
    let hull = Hull {
        candidates: golden::fill(10, 4 * D, 1.0),
        d: D,
        support: (0..F).flat_map(|_| 0..4).collect(),
        width: 4,
    };
    let mut weights: Vec<f64> = golden::fill(11, F * 4, 1.0);
    for row in weights.chunks_mut(4) {
        row.iter_mut().for_each(|w| *w = f64::midpoint(1.0, *w));
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|w| *w /= sum);
    }
    (hull, weights, golden::fill(12, F * D, 0.05))
}

#[test]
fn golden_numbers() {
    let (hull, weights, relaxation) = golden_hull();
    let (mut case, scale) = (Case::<f64>::default(), 0.2f64.exp());
    for atom in 0..F {
        let (w, l) = (&weights[atom * 4..][..4], &relaxation[atom * D..][..D]);
        hull.compose(atom, w, l, scale, &mut case.parameters.w_dec.value[atom * D..][..D]);
    }
    let config = serde_json::json!({ "n_latents": F, "k": 3 });
    let outcome = case.run(&mut Mixer::of(&serde_json::from_value(config).unwrap()));
    let factor = outcome.losses.scatter / B as f64;
    close(outcome.losses.total * factor, 5.944_189_563_8, 1e-10);
    let g: Vec<f64> = outcome.gradients[2].iter().map(|v| v * factor).collect();
    let (mut to_weights, mut to_rows) = (vec![0.0; F * 4], vec![0.0; F * D]);
    for (atom, g) in g.chunks(D).enumerate() {
        let (w, l) = (&mut to_weights[atom * 4..][..4], &mut to_rows[atom * D..][..D]);
        hull.pull_back(atom, g, scale, w, l);
    }
    let along: f64 = g.iter().zip(&case.parameters.w_dec.value).map(|(g, d)| g * d).sum();
    close(along, 7.739_349_36, 5e-9);
    let table = [
        (&outcome.gradients[0], factor, 6.395_312_80, 0.110_514_77),
        (&outcome.gradients[1], factor, 3.546_084_88, 0.572_327_67),
        (&outcome.gradients[3], factor, 4.797_248_55, 0.437_457_78),
        (&to_weights, 1.0, 8.662_446_31, 1.117_081_63),
        (&to_rows, 1.0, 6.001_636_61, -0.216_152_37),
    ];
    for (gradient, factor, frobenius, first) in table {
        close(norm(gradient) * factor, frobenius, 5e-9);
        close(gradient[0] * factor, first, 5e-9);
    }
}

#[test]
fn paths_and_lanes_change_no_bit() {
    let config = serde_json::json!({ "n_latents": F, "k": 3 });
    let config: Archetypal = serde_json::from_value(config).unwrap();
    golden::paths_and_lanes(&Case::default(), &Case::default(), || Box::new(Mixer::of(&config)));
}

#[test]
fn weights_come_back_to_the_simplex() {
    let mut weights = [0.5, -0.1, 1.5];
    to_simplex(&mut weights);
    assert_eq!(weights, [0.25, 0.0, 0.75]);
    let mut none = [-0.5, -0.1, -0.2];
    to_simplex(&mut none);
    assert_eq!(none, [0.0, 1.0, 0.0]);
    let mut row = [3.0, 4.0];
    clip(&mut row, 2.5);
    assert_eq!(row, [1.5, 2.0]);
}

/// The vertex that the gradient asks for takes the place of one that weighs nothing, and of no other.
#[test]
fn the_support_follows_the_gradient() {
    let candidates: Vec<f32> = (0..40 * 3).map(|i| normal(&[6, i as u64]) as f32).collect();
    let mut hull = Hull::new(candidates.clone(), 3, 1, 5);
    let wanted = (0..40).find(|c| !hull.support.contains(c)).unwrap();
    let towards: Vec<f32> = candidates[wanted as usize * 3..][..3].iter().map(|v| -v * 100.0).collect();
    let best = |g: &[f32]| {
        let dot = |c: usize| -vector::dot(g, &candidates[c * 3..][..3]);
        (0..40).max_by(|&a, &b| dot(a).total_cmp(&dot(b))).unwrap() as u32
    };
    let mut weights = vec![0.0625; 16];
    assert!(hull.look_around(Path::best(), &towards, &weights).is_empty(), "no place is free");
    weights[3] = 0.0;
    let expected = best(&towards);
    let there = hull.support.contains(&expected);
    let places = hull.look_around(Path::best(), &towards, &weights);
    assert_eq!(places, if there { vec![] } else { vec![3] });
    assert!(hull.support.contains(&expected));
}

fn learn(spec: &serde_json::Value, d: usize, batches: &[Vec<f32>], seed: u64) -> (Vec<f32>, f64) {
    let sample = batches[0..4].concat();
    let setup = Setup::plain(&d, 1500, seed, &sample, Threads::new(0).unwrap());
    let mut learner = match spec.get("delta") {
        Some(_) => serde_json::from_value::<Archetypal>(spec.clone()).unwrap().build(&setup),
        None => serde_json::from_value::<TopK>(spec.clone()).unwrap().build(&setup),
    }
    .unwrap();
    let mut order = batches.to_vec();
    order.rotate_left(5 * seed as usize % batches.len());
    let last = planted::train(&mut *learner, &order, 1500);
    (learner.freeze(&Scales::of(1.0)).atoms().to_vec(), last.squared_error / last.scatter)
}

/// Λ as long as it likes: the dictionary is free, and the planted one is found.
#[test]
fn a_huge_delta_leaves_atoms_free() {
    let atoms = planted::atoms();
    let spec = serde_json::json!({
        "n_latents": ATOMS, "k": 4, "delta": 1e6, "dead_after_tokens": 20_000, "schedule": { "lr": 4e-3 },
    });
    let (learned, fvu) = learn(&spec, planted::D, &planted::batches(&atoms), 1);
    let (mmcs, _) = planted::mmcs(&atoms, &learned, planted::D, false);
    println!("archetypal, delta 1e6: MMCS {mmcs}, FVU {fvu}");
    assert!(mmcs >= 0.95, "MMCS {mmcs}, FVU {fvu}");
}

/// No direction in which an atom of A-SAE reaches further than all candidates.
#[test]
fn without_delta_atoms_lie_in_the_hull() {
    let batches = [planted::batch(&planted::atoms(), 1)];
    let config = serde_json::json!({ "n_latents": 96, "k": 4, "delta": 0.0, "candidates": 64, "schedule": { "lr": 4e-3 } });
    let config: Archetypal = serde_json::from_value(config).unwrap();
    let setup = Setup::plain(&planted::D, 100, 1, &batches[0], Threads::new(0).unwrap());
    let mut learner = config.build(&setup).unwrap();
    planted::train(&mut *learner, &batches, 100);
    let state = learner.save();
    let candidates = state.f32("candidates", &[64, planted::D]).unwrap();
    let scale = state.f32("log_scale", &[1]).unwrap()[0].exp();
    let weights = state.f32("weights", &[96, 16]).unwrap();
    let moved = weights.chunks(16).filter(|row| row.iter().filter(|&&w| w > 0.01).count() > 2).count();
    assert!(moved > 48, "{moved} atoms mix more than two candidates");
    for trial in 0..50 {
        let a: Vec<f32> = (0..planted::D).map(|i| normal(&[5, trial, i as u64]) as f32).collect();
        let reach = |rows: &[f32]| {
            rows.chunks(planted::D).map(|row| vector::dot(&a, row)).fold(f32::NEG_INFINITY, f32::max)
        };
        assert!(reach(learner.freeze(&Scales::of(1.0)).atoms()) / scale <= reach(&candidates) + 1e-4);
    }
}

/// Mean cosine of pairs, each atom in one pair at most, the best pairs first.
fn agreement(a: &[f32], b: &[f32], d: usize) -> f64 {
    let unit = |rows: &[f32]| {
        let mut rows = rows.to_vec();
        rows.chunks_mut(d).for_each(vector::normalize);
        rows
    };
    let (a, b) = (unit(a), unit(b));
    let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
    for (i, x) in a.chunks(d).enumerate() {
        pairs.extend(b.chunks(d).enumerate().map(|(j, y)| (vector::dot(x, y), i, j)));
    }
    pairs.sort_by(|x, y| y.0.total_cmp(&x.0));
    let n = a.len() / d;
    let (mut left, mut right, mut sum) = (vec![false; n], vec![false; n], 0.0);
    for (cosine, i, j) in pairs {
        if !left[i] && !right[j] {
            (left[i], right[j]) = (true, true);
            sum += f64::from(cosine);
        }
    }
    sum / n as f64
}

/// Fewer latents than planted atoms, so that which ones are learned is a matter of the seed. Seeds change the
/// order of the batches and what is drawn; the sample, and with it the candidates, is the same.
#[test]
fn seeds_agree_more_than_those_of_top_k() {
    let (d, n) = (32, 48);
    let atoms = planted::atoms_of(96, d, 3);
    let recipe = planted::Recipe { active: 3, signed: false, noise: 0.05 };
    let batches: Vec<Vec<f32>> = (0..24).map(|b| planted::rows_of(&atoms, d, 1024, recipe, b)).collect();
    let of = |delta: Option<f64>| {
        let mut spec = serde_json::json!({ "n_latents": n, "k": 3, "dead_after_tokens": 20_000, "schedule": { "lr": 4e-3 } });
        if let Some(delta) = delta {
            spec["delta"] = delta.into();
            spec["candidates"] = 96.into();
        }
        let runs: Vec<(Vec<f32>, f64)> = (1..=3).map(|seed| learn(&spec, d, &batches, seed)).collect();
        let pair = |i: usize, j: usize| agreement(&runs[i].0, &runs[j].0, d);
        let fvu = runs.iter().map(|run| run.1).sum::<f64>() / 3.0;
        ((pair(0, 1) + pair(0, 2) + pair(1, 2)) / 3.0, fvu)
    };
    let (free, close, hull) = (of(None), of(Some(0.1)), of(Some(0.0)));
    println!("agreement of seeds, FVU: TopK {free:?}, RA-SAE 0.1 {close:?}, A-SAE {hull:?}");
    assert!(close.0 > free.0, "{close:?} against {free:?}");
}
