//! Semi-NMF: fit, sparsity, levels.

use super::{level::keep_largest, *};
use crate::{
    linear::{multiplicative::Features, solve::ridge_solve},
    toys::normal,
};

/// methods.md §3.3: on data of rank 8 the fit goes towards exact, monotonically. The features need
/// not be the planted ones: semi-NMF is not identifiable.
#[test]
fn alternating_updates_fit_data_of_low_rank() {
    let (rows, d, n) = (200, 30, 8);
    let draw = |seed: u64, len: usize| (0..len).map(|i| normal(&[seed, i as u64])).collect::<Vec<f64>>();
    let planted: Vec<f64> = draw(1, rows * n).iter().map(|v| v.abs()).collect();
    let x = product::product(Path::best(), &planted, &Panels::of_columns(&draw(2, n * d), d));
    let mut level = Level::random(n, d, 5);
    let mut codes = level.codes(Path::best(), &x, 1);
    let size = x.iter().map(|v| v * v).sum::<f64>();
    let error = |level: &Level, codes: &[f64]| {
        let x_hat = product::product(Path::best(), codes, &Panels::of_columns(&level.features, d));
        (x.iter().zip(x_hat).map(|(x, h)| (x - h) * (x - h)).sum::<f64>() / size).sqrt()
    };
    let first = error(&level, &codes);
    let mut last = f64::INFINITY;
    for _ in 0..2000 {
        let (gg, gx) = (
            product::cross(Path::best(), &[0, rows], (&codes, n), (&codes, n)),
            product::cross(Path::best(), &[0, rows], (&codes, n), (&x, d)),
        );
        level.features = ridge_solve(Path::best(), &gg, &gx, &level.features, n);
        let features = Features::of(Path::best(), &level.features, d);
        features.refine(Path::best(), &features.products(Path::best(), &x), &mut codes, 1);
        let now = error(&level, &codes);
        assert!(now <= last + 1e-9, "{last} became {now}");
        last = now;
    }
    println!("SNMF: relative error {first} became {last}");
    assert!(first > 0.3 && last < 0.02, "{first} became {last}");
    assert!(codes.iter().all(|&g| g >= 0.0));
}

#[test]
fn winners_take_all() {
    let mut row = [3.0, -5.0, 1.0, 5.0];
    keep_largest(&mut row, 2);
    assert_eq!(row, [0.0, -5.0, 0.0, 5.0]);
}

/// One level of codes of codes: the atoms are the product of the levels.
#[test]
fn a_hierarchy_reconstructs_through_all_levels() {
    let level = |n, width, seed| Level::random(n, width, seed);
    let spec: Snmf = serde_json::from_str(r#"{"n_latents": 3, "levels": [5, 3]}"#).unwrap();
    let method = Method { spec, levels: vec![level(5, 7, 1), level(3, 5, 2)] };
    let atoms = method.atoms(Path::best());
    let (low, high) = (&method.levels[0].features, &method.levels[1].features);
    let slow = (0..5).map(|j| high[2 * 5 + j] * low[j * 7 + 4]).sum::<f64>();
    assert!((atoms[2 * 7 + 4] - slow).abs() < 1e-14);
}
