//! Every coder: golden numbers, agreement with each other and with scikit-learn, limits.

use std::sync::Arc;

use serde_json::Value;

use super::{
    AnyCoder, CoderSpec, Gram, Recoded, block::Coded, fista::Fista, gradient_pursuit::GradientPursuit,
    lars::Lars, lasso_cd::LassoCd, mp::Mp, nnomp::Nnomp, omp::Omp,
};
use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::{Path, Real, product::Panels},
    learner::{ActivationBatch, Dictionary, LinearEncoder, Mismatch, Scales, Setup},
    random::{hash, unit},
    threads::Threads,
    toys,
    variants::LearnerSpec,
};

fn code_on<R: Real>(
    path: Path,
    coder: &AnyCoder<R>,
    atoms: &[R],
    d: usize,
    stored: bool,
    x: &[R],
) -> Coded<R> {
    let (panels, n) = (Panels::of_rows(atoms, d), atoms.len() / d);
    let mut gram = vec![R::ZERO; n * n];
    panels.times(path, atoms, &mut gram);
    coder.code(path, &panels, Gram::new(atoms, d, stored.then_some(&gram[..])), x)
}

fn code<R: Real>(coder: &AnyCoder<R>, atoms: &[R], d: usize, x: &[R]) -> Coded<R> {
    code_on(Path::best(), coder, atoms, d, true, x)
}

/// Dense codes, `[rows, n]`.
fn dense<R: Real>(coded: &Coded<R>) -> Vec<R> {
    let n = coded.codes.n_latents;
    let mut out = vec![R::ZERO; coded.codes.rows() * n];
    for row in 0..coded.codes.rows() {
        for at in coded.codes.offsets[row]..coded.codes.offsets[row + 1] {
            out[row * n + coded.codes.latents[at] as usize] = coded.values[at];
        }
    }
    out
}

/// `x − αD`.
fn residual<R: Real>(coded: &Coded<R>, atoms: &[R], d: usize, x: &[R]) -> Vec<R> {
    let mut e = x.to_vec();
    for (alpha, e) in dense(coded).chunks(coded.codes.n_latents).zip(e.chunks_mut(d)) {
        for (&a, atom) in alpha.iter().zip(atoms.chunks(d)) {
            crate::kernels::vector::axpy(-a, atom, e);
        }
    }
    e
}

fn worst(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// A planted problem: atoms `[n, d]` and rows.
fn problem(n: usize, d: usize, rows: usize, k: usize) -> (Vec<f64>, Vec<f64>) {
    let mut atoms = doubles(&toys::atoms(n, d, 11));
    atoms.chunks_mut(d).for_each(crate::kernels::vector::normalize);
    let x = toys::mixed(&toys::atoms(n, d, 11), d, (rows, k), true, 0.02, 4);
    (atoms, doubles(&x))
}

fn every<R: Real>(k: usize, lambda: f64, positive: bool) -> Vec<AnyCoder<R>> {
    let (lambda, tolerance) = (R::of(lambda), R::of(1e-4));
    vec![
        AnyCoder::Omp(Omp { k }),
        AnyCoder::Mp(Mp { k }),
        AnyCoder::Nnomp(Nnomp { k }),
        AnyCoder::GradientPursuit(GradientPursuit { k, positive }),
        AnyCoder::Cd(LassoCd { lambda, positive, tolerance }),
        AnyCoder::Fista(Fista { lambda, positive, tolerance }),
        AnyCoder::Lars(Lars { lambda, positive }),
    ]
}

/// methods.md §0.7: support in order [6, 1, 9], coefficients, residual².
#[test]
fn omp_has_the_golden_numbers() {
    let (x, mut atoms, b) = (toys::golden(1, 30), toys::golden(3, 72), toys::golden(5, 6));
    atoms.chunks_mut(6).for_each(crate::kernels::vector::normalize);
    let row: Vec<f64> = (0..6).map(|c| 1.5 * x[c] - 0.1 * b[c]).collect();
    let mut chosen = Vec::new();
    for k in 1..=3 {
        let coded = code(&AnyCoder::Omp(Omp { k }), &atoms, 6, &row);
        chosen
            .extend(coded.codes.latents.iter().copied().filter(|l| !chosen.contains(l)).collect::<Vec<_>>());
        if k == 3 {
            let alpha = dense(&coded);
            assert!(
                worst(&[alpha[6], alpha[1], alpha[9]], &[1.833_891_48, -0.873_892_89, -0.279_790_00]) < 6e-9
            );
            let left: f64 = residual(&coded, &atoms, 6, &row).iter().map(|e| e * e).sum();
            assert!((left - 0.111_542_79).abs() < 6e-9, "{left}");
        }
    }
    assert_eq!(chosen, [6, 1, 9]);
}

#[test]
fn omp_equals_scikit_learn() {
    let all: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/sklearn/dictionary.json")).unwrap();
    let matrix = |name: &str| -> Vec<f64> {
        let rows = all["omp"][name].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect()
    };
    let k = all["omp"]["k"].as_u64().unwrap() as usize;
    let ours = dense(&code(&AnyCoder::Omp(Omp { k }), &matrix("atoms"), 12, &matrix("x")));
    let difference = worst(&ours, &matrix("codes"));
    assert!(difference < 1e-6, "{difference}");
}

#[test]
fn residuals_of_least_squares_are_orthogonal_to_the_chosen_atoms() {
    let (atoms, x) = problem(80, 30, 20, 4);
    for coder in [AnyCoder::Omp(Omp { k: 6 }), AnyCoder::Nnomp(Nnomp { k: 6 })] {
        let coded = code(&coder, &atoms, 30, &x);
        let e = residual(&coded, &atoms, 30, &x);
        for (row, e) in e.chunks(30).enumerate() {
            let (latents, values) = coded.codes.row(row);
            for &latent in latents {
                let along = crate::kernels::vector::dot(e, &atoms[latent as usize * 30..][..30]);
                assert!(along.abs() < 1e-10, "{coder:?}: {along}");
            }
            assert!(matches!(coder, AnyCoder::Omp(_)) || values.iter().all(|&v| v > 0.0));
        }
    }
}

/// Orthonormal atoms: OMP, MP and gradient pursuit keep the k largest products, the lasso shrinks all.
#[test]
fn orthonormal_atoms_make_coders_thresholds() {
    let d = 16;
    let atoms: Vec<f64> = (0..d * d).map(|i| f64::from(u8::from(i / d == i % d))).collect();
    let x: Vec<f64> = (0..5 * d).map(|i| unit(hash(&[i as u64])) * 2.0 - 1.0).collect();
    for coder in every::<f64>(4, 0.3, false) {
        let alpha = dense(&code(&coder, &atoms, d, &x));
        for (x, alpha) in x.chunks(d).zip(alpha.chunks(d)) {
            let rank = |v: f64| if matches!(coder, AnyCoder::Nnomp(_)) { v } else { v.abs() };
            let mut sorted: Vec<f64> = x.iter().map(|&v| rank(v)).collect();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let expected: Vec<f64> = x
                .iter()
                .map(|&v| match coder.lambda() {
                    0.0 => {
                        if rank(v) >= sorted[3] {
                            v
                        } else {
                            0.0
                        }
                    }
                    lambda => v.signum() * (v.abs() - lambda).max(0.0),
                })
                .collect();
            assert!(worst(alpha, &expected) < 1e-4, "{coder:?}");
        }
    }
}

/// Three ways to the same minimum, signed and positive, and its optimality conditions.
#[test]
fn lasso_coders_agree_and_are_optimal() {
    let (atoms, x) = problem(60, 24, 16, 5);
    for (lambda, positive) in [(0.05, false), (0.3, false), (0.1, true)] {
        let coders: [AnyCoder<f64>; 3] = [
            AnyCoder::Lars(Lars { lambda, positive }),
            AnyCoder::Cd(LassoCd { lambda, positive, tolerance: 1e-10 }),
            AnyCoder::Fista(Fista { lambda, positive, tolerance: 1e-10 }),
        ];
        let codes = coders.map(|coder| code(&coder, &atoms, 24, &x));
        let e = residual(&codes[0], &atoms, 24, &x);
        for (alpha, e) in dense(&codes[0]).chunks(60).zip(e.chunks(24)) {
            for (&a, atom) in alpha.iter().zip(atoms.chunks(24)) {
                let q = crate::kernels::vector::dot(atom, e);
                let off = if a == 0.0 {
                    (if positive { q } else { q.abs() } - lambda).max(0.0)
                } else {
                    (q - lambda * a.signum()).abs()
                };
                assert!(off < 1e-9 && !(positive && a < 0.0), "λ {lambda} positive {positive}: {a} {q}");
            }
        }
        for other in &codes[1..] {
            assert!(worst(&dense(&codes[0]), &dense(other)) < 1e-6, "λ {lambda} positive {positive}");
        }
    }
}

/// methods.md §0.8: exact support at d = 50, n = 200, k = 5 in .970 of the problems, for OMP and MP.
#[test]
fn omp_and_mp_recover_planted_supports() {
    let (d, n, rows, k) = (50, 200, 400, 5);
    let atoms = toys::atoms(n, d, 21);
    let mut x = vec![0f32; rows * d];
    let planted: Vec<Vec<u32>> = x
        .chunks_mut(d)
        .enumerate()
        .map(|(r, row)| {
            let mut order: Vec<u32> = (0..n as u32).collect();
            for i in 0..k {
                let word = |s| hash(&[s, r as u64, i as u64]);
                order.swap(i, i + (word(1) % (n - i) as u64) as usize);
                let sign = if word(2) % 2 == 0 { -1.0 } else { 1.0 };
                let value = sign * (1.0 + unit(word(3)) as f32);
                crate::kernels::vector::axpy(value, &atoms[order[i] as usize * d..][..d], row);
            }
            let mut chosen = order[..k].to_vec();
            chosen.sort_unstable();
            chosen
        })
        .collect();
    for coder in [AnyCoder::Omp(Omp { k }), AnyCoder::Mp(Mp { k })] {
        let coded = code(&coder, &atoms, d, &x);
        let exact = planted.iter().enumerate().filter(|(r, p)| coded.codes.row(*r).0 == &p[..]).count();
        println!("{coder:?}: {}", exact as f64 / rows as f64);
        assert!(exact as f64 >= 0.90 * rows as f64, "{coder:?}: {exact} of {rows}");
    }
}

/// Products worked out on demand, other instructions, rows that are not finite: same codes, no panic.
#[test]
fn every_coder_on_every_path_with_and_without_a_gram_matrix() {
    let atoms = toys::atoms(70, 20, 3);
    let mut x = toys::mixed(&atoms, 20, (30, 4), true, 0.05, 8);
    for coder in every::<f32>(5, 0.1, true).into_iter().chain(every(5, 0.1, false)) {
        let reference = code(&coder, &atoms, 20, &x);
        assert!(reference.codes.nnz() > 0);
        for path in Path::available() {
            assert_eq!(
                code_on(path, &coder, &atoms, 20, true, &x).codes,
                reference.codes,
                "{coder:?} {path:?}"
            );
        }
        let computed = code_on(Path::best(), &coder, &atoms, 20, false, &x);
        let (a, b) = (doubles(&dense(&reference)), doubles(&dense(&computed)));
        assert!(worst(&a, &b) < 1e-3, "{coder:?}: {}", worst(&a, &b));
    }
    for bad in [f32::NAN, f32::INFINITY, f32::MAX, 0.0] {
        x[..20].fill(bad);
        every::<f32>(5, 0.1, false).iter().for_each(|coder| drop(code(coder, &atoms, 20, &x)));
    }
}

/// An atom is its own code: so new tokens that equal shared ones are transplanted as they are.
#[test]
fn an_atom_is_coded_as_itself() {
    let atoms = toys::atoms(40, 16, 2);
    for coder in [AnyCoder::Omp(Omp { k: 8 }), AnyCoder::Mp(Mp { k: 8 }), AnyCoder::Nnomp(Nnomp { k: 8 })] {
        let coded = code(&coder, &atoms, 16, &atoms);
        let e = residual(&coded, &atoms, 16, &atoms);
        assert!(e.iter().all(|e| e.abs() < 1e-5), "{coder:?}");
    }
}

/// A coder closes the amortisation gap of a linear encoder, and keeps everything else.
#[test]
fn a_recoded_dictionary_explains_more_with_as_many_pairs() {
    let (d, n, rows) = (32, 64, 512);
    let planted = toys::atoms(n, d, 1);
    let x = toys::mixed(&planted, d, (rows, 4), false, 0.01, 1);
    let threads = Threads::new(2).unwrap();
    let spec: LearnerSpec =
        serde_json::from_str(r#"{"kind": "topk", "n_latents": 64, "k": 4, "schedule": {"lr": 3e-3}}"#)
            .unwrap();
    let mut learner = spec.build(&Setup::plain(&d, 300, 1, &x, threads.clone())).unwrap();
    for step in 0..300 {
        let x = toys::mixed(&planted, d, (rows, 4), false, 0.01, 2 + step % 8);
        learner.step(&ActivationBatch::new(&x, &[0, rows]));
    }
    let error = |coder: Option<&str>| {
        let mut dictionary: Arc<dyn Dictionary> = learner.freeze(&Scales::of(2.0)).into();
        let plain = learner.freeze(&Scales::of(2.0));
        if let Some(coder) = coder {
            let spec: CoderSpec = serde_json::from_str(coder).unwrap();
            spec.validate(n).unwrap();
            dictionary = Arc::new(Recoded::new(dictionary, &spec, threads.clone()).unwrap());
            assert_eq!(dictionary.atoms(), plain.atoms());
            assert_eq!(dictionary.export().unwrap(), plain.export().unwrap());
        }
        let x: Vec<f32> = x.iter().map(|v| v / 2.0).collect();
        let codes = dictionary.encode(&x);
        let mut x_hat = vec![0f32; x.len()];
        dictionary.decode(&codes, &mut x_hat);
        let square: f32 = x.iter().zip(&x_hat).map(|(a, b)| (a - b).powi(2)).sum();
        (square, codes.nnz() as f64 / rows as f64)
    };
    let (encoder, _) = error(None);
    let (omp, l0) = error(Some(r#"{"kind": "omp", "k": 4}"#));
    println!("encoder {encoder}, OMP {omp}, L0 {l0}");
    assert!(omp < 0.8 * encoder && l0 <= 4.0, "encoder {encoder}, OMP {omp}, L0 {l0}");
    assert!(serde_json::from_str::<CoderSpec>(r#"{"kind": "omp", "k": 4, "l": 1}"#).is_err());
}

/// An atom of any norm counts by its direction; the codes are those for the atoms as they are.
#[test]
fn atoms_of_any_norm_are_chosen_by_their_direction() {
    struct Uneven(Vec<f32>);
    impl Dictionary for Uneven {
        fn d_in(&self) -> usize {
            2
        }
        fn n_latents(&self) -> usize {
            3
        }
        fn encode(&self, _: &[f32]) -> Codes {
            Codes::new(3)
        }
        fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
            for (row, out) in x_hat.chunks_exact_mut(2).enumerate() {
                out.copy_from_slice(&[1.0, 0.0]);
                let (latents, values) = codes.row(row);
                for (&latent, value) in latents.iter().zip(values) {
                    out.iter_mut().zip(&self.0[2 * latent as usize..]).for_each(|(o, a)| *o += value * a);
                }
            }
        }
        fn atoms(&self) -> &[f32] {
            &self.0
        }
        fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
            None
        }
        fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
            Ok(Vec::new())
        }
    }
    let uneven = Arc::new(Uneven(vec![0.25, 0.0, 100.0, 100.0, 0.0, 0.0]));
    let recoded = Recoded::new(uneven, &CoderSpec::Omp { k: 1 }, Threads::new(1).unwrap()).unwrap();
    let codes = recoded.encode(&[3.0, 0.5, 1.0, 0.0]);
    assert_eq!((codes.row(0), codes.row(1)), ((&[0][..], &[8.0][..]), (&[][..], &[][..])));
}
