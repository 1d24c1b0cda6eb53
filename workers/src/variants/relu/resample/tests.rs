//! Who is given which row, and that latents which cannot fire come back.

use super::*;
use crate::{
    conformance, planted,
    skeleton::{
        golden::{B, Case, D, F, close},
        parameters::Parameter,
    },
    threads::Threads,
    variants::{LearnerConfig, LearnerSpec},
};

fn table(fields: serde_json::Value) -> serde_json::Value {
    let mut spec = serde_json::json!({ "n_latents": F, "l1_coefficient": 0.1, "form": "2023" });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec
}

fn resampling(seed: u64) -> Resampling {
    Resampling::new(serde_json::from_value(table(serde_json::json!({}))).unwrap(), 5, seed)
}

fn case(number: u64, dead: Vec<u32>) -> Case<f64> {
    Case { number: (number, 100), dead, ..Case::default() }
}

/// Directions of different rows of the batch, the largest errors most often, and only when it is due.
#[test]
fn dead_latents_are_given_rows_by_their_error() {
    let (mut first, rows) = (vec![0usize; B], case(5, vec![2]));
    let mut errors = vec![0f64; B];
    for seed in 0..2000 {
        let mut variant = resampling(seed);
        rows.run(&mut variant);
        let Reborn { latents, atoms: directions, .. } = &variant.reborn;
        assert_eq!(latents, &[2]);
        let cosine = |row: usize| {
            let x =
                rows.x[row * D..][..D].iter().zip(&rows.parameters.b_dec.value).map(|(x, c)| (x - c) as f32);
            let mut x: Vec<f32> = x.collect();
            vector::normalize(&mut x);
            vector::dot(&x, directions)
        };
        let row = (0..B).find(|&row| cosine(row) > 0.999_99).unwrap();
        first[row] += 1;
    }
    // The errors, from the code itself.
    let mut variant = resampling(0);
    let outcome = rows.run(&mut variant);
    for (row, error) in errors.iter_mut().enumerate() {
        let mut one = rows.clone();
        (one.x, one.lanes) = (rows.x[row * D..][..D].to_vec(), vec![0, 1]);
        *error = one.run(&mut resampling(0)).losses.squared_error;
    }
    close(errors.iter().sum(), outcome.losses.squared_error, 1e-12);
    for (count, error) in first.iter().zip(&errors) {
        close(*count as f64 / 2000.0, error / outcome.losses.squared_error, 0.04);
    }
    case(6, vec![2]).run(&mut variant);
    assert!(variant.reborn.latents.is_empty());
    // More dead latents than rows: each row once.
    case(10, (0..9).collect()).run(&mut variant);
    assert_eq!(variant.reborn.latents, [0, 1, 2, 3, 4]);
}

#[test]
fn a_latent_starts_as_the_living_are_but_shorter() {
    let (mut variant, case) = (resampling(3), case(5, vec![1, 7]));
    case.run(&mut variant);
    let single = |values: &[f64]| Parameter::new(values.iter().map(|&v| v as f32).collect());
    let from = &case.parameters;
    let mut p = Parameters {
        d_in: D,
        pre_bias: true,
        w_enc: single(&from.w_enc.value),
        b_enc: single(&from.b_enc.value),
        w_dec: single(&from.w_dec.value),
        b_dec: single(&from.b_dec.value),
        extras: Vec::new(),
    };
    p.w_enc.m.fill(1.0);
    p.w_dec.v.fill(1.0);
    variant.reborn().unwrap().apply(&mut p);
    let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
    let rows = from.w_enc.value.chunks(D).enumerate().filter(|(latent, _)| ![1, 7].contains(latent));
    let mean = rows.map(|(_, row)| norm(row)).sum::<f64>() / 10.0;
    for latent in [1, 7] {
        let (encoder, atom) = (&p.w_enc.value[latent * D..][..D], &p.w_dec.value[latent * D..][..D]);
        close(vector::dot(atom, atom).into(), 1.0, 1e-5);
        encoder.iter().zip(atom).for_each(|(w, a)| close((*w).into(), f64::from(*a) * mean / 5.0, 1e-6));
        assert_eq!(p.b_enc.value[latent], 0.0);
        assert!(p.w_enc.m[latent * D..][..D].iter().chain(&p.w_dec.v[latent * D..][..D]).all(|&v| v == 0.0));
    }
    assert_eq!(p.w_enc.value[..D], single(&from.w_enc.value[..D]).value);
    assert!(p.w_enc.m[..D].iter().chain(&p.w_dec.v[..D]).all(|&v| v == 1.0));
}

/// A third of the latents can never fire: without revival they stay dead, with resampling they come back.
#[test]
fn what_cannot_fire_comes_back() {
    let dead_after = |resample: bool| {
        let atoms = planted::atoms();
        let batches = planted::batches(&atoms);
        let mut fields = serde_json::json!({
            "n_latents": planted::ATOMS, "l1_coefficient": 0.1, "aux_coefficient": 0,
            "dead_after_tokens": 20 * planted::ROWS, "schedule": { "lr": 2e-3 },
        });
        if resample {
            fields["resample_every"] = 50.into();
        }
        let config: Relu = serde_json::from_value(table(fields)).unwrap();
        let setup = Setup::plain(&planted::D, 400, 1, &batches[0], Threads::new(0).unwrap());
        let mut learner = config.build(&setup).unwrap();
        let mut state = learner.save();
        let mut biases = state.f32("b_enc", &[planted::ATOMS]).unwrap();
        biases[..40].fill(-100.0);
        state.push_f32("b_enc", vec![planted::ATOMS], &biases);
        learner.load(&state).unwrap();
        planted::train(&mut *learner, &batches, 400).dead
    };
    let [without, with] = [false, true].map(dead_after);
    println!("dead of 128, 40 of them at the start: without resampling {without}, with {with}");
    assert!(without >= 40 && with <= 8, "{without} and {with} are dead");
}

#[test]
fn a_resampled_and_clipped_learner_keeps_every_promise() {
    let fields = serde_json::json!({
        "kind": "relu", "n_latents": 40, "l1_coefficient": 0.05, "clip_norm": 0.5, "resample_every": 2,
        "dead_after_tokens": 90,
    });
    let spec: LearnerSpec = serde_json::from_value(table(fields)).unwrap();
    conformance::check(&spec);
    let relu = |fields| serde_json::from_value::<Relu>(table(fields)).unwrap();
    for (fields, field) in [
        (serde_json::json!({ "clip_norm": 0.0 }), "clip_norm"),
        (serde_json::json!({ "resample_every": 0 }), "resample_every"),
        (serde_json::json!({ "resample_every": 5, "form": "april2024" }), "resample_every"),
    ] {
        assert_eq!(relu(fields).validate(D).unwrap_err().field, field);
    }
}
