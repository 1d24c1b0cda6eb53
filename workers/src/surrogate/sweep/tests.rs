//! The sweep against its definition, and what the statistics promise.

use serde_json::Value;

use super::*;
use crate::{
    coders::{AnyCoder, lasso_cd::LassoCd},
    codes::Codes,
    random::{hash, unit},
    surrogate::{
        Decay, Online,
        online::{Settings, decay},
        statistics::Rows,
    },
    toys,
};

const FREE: Constraint = Constraint { positive: false, unit: false };

/// Sparse codes of rows and the rows, all from hashes.
fn rows<R: Real>(n: usize, d: usize, count: usize, seed: u64) -> (Codes, Vec<R>, Vec<R>) {
    let (mut codes, mut values) = (Codes::new(n), Vec::new());
    for r in 0..count as u64 {
        let fires = |j: &u32| hash(&[seed, r, u64::from(*j)]).is_multiple_of(5);
        let pairs: Vec<(u32, f32)> = (0..n as u32)
            .filter(fires)
            .map(|j| (j, unit(hash(&[seed, 9, r, j.into()])) as f32 - 0.4))
            .collect();
        values.extend(pairs.iter().map(|&(_, v)| R::of(v.into())));
        codes.push_row(pairs);
    }
    let x = (0..count * d).map(|i| R::of(unit(hash(&[seed, 8, i as u64])) - 0.5)).collect();
    (codes, values, x)
}

fn statistics<R: Real>(n: usize, d: usize, lanes: &[usize], seed: u64) -> Statistics<R> {
    let (codes, values, x) = rows::<R>(n, d, lanes[lanes.len() - 1], seed);
    let mut s = Statistics::zero(n, d);
    let rows = Rows { codes: &codes, values: &values, x: &x, lanes };
    s.absorb(Path::best(), Decay { old: 1.0, new: 1.0 }, &rows);
    s
}

fn start(n: usize, d: usize) -> Vec<f64> {
    toys::atoms(n, d, 5).into_iter().map(f64::from).collect()
}

/// Atom by atom, as the paper writes it.
fn by_definition(s: &Statistics<f64>, constraint: Constraint, atoms: &mut [f64]) {
    let (n, d) = (s.n_latents(), s.d);
    for j in 0..n {
        let scale = s.a[j * n + j];
        if scale <= UNUSED {
            continue;
        }
        let mut new: Vec<f64> = (0..d)
            .map(|c| {
                let product: f64 = (0..n).map(|i| s.a[j * n + i] * atoms[i * d + c]).sum();
                atoms[j * d + c] + (s.b[j * d + c] - product) / scale
            })
            .map(|v| if constraint.positive { v.max(0.0) } else { v })
            .collect();
        let norm = new.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm > 1.0 || constraint.unit {
            new.iter_mut().for_each(|v| *v /= norm);
        }
        atoms[j * d..][..d].copy_from_slice(&new);
    }
}

#[test]
fn groups_and_panels_equal_atom_by_atom() {
    for (n, d) in [(1, 1), (23, 5), (24, 32), (60, 40), (73, 70)] {
        let s = statistics::<f64>(n, d, &[0, 40, 40, 90], 3);
        for constraint in
            [FREE, Constraint { positive: true, unit: false }, Constraint { positive: false, unit: true }]
        {
            let (mut fast, mut slow) = (start(n, d), start(n, d));
            sweep(Path::best(), &s, constraint, &mut fast);
            by_definition(&s, constraint, &mut slow);
            let worst = fast.iter().zip(&slow).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-10, "{n}×{d} {constraint:?}: {worst}");
        }
    }
}

#[test]
fn every_path_gives_the_same_bits() {
    let s = statistics::<f32>(60, 40, &[0, 90], 4);
    let swept = |path| {
        let mut atoms = toys::atoms(60, 40, 5);
        sweep(path, &s, FREE, &mut atoms);
        atoms
    };
    for path in Path::available() {
        assert_eq!(swept(path), swept(Path::Portable), "{path:?}");
    }
}

#[test]
fn no_sweep_raises_the_surrogate() {
    let s = statistics::<f64>(50, 20, &[0, 200], 6);
    let mut atoms = start(50, 20);
    let mut before = s.objective(&atoms);
    for _ in 0..20 {
        sweep(Path::best(), &s, FREE, &mut atoms);
        let after = s.objective(&atoms);
        assert!(after <= before + 1e-12 * before.abs(), "{before} → {after}");
        before = after;
    }
}

/// Two shards apart and merged are both together, bit for bit: each is a lane of the whole.
#[test]
fn statistics_of_shards_add_up() {
    let (n, d) = (30, 17);
    let (codes, values, x) = rows::<f32>(n, d, 150, 2);
    let absorbed = |from: usize, to: usize, lanes: &[usize]| {
        let mut part = Codes::new(n);
        (from..to)
            .for_each(|r| part.push_row(codes.row(r).0.iter().copied().zip(codes.row(r).1.iter().copied())));
        let span = codes.offsets[from]..codes.offsets[to];
        let mut s = Statistics::zero(n, d);
        let rows = Rows { codes: &part, values: &values[span], x: &x[from * d..to * d], lanes };
        s.absorb(Path::best(), Decay { old: 1.0, new: 1.0 }, &rows);
        s
    };
    let (mut one, two) = (absorbed(0, 70, &[0, 70]), absorbed(70, 150, &[0, 80]));
    one.merge(&two);
    assert_eq!(one, absorbed(0, 150, &[0, 70, 150]));
    let brute: f32 = (0..150)
        .map(|r| {
            let (latents, values) = codes.row(r);
            let value = |l: u32| latents.iter().position(|&x| x == l).map_or(0.0, |at| values[at]);
            value(3) * value(11)
        })
        .sum();
    assert!((one.a[3 * n + 11] - brute).abs() < 1e-5);
}

fn matrix(value: &Value) -> Vec<f64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(|v| v.as_f64().unwrap())
        .collect()
}

/// Two mini-batches of scikit-learn (`tests/fixtures/sklearn/write.py`): statistics and atoms.
#[test]
fn two_steps_equal_scikit_learn() {
    let all: Value =
        serde_json::from_str(include_str!("../../../../tests/fixtures/sklearn/dictionary.json")).unwrap();
    let (learning, d) = (&all["learning"], 8);
    let lambda = learning["alpha"].as_f64().unwrap();
    let mut online = Online::new(matrix(&learning["start"]), d);
    let coder = AnyCoder::Cd(LassoCd { lambda, positive: false, tolerance: 1e-13 });
    let settings = Settings { coder, forgetting: None, constraint: FREE, seed: 0 };
    for step in learning["steps"].as_array().unwrap() {
        let x = matrix(&step["x"]);
        let coded = online.code(Path::best(), &coder, &x);
        online.learn(Path::best(), &settings, &coded, &x, &[0, x.len() / d]);
        // Values of codes in full precision, not as f32.
        for (name, ours) in
            [("a", &online.statistics.a), ("b", &online.statistics.b), ("atoms", &online.atoms)]
        {
            let theirs = matrix(&step[name]);
            let worst = ours.iter().zip(&theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(ours.len() == theirs.len() && worst < 1e-6, "{name} differs by {worst}");
        }
    }
}

#[test]
fn the_schedule_is_that_of_scikit_learn() {
    assert_eq!(decay(None, 0, 10), Decay { old: 1.0 / 11.0, new: 0.1 });
    assert_eq!(decay(None, 3, 10).old, 31.0 / 41.0);
    assert_eq!(decay(None, 9, 10).old, 91.0 / 101.0);
    assert_eq!(decay(Some(0.5), 9, 10).old, 0.5);
}
