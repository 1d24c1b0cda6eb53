//! Recovery of planted atoms, the complete orthonormal limit, the options.

use super::*;
use crate::toys;

fn spec(json: &str) -> Mairal {
    serde_json::from_str(json).unwrap()
}

fn learned(
    spec: &Mairal,
    d: usize,
    batches: &[Vec<f32>],
    passes: usize,
) -> (Box<dyn Dictionary>, StepReport) {
    let setup = Setup::plain(&d, 1, 3, &batches[0], Threads::new(2).unwrap());
    let mut learner = spec.build(&setup).unwrap();
    let mut last = StepReport::default();
    for batch in batches.iter().cycle().take(passes * batches.len()) {
        last = learner.step(&ActivationBatch::new(batch, &[0, batch.len() / d]));
    }
    (learner.freeze(&Scales::of(1.0)), last)
}

/// methods.md T2 with signed coefficients: MMCS of |cos| ≥ .95.
#[test]
fn recovers_a_planted_dictionary() {
    let (d, n) = (64, 128);
    let planted = toys::atoms(n, d, 1);
    let batches: Vec<Vec<f32>> = (0..24).map(|s| toys::mixed(&planted, d, (512, 4), true, 0.01, s)).collect();
    for coder in [r#""coder": "cd""#, r#""coder": "omp", "k": 4"#] {
        let spec = spec(&format!(r#"{{"n_latents": 128, "lambda": 0.1, "centre": false, {coder}}}"#));
        let (dictionary, report) = learned(&spec, d, &batches, 3);
        let mmcs = toys::mmcs(&planted, dictionary.atoms(), d, true);
        println!("{coder}: MMCS {mmcs}, FVU {}, dead {}", report.squared_error / report.scatter, report.dead);
        assert!(mmcs >= 0.95, "{coder}: MMCS {mmcs}");
    }
}

/// As many orthonormal atoms as dimensions and hardly a penalty: an exact change of basis, and it stays one.
#[test]
fn a_complete_dictionary_without_penalty_is_exact() {
    let (d, rows) = (12usize, 400);
    let x: Vec<f32> = (0..rows * d).map(|i| toys::normal(&[4, i as u64]) as f32).collect();
    let spec = spec(r#"{"n_latents": 12, "lambda": 1e-6, "centre": false, "coder": "lars"}"#);
    let mut learner = spec.build(&Setup::plain(&d, 1, 3, &x, Threads::new(1).unwrap())).unwrap();
    let v = 1.0 / (d as f32).sqrt();
    let reflection: Vec<f32> =
        (0..d * d).map(|i| f32::from(u8::from(i / d == i % d)) - 2.0 * v * v).collect();
    let mut state = learner.save();
    state.push_f32("atoms", vec![d, d], &reflection);
    learner.load(&state).unwrap();
    for _ in 0..5 {
        learner.step(&ActivationBatch::new(&x, &[0, rows]));
        let (dictionary, mut x_hat) = (learner.freeze(&Scales::of(1.0)), vec![0f32; x.len()]);
        dictionary.decode(&dictionary.encode(&x), &mut x_hat);
        let error: f32 = x.iter().zip(&x_hat).map(|(a, b)| (a - b).powi(2)).sum::<f32>() / rows as f32;
        assert!(error < 1e-8, "mean squared error {error}");
    }
}

#[test]
fn positive_codes_and_atoms_are_positive() {
    let (d, planted) = (16, toys::atoms(24, 16, 2));
    let absolute: Vec<f32> = planted.iter().map(|v| v.abs()).collect();
    let x = toys::mixed(&absolute, d, (300, 3), false, 0.01, 1);
    for coder in
        [r#""coder": "cd""#, r#""coder": "fista""#, r#""coder": "lars""#, r#""coder": "omp", "k": 3"#]
    {
        let spec = spec(&format!(
            r#"{{"n_latents": 24, "centre": false, "positive_codes": true, "positive_atoms": true, {coder}}}"#
        ));
        let (dictionary, _) = learned(&spec, d, std::slice::from_ref(&x), 4);
        assert!(dictionary.atoms().iter().all(|&v| v >= 0.0), "{coder}");
        let codes = dictionary.encode(&x);
        assert!(codes.nnz() > 0 && codes.values.iter().all(|&v| v > 0.0), "{coder}");
    }
}

#[test]
fn the_dictionary_is_in_the_units_of_the_data() {
    let (d, planted) = (16, toys::atoms(24, 16, 2));
    let x = toys::mixed(&planted, d, (300, 3), true, 0.01, 1);
    let spec = spec(r#"{"n_latents": 24}"#);
    let mut learner = spec.build(&Setup::plain(&d, 1, 3, &x, Threads::new(1).unwrap())).unwrap();
    learner.step(&ActivationBatch::new(&x, &[0, 300]));
    let (one, four) = (learner.freeze(&Scales::of(1.0)), learner.freeze(&Scales::of(4.0)));
    let small: Vec<f32> = x.iter().map(|v| v / 4.0).collect();
    let (codes, scaled) = (one.encode(&x), four.encode(&small));
    assert_eq!(codes.latents, scaled.latents);
    assert!(
        codes.values.iter().zip(&scaled.values).all(|(a, b)| (a - 4.0 * b).abs() < 1e-5 * (1.0 + a.abs()))
    );
}

#[test]
fn says_which_field_is_wrong() {
    for (json, field) in [
        (r#"{"n_latents": 0}"#, "n_latents"),
        (r#"{"n_latents": 8, "lambda": 0.0}"#, "lambda"),
        (r#"{"n_latents": 8, "coder": "omp"}"#, "k"),
        (r#"{"n_latents": 8, "k": 3}"#, "k"),
        (r#"{"n_latents": 8, "coder": "omp", "k": 9}"#, "k"),
        (r#"{"n_latents": 8, "forgetting": 1.5}"#, "forgetting"),
    ] {
        assert_eq!(spec(json).validate(4).unwrap_err().field, field, "{json}");
    }
}
