//! Golden numbers, central differences, the definition of the code pair by pair, and dead latents.

use super::*;
use crate::{
    kernels::encode::Encoder,
    planted::{self, normal},
    skeleton::golden::{self, B, D, F, close, norm},
};

/// Head 2, left 2, right 3; the golden P and Q, head by head.
#[derive(Clone)]
struct Golden {
    w_enc: Vec<f64>,
    w_dec: Vec<f64>,
    b_dec: Vec<f64>,
    x: Vec<f64>,
}

const HEADS: Heads = Heads { m: 2, n: 3 };
const ROWS_OF_P: [usize; 4] = [0, 1, 5, 6];
const ROWS_OF_Q: [usize; 6] = [2, 3, 4, 7, 8, 9];

impl Golden {
    fn new() -> Self {
        let (p, q): (Vec<f64>, Vec<f64>) = (golden::fill(8, 4 * D, 0.6), golden::fill(9, 6 * D, 0.6));
        let mut w_enc = Vec::new();
        for head in 0..2 {
            w_enc.extend_from_slice(&p[head * 2 * D..][..2 * D]);
            w_enc.extend_from_slice(&q[head * 3 * D..][..3 * D]);
        }
        Golden { w_enc, w_dec: golden::unit_rows(), b_dec: golden::fill(5, D, 0.1), x: golden::rows() }
    }

    /// The loss times B, and gradients [encoder rows, w_dec, b_dec].
    fn run(&self, aux: AuxK, dead: &[usize]) -> (Losses, [Vec<f64>; 3]) {
        let mut is_dead = vec![false; F];
        dead.iter().for_each(|&latent| is_dead[latent] = true);
        let lanes = [0, 2, B];
        let pass = Pass {
            path: Path::best(),
            heads: HEADS,
            k: 3,
            aux,
            w_enc: &self.w_enc,
            w_dec: &self.w_dec,
            b_dec: &self.b_dec,
            x: &self.x,
            lanes: &lanes,
            scatter: B as f64,
            dead: (&is_dead, dead.len()),
        };
        let (losses, of) = pass.run(&mut Rooms::default());
        let (x, mut runs) = ([&self.x[..]; 2], Vec::new());
        let sums = RowSums { terms: &of.encoder, y: &x, lanes: &lanes, centre: Some(&self.b_dec) };
        let mut out = [vec![0.0; 10 * D], vec![0.0; F * D], of.offset.clone()];
        for row in 0..10 {
            let weight = sums.row(row, &mut runs, &mut out[0][row * D..][..D]);
            let direction = &self.w_enc[row * D..][..D];
            out[2].iter_mut().zip(direction).for_each(|(out, w)| *out -= weight * w);
        }
        let y = of.residuals.each_ref().map(|e| &e[..]);
        let sums = RowSums { terms: &of.decoder, y: &y, lanes: &lanes, centre: None };
        (0..F).for_each(|row| {
            sums.row(row, &mut runs, &mut out[1][row * D..][..D]);
        });
        (losses, out)
    }
}

use crate::skeleton::objective::Losses;

#[test]
fn golden_numbers() {
    let (losses, [enc, dec, bias]) = Golden::new().run(AuxK::OFF, &[]);
    close(losses.total, 5.228_244_642_1, 1e-10);
    let rows = |which: &[usize]| -> Vec<f64> {
        which.iter().flat_map(|&row| enc[row * D..][..D].to_vec()).collect()
    };
    let table = [
        (rows(&ROWS_OF_P), 2.143_731_77, -0.371_918_80),
        (rows(&ROWS_OF_Q), 2.263_495_51, -0.299_933_66),
        (dec, 2.801_170_50, 0.471_273_52),
        (bias, 3.620_195_31, 0.231_141_76),
    ];
    for (gradient, frobenius, first) in table {
        close(norm(&gradient), frobenius, 5e-9);
        close(gradient[0], first, 5e-9);
    }
}

#[test]
fn gradients_equal_central_differences() {
    let case = Golden::new();
    let (_, gradients) = case.run(AuxK::OFF, &[]);
    for (which, gradient) in gradients.iter().enumerate() {
        for (i, &g) in gradient.iter().enumerate() {
            let at = |delta: f64| {
                let mut case = case.clone();
                [&mut case.w_enc, &mut case.w_dec, &mut case.b_dec][which][i] += delta;
                case.run(AuxK::OFF, &[]).0.total
            };
            close(g, (at(1e-6) - at(-1e-6)) / 2e-6, 2e-6);
        }
    }
}

/// Of the auxiliary loss, gradients of atoms: the main residual is held fixed, so they are exact; the main
/// loss has no part in atoms that are in no main code.
#[test]
fn dead_latents_explain_the_residual() {
    let case = Golden::new();
    let aux = AuxK { coefficient: 0.5, k: 2 };
    let plain = case.run(AuxK::OFF, &[]).1;
    let of = |g: &[Vec<f64>; 3], latent: usize| norm(&g[1][latent * D..][..D]);
    let dead: Vec<usize> = (0..F).filter(|&latent| of(&plain, latent) == 0.0).collect();
    let (losses, gradients) = case.run(aux, &dead);
    assert!(losses.aux > 0.0);
    let only_aux: Vec<usize> = dead.iter().copied().filter(|&latent| of(&gradients, latent) > 0.0).collect();
    assert!(!only_aux.is_empty(), "some dead latent learns from the auxiliary loss alone");
    for latent in only_aux {
        for (i, &g) in gradients[1].iter().enumerate().skip(latent * D).take(D) {
            let at = |delta: f64| {
                let mut case = case.clone();
                case.w_dec[i] += delta;
                case.run(aux, &dead).0.total
            };
            close(g, (at(1e-6) - at(-1e-6)) / 2e-6, 2e-6);
        }
    }
}

fn random(n: usize, stream: u64) -> Vec<f32> {
    (0..n).map(|i| normal(&[stream, i as u64]) as f32).collect()
}

/// All latents of a row, sorted: the heads that are skipped, the carry between tiles and the second list for
/// the dead change nothing.
#[test]
fn the_code_equals_its_definition() {
    let (d, rows, k) = (19, 150, 7);
    for (m, n, heads) in [(1, 1, 70), (2, 4, 33), (4, 4, 9), (3, 5, 21), (20, 30, 2)] {
        let shape = Heads { m, n };
        let (w, x, b) = (random(heads * (m + n) * d, 1), random(rows * d, 2), random(d, 3));
        let dead: Vec<bool> = (0..heads * m * n).map(|latent| latent % 5 == 0).collect();
        let bias = vec![0.0; heads * (m + n)];
        for path in Path::available() {
            let encoder = Encoder::all(&w, &bias, d);
            let [main, few] = encoder.select_heads(path, &x, &b, (shape, k), Some((&dead, 3)));
            for row in 0..rows {
                let pre = |at: usize| {
                    (0..d).fold(0f32, |sum, c| (x[row * d + c] - b[c]).mul_add(w[at * d + c], sum)).max(0.0)
                };
                let value = |latent: usize| {
                    let (left, right) = shape.rows_of(latent);
                    pre(left) * pre(right)
                };
                let best = |k: usize, allowed: &dyn Fn(usize) -> bool| {
                    let mut all: Vec<(f32, usize)> = (0..heads * m * n)
                        .filter(|&latent| allowed(latent))
                        .map(|latent| (value(latent), latent))
                        .filter(|pair| pair.0 > 0.0)
                        .collect();
                    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                    let mut kept: Vec<u32> = all.iter().take(k).map(|pair| pair.1 as u32).collect();
                    kept.sort_unstable();
                    kept
                };
                assert_eq!(main.codes.row(row).0, best(k, &|_| true), "{path:?} {m}x{n}");
                assert_eq!(few.codes.row(row).0, best(3, &|latent| dead[latent]), "{path:?} {m}x{n}");
            }
        }
    }
}

/// One left and one right direction that are the same: `√(u·u) = u`.
#[test]
fn equal_directions_of_one_by_one_are_relu() {
    let (d, n) = (8, 30);
    let (w, x) = (random(n * d, 4), random(40 * d, 5));
    let doubled: Vec<f32> = w.chunks(d).flat_map(|row| [row, row].concat()).collect();
    let zeros = vec![0.0; 2 * n];
    let encoder = Encoder::all(&doubled, &zeros, d);
    let [found, _] = encoder.select_heads(Path::best(), &x, &zeros[..d], (Heads { m: 1, n: 1 }, n), None);
    let relu = Encoder::all(&w, &zeros[..n], d).select(
        Path::best(),
        crate::kernels::encode::Screen::Off,
        &x,
        &zeros[..d],
        crate::kernels::encode::Selection::Above(&[0.0]),
    );
    assert_eq!(found.codes.latents, relu.codes.latents);
    found.values.iter().zip(&relu.values).for_each(|(a, b)| assert!((a - b).abs() <= 2e-7 * b, "{a} {b}"));
}

fn learner(spec: &serde_json::Value, d: usize, steps: u64, sample: &[f32]) -> Box<dyn DictLearner> {
    let threads = Threads::new(0).unwrap();
    let setup = Setup::plain(&d, steps, 1, sample, threads);
    let spec: crate::variants::LearnerSpec = serde_json::from_value(spec.clone()).unwrap();
    spec.build(&setup).unwrap()
}

/// Twelve left and twelve right factors in four groups; a row has one of each of a group, and their AND adds
/// a direction of its own: atoms of the right pairs are found.
#[test]
fn codes_that_are_ands_are_recovered() {
    let d = 48;
    let (left, right) = (planted::atoms_of(12, d, 31), planted::atoms_of(12, d, 32));
    let of = |number: u64| {
        let mut x = vec![0f32; 1024 * d];
        for (r, row) in x.chunks_mut(d).enumerate() {
            row.iter_mut()
                .enumerate()
                .for_each(|(c, v)| *v = 0.01 * normal(&[number, r as u64, c as u64]) as f32);
            for i in 0..2 {
                let draw = crate::random::hash(&[33, number, r as u64, i]);
                let (group, a, b) = (draw % 4, (draw >> 8) % 3, (draw >> 16) % 3);
                let size = 0.5 + (draw >> 40) as f32 / (1u64 << 24) as f32;
                vector::axpy(size, &left[(group * 3 + a) as usize * d..][..d], row);
                vector::axpy(size, &right[(group * 3 + b) as usize * d..][..d], row);
            }
        }
        x
    };
    let batches: Vec<Vec<f32>> = (0..24).map(of).collect();
    let fvu = |spec: serde_json::Value| {
        let mut learner = learner(&spec, d, 2000, &batches[0]);
        let last = planted::train(&mut *learner, &batches, 2000);
        (last.squared_error / last.scatter, learner.freeze(&Scales::of(1.0)).atoms().to_vec())
    };
    let rest = serde_json::json!({ "n_latents": 72, "k": 2, "dead_after_tokens": 20_000, "schedule": { "lr": 3e-3 } });
    let with = |kind: &str| {
        let mut spec = rest.clone();
        spec["kind"] = kind.into();
        if kind == "kron" {
            (spec["m"], spec["n"]) = (3.into(), 3.into());
        }
        fvu(spec)
    };
    let mut pairs: Vec<f32> = Vec::new();
    for pair in 0..36 {
        let (group, a, b) = (pair / 9, pair / 3 % 3, pair % 3);
        let mut atom = left[(group * 3 + a) * d..][..d].to_vec();
        vector::add(&right[(group * 3 + b) * d..][..d], &mut atom);
        vector::normalize(&mut atom);
        pairs.extend(atom);
    }
    let (kron, top_k) = (with("kron"), with("topk"));
    let found = |atoms: &[f32]| planted::mmcs(&pairs, atoms, d, false);
    println!(
        "planted ANDs: kron FVU {} MMCS {:?}, topk FVU {} MMCS {:?}",
        kron.0,
        found(&kron.1),
        top_k.0,
        found(&top_k.1)
    );
    assert!(found(&kron.1).0 >= 0.95, "{:?}", found(&kron.1));
}
