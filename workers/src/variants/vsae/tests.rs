//! The golden number, central differences, AbsTopK without noise, the divergence of N(0, 1), noise that
//! nothing but its place decides, a planted dictionary.

use super::*;
use crate::{
    planted,
    skeleton::golden::{self, B, Case, D, F, close, fill, u},
};

fn golden_noise([_, _, row, latent]: [u64; 4]) -> f64 {
    u(14, row as usize * F + latent as usize)
}

fn variational(fields: serde_json::Value) -> Variational {
    let mut spec = serde_json::json!({
        "n_latents": F, "k": F, "kl_coefficient": 0.01, "kl_warmup_share": 0, "variance": "learned",
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Variational { config: serde_json::from_value(spec).unwrap(), seed: 3, noise: golden_noise }
}

fn case<R: Real>() -> Case<R> {
    let extra = |name, shape, values| Extra::new(name, shape, values);
    let mut case = Case::default();
    case.parameters.extras =
        vec![extra("w_var", vec![F, D], fill(13, F * D, 0.1)), extra("b_var", vec![F], vec![R::of(-1.0); F])];
    case
}

#[test]
fn golden_numbers() {
    let mut outcome = case::<f64>().run(&mut variational(serde_json::json!({})));
    // The −1 of the table is a constant there.
    outcome.gradients.truncate(5);
    golden::check(
        &outcome,
        15.771_805_152_7,
        &[
            (14.484_218_31, -0.312_543_21),
            (5.533_528_04, -0.666_690_43),
            (13.380_555_02, 0.037_963_59),
            (7.111_753_01, 0.008_608_14),
            (2.234_241_26, 0.057_310_68),
        ],
    );
}

/// Some latents selected, some log σ² at their bounds.
#[test]
fn gradients_equal_central_differences() {
    let learned = serde_json::json!({ "k": 4, "kl_coefficient": 0.3, "candidates": 12 });
    let mut wide = case::<f64>();
    wide.parameters.extras[0].parameter.value.iter_mut().for_each(|w| *w *= 40.0);
    for case in [case::<f64>(), wide] {
        let mut variant = variational(learned.clone());
        let gradients = case.run(&mut variant).gradients;
        golden::central_differences(&case, &gradients, &[], |case| case.run(&mut variant).losses.total);
    }
    let fixed = serde_json::json!({ "k": 4, "kl_coefficient": 0.3, "variance": "fixed", "sigma": 0.3 });
    let (case, mut variant) = (Case::default(), variational(fixed));
    let gradients = case.run(&mut variant).gradients;
    golden::central_differences(&case, &gradients, &[], |case| case.run(&mut variant).losses.total);
}

#[test]
fn paths_and_lanes_change_no_bit() {
    for variance in ["learned", "fixed"] {
        let fields = serde_json::json!({ "k": 3, "variance": variance });
        golden::paths_and_lanes(&case(), &case(), || {
            Box::new(Variational { noise: normal, ..variational(fields.clone()) })
        });
    }
}

/// The golden numbers of AbsTopK.
#[test]
fn without_noise_and_divergence_it_is_abs_top_k() {
    let fields = serde_json::json!({ "k": 3, "kl_coefficient": 0, "variance": "fixed", "sigma": 1e-14 });
    let outcome = Case::<f64>::default().run(&mut variational(fields));
    golden::check(
        &outcome,
        8.444_209_721_4,
        &[
            (5.061_677_28, -0.119_936_25),
            (1.075_681_03, -0.108_031_22),
            (7.431_139_91, 0.715_322_55),
            (2.775_716_56, -0.743_578_60),
        ],
    );
}

#[test]
fn the_divergence_of_the_normal_distribution_from_itself_is_0() {
    let mut case = Case::<f64>::default();
    case.parameters.w_enc.value.fill(0.0);
    case.parameters.b_enc.value.fill(0.0);
    let penalty = |sigma: f64| {
        let fields = serde_json::json!({ "variance": "fixed", "sigma": sigma, "kl_coefficient": 1 });
        case.run(&mut variational(fields)).losses.penalty
    };
    close(penalty(1.0), 0.0, 1e-12);
    // ½(σ² − log σ² − 1) for each latent.
    close(penalty(2.0), F as f64 * 0.5 * (4.0 - 4f64.ln() - 1.0), 1e-12);
}

/// Mean 0, variance 1, and another number for every place.
#[test]
fn noise_is_normal() {
    let numbers: Vec<f64> = (0..200_000).map(|i| normal([1, i / 5000, i / 50 % 100, i % 50])).collect();
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    let variance = numbers.iter().map(|v| v * v).sum::<f64>() / numbers.len() as f64;
    close(mean, 0.0, 0.01);
    close(variance, 1.0, 0.01);
    assert_ne!(normal([1, 2, 3, 4]), normal([1, 2, 4, 3]));
}

/// More candidates than the noise can reach change nothing.
#[test]
fn candidates_beyond_the_reach_of_noise_are_not_missed() {
    let of = |candidates| {
        let fields = serde_json::json!({
            "k": 3, "variance": "fixed", "sigma": 1e-3, "candidates": candidates,
        });
        Case::<f64>::default().run(&mut Variational { noise: normal, ..variational(fields) })
    };
    assert_eq!(of(6), of(F));
    assert_eq!(of(6).nnz, 3 * B);
}

/// Fewer atoms than TopK finds (0.99): codes that are drawn blur which latent fires. Signs are free.
#[test]
fn recovers_a_planted_dictionary() {
    let learned = planted::learn(
        serde_json::json!({
            "kind": "vsae", "n_latents": planted::ATOMS, "k": 4, "kl_coefficient": 1e-3, "sigma": 0.05,
            "dead_after_tokens": 20_000, "schedule": { "lr": 3e-3 },
        }),
        1500,
    );
    assert!(learned.mmcs_signed >= 0.95, "{learned:?}");
}
