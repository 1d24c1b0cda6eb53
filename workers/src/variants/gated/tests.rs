//! The golden number, central differences, the ReLU it can be, its frozen form, a planted dictionary.

use super::*;
use crate::{
    kernels::encode::{Encoder, Screen},
    planted,
    skeleton::golden::{self, B, Case, D, F, close, fill},
    threads::Threads,
    variants::relu,
};

fn gated(l1_coefficient: f64) -> Gated {
    let spec = serde_json::json!({
        "n_latents": F, "l1_coefficient": l1_coefficient, "sparsity_warmup_share": 0,
    });
    serde_json::from_value(spec).unwrap()
}

fn case<R: Real>() -> Case<R> {
    Case::default().extra("r_mag", fill(6, F, 0.1)).extra("b_mag", fill(7, F, 0.02))
}

#[test]
fn golden_numbers() {
    let outcome = case::<f64>().run(&mut gated(0.2));
    golden::check(
        &outcome,
        17.118_736_608_3,
        &[
            (12.059_527_36, 0.288_311_95),
            (3.328_511_02, 0.762_843_68),
            (6.409_231_86, 0.218_908_67),
            (9.629_570_42, 2.926_837_83),
            (3.101_485_96, 0.705_064_59),
            (3.093_214_59, 0.730_585_87),
        ],
    );
}

/// What the auxiliary reconstruction sees is held fixed.
#[test]
fn gradients_equal_central_differences() {
    let (case, mut variant) = (case::<f64>(), gated(0.2));
    let gradients = case.run(&mut variant).gradients;
    let gate_error = |parameters: &Case<f64>, fixed: &Case<f64>| {
        let p = &parameters.parameters;
        let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, D);
        let selected =
            encoder.select(case.path, Screen::Off, &case.x, &p.b_dec.value, Selection::Above(&[0.0]));
        let mut x_hat = vec![0.0; case.x.len()];
        let q = &fixed.parameters;
        let codes = &selected.codes;
        crate::kernels::gather::decode(
            case.path,
            codes,
            &selected.values,
            &q.w_dec.value,
            &q.b_dec.value,
            &mut x_hat,
        );
        case.x.iter().zip(&x_hat).map(|(x, h)| (x - h).powi(2)).sum::<f64>() / B as f64
    };
    golden::central_differences(&case, &gradients, &[], |moved| {
        moved.run(&mut variant).losses.total - gate_error(moved, moved) + gate_error(moved, &case)
    });
}

#[test]
fn paths_and_lanes_change_no_bit() {
    golden::paths_and_lanes(&case(), &case(), || Box::new(gated(0.2)));
}

/// r = 0 and one bias for both: the codes of a ReLU.
#[test]
fn one_bias_for_both_equals_relu() {
    let plain = Case::<f64>::default();
    let same =
        plain.clone().extra("r_mag", vec![0.0; F]).extra("b_mag", plain.parameters.b_enc.value.clone());
    let spec = serde_json::json!({ "n_latents": F, "l1_coefficient": 0, "form": "2023" });
    let relu = plain.run(&mut serde_json::from_value::<relu::Relu>(spec).unwrap());
    let gated = same.run(&mut gated(0.0));
    assert_eq!(gated.nnz, relu.nnz);
    close(gated.losses.squared_error, relu.losses.squared_error, 1e-12);
    for (a, b) in gated.gradients[2].iter().zip(&relu.gradients[2]) {
        close(*a, *b, 1e-12);
    }
}

/// The threshold of the frozen form opens where the gate opens.
#[test]
fn the_frozen_form_has_the_codes_of_the_gate() {
    let case = case::<f32>();
    let (p, scale) = (&case.parameters, 1.0);
    let folded = FrozenParameters {
        d_in: D,
        pre_bias: true,
        w_enc: p.w_enc.value.clone(),
        b_enc: p.b_enc.value.clone(),
        w_dec: p.w_dec.value.clone(),
        b_dec: p.b_dec.value.clone(),
        threads: Threads::new(1).unwrap(),
        card: None,
    };
    let codes = freeze(p, folded, &Scales::of(scale)).encode(&case.x);
    let mut pairs = 0;
    for (row, x) in case.x.chunks(D).enumerate() {
        for latent in 0..F {
            let h: f32 = (0..D).map(|c| (x[c] - p.b_dec.value[c]) * p.w_enc.value[latent * D + c]).sum();
            let magnitude = (p.extra(0)[latent].exp() * h + p.extra(1)[latent]).max(0.0);
            let expected = if h + p.b_enc.value[latent] > 0.0 { magnitude } else { 0.0 };
            let (latents, values) = codes.row(row);
            let found = latents.iter().position(|&l| l as usize == latent).map_or(0.0, |at| values[at]);
            close(f64::from(found), f64::from(expected), 1e-5);
            pairs += usize::from(expected > 0.0);
        }
    }
    assert_eq!(codes.nnz(), pairs);
}

#[test]
fn recovers_a_planted_dictionary() {
    let learned = planted::learn(
        serde_json::json!({
            "kind": "gated", "n_latents": planted::ATOMS, "l1_coefficient": 0.7, "schedule": { "lr": 2e-3 },
        }),
        1500,
    );
    assert!(learned.mmcs >= 0.95, "{learned:?}");
}
