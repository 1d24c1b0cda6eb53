//! Pursuit and its gradient against golden numbers, differences and identities, in f64.

use super::{backward::Backward, *};
use crate::{kernels::vector::dot, toys::golden};

const D: usize = 6;
const LANES: &[usize] = &[0, 2, 5];

/// methods.md §0.7: rows, unit atoms, bias.
fn setting() -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let x = golden(1, 30).iter().map(|v| 1.5 * v).collect();
    let mut atoms = golden(3, 72);
    atoms.chunks_mut(D).for_each(vector::normalize);
    (x, atoms, golden(5, 6).iter().map(|v| 0.1 * v).collect())
}

fn pursue(atoms: &[f64], d: usize, (k, absolute): (usize, bool), rows: &mut [f64]) -> Picks<f64> {
    let gram = Gram::of(Path::best(), atoms, d, 0);
    Pursuit { atoms, d_in: d, k, absolute, gram: Some(&gram) }.run(Path::best(), rows)
}

fn centred(x: &[f64], b: &[f64]) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x - b[i % D]).collect()
}

fn loss(x: &[f64], atoms: &[f64], b: &[f64]) -> f64 {
    let mut rows = centred(x, b);
    pursue(atoms, D, (3, false), &mut rows);
    rows.iter().map(|r| r * r).sum::<f64>() / 5.0
}

fn gradients(x: &[f64], atoms: &[f64], b: &[f64]) -> (f64, Vec<f64>, Vec<f64>, Picks<f64>) {
    let mut rows = centred(x, b);
    let picks = pursue(atoms, D, (3, false), &mut rows);
    let pursuit = Pursuit { atoms, d_in: D, k: 3, absolute: false, gram: None };
    let backward = Backward::of(Path::best(), pursuit, &picks, &rows, LANES, 0.2);
    let mut d_atoms = vec![0.0; atoms.len()];
    for (latent, out) in d_atoms.chunks_mut(D).enumerate() {
        backward.atom(latent, &mut [0.0; D], out);
    }
    (backward.moments.squared_norm / 5.0, d_atoms, backward.bias, picks.clone())
}

fn norm(v: &[f64]) -> f64 {
    dot(v, v).sqrt()
}

#[test]
fn golden_numbers() {
    let (x, atoms, b) = setting();
    let (loss, d_atoms, d_b, picks) = gradients(&x, &atoms, &b);
    let close = |found: f64, golden: f64, within: f64| {
        assert!((found - golden).abs() <= within, "{found:.10} is not {golden}");
    };
    close(loss, 1.223_089_266_6, 6e-11);
    close(norm(&d_atoms), 1.676_868_51, 6e-9);
    close(d_atoms[0], -0.014_658_25, 6e-9);
    close(norm(&d_b), 1.320_110_87, 6e-9);
    close(d_b[0], 0.245_071_76, 6e-9);
    let golden = [[6, 11, 5, 10, 1], [6, 6, 11, 6, 10], [6, 0, 10, 7, 5]];
    // In the first row nothing points the atoms' way after round one. The golden run went on picking the
    // atom it had just taken out, of which 0 is left; here a pursuit stops.
    let expected = |t: usize, row: usize| if row == 0 && t > 0 { NONE } else { golden[t][row] };
    for (pick, &latent) in picks.latents.iter().enumerate() {
        assert_eq!(latent, expected(pick % 3, pick / 3), "row {}, round {}", pick / 3, pick % 3);
    }
}

#[test]
fn gradients_are_central_differences() {
    let (x, atoms, b) = setting();
    let (_, d_atoms, d_b, _) = gradients(&x, &atoms, &b);
    let slope = |of: &dyn Fn(f64) -> f64| (of(1e-6) - of(-1e-6)) / 2e-6;
    let moved = |values: &[f64], i: usize, by: f64| {
        let mut values = values.to_vec();
        values[i] += by;
        values
    };
    // Moved atoms are not quite unit: the first row then picks its atom again, a change of second order.
    for (i, found) in d_atoms.iter().enumerate() {
        let slow = slope(&|by| loss(&x, &moved(&atoms, i, by), &b));
        assert!((slow - found).abs() < 1e-6, "atom element {i}: {found} is not {slow}");
    }
    for (i, found) in d_b.iter().enumerate() {
        let slow = slope(&|by| loss(&x, &atoms, &moved(&b, i, by)));
        assert!((slow - found).abs() < 1e-6, "bias {i}: {found} is not {slow}");
    }
}

#[test]
fn each_round_takes_exactly_its_square_and_the_residual_never_grows() {
    let (x, atoms, b) = setting();
    let start = centred(&x, &b);
    for absolute in [false, true] {
        let mut last: Vec<f64> = start.chunks(D).map(|r| dot(r, r)).collect();
        for k in 1..8 {
            let mut rows = start.clone();
            let picks = pursue(&atoms, D, (k, absolute), &mut rows);
            for (r, row) in rows.chunks(D).enumerate() {
                let c = picks.values[r * k + k - 1];
                assert!((dot(row, row) - (last[r] - c * c)).abs() < 1e-14, "row {r}, round {k}");
                last[r] = dot(row, row);
            }
        }
    }
}

/// Orthonormal atoms: pursuit keeps the k largest products, as OMP and thresholding do.
#[test]
fn orthonormal_atoms_make_it_hard_thresholding() {
    let atoms = crate::linear::polar::polar(Path::best(), &golden(7, 36), D);
    let x = golden(1, 30);
    let mut rows = x.clone();
    let picks = pursue(&atoms, D, (3, true), &mut rows);
    for (r, row) in x.chunks(D).enumerate() {
        let mut products: Vec<(u32, f64)> =
            atoms.chunks(D).enumerate().map(|(i, a)| (i as u32, dot(a, row))).collect();
        products.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
        for (t, (latent, product)) in products.iter().take(3).enumerate() {
            assert_eq!(picks.latents[r * 3 + t], *latent);
            assert!((picks.values[r * 3 + t] - product).abs() < 1e-12);
        }
    }
}

#[test]
fn the_gram_form_picks_what_the_products_pick() {
    let (n, d, k) = (70, 20, 6);
    let mut atoms: Vec<f64> = golden(2, n * d);
    atoms.chunks_mut(d as usize).for_each(vector::normalize);
    for absolute in [false, true] {
        let start = golden(9, 300 * d);
        let (mut by_gram, mut direct) = (start.clone(), start.clone());
        let picks = pursue(&atoms, d as usize, (k, absolute), &mut by_gram);
        let without = Pursuit { atoms: &atoms, d_in: d as usize, k, absolute, gram: None };
        let same = without.run(Path::Portable, &mut direct);
        assert_eq!(picks.latents, same.latents);
        assert!(by_gram.iter().zip(&direct).all(|(a, b)| (a - b).abs() < 1e-12));
        // Repeated picks are one code.
        let codes = picks.codes(n as usize);
        let sum: f64 = picks.values.iter().sum();
        assert!((codes.values.iter().map(|&v| f64::from(v)).sum::<f64>() - sum).abs() < 1e-3);
        assert!((0..codes.rows()).all(|r| codes.row(r).0.windows(2).all(|w| w[0] < w[1])));
    }
}

/// A parent direction with children on top: the parent comes first, and signed pursuit stops when
/// nothing points the atoms' way any more.
#[test]
fn the_parent_is_picked_first_and_nothing_is_picked_backwards() {
    let atoms = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0];
    let mut row = [2.0, 0.5, 0.0];
    let picks = pursue(&atoms, 3, (3, false), &mut row);
    assert_eq!(picks.latents, [0, 1, NONE]);
    let mut against = [-1.0, -2.0, -3.0];
    let picks = pursue(&atoms, 3, (2, false), &mut against);
    assert_eq!((picks.latents, against), (vec![NONE, NONE], [-1.0, -2.0, -3.0]));
}
