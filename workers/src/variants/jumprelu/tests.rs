//! The golden number, central differences, the expectation of the estimate, the limits, a planted dictionary.

use super::*;
use crate::{
    planted,
    skeleton::{
        golden::{self, Case, F, close},
        parameters::Parameter,
    },
    variants::relu,
};

fn jump_relu(fields: serde_json::Value) -> JumpRelu {
    let mut spec = serde_json::json!({
        "n_latents": F, "l0_coefficient": 0.1, "bandwidth": 0.3, "sparsity_warmup_share": 0,
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn case<R: Real>(theta: impl Fn(usize) -> f64) -> Case<R> {
    Case::default().extra("log_threshold", (0..F).map(|i| R::of(theta(i).ln())).collect())
}

fn golden_theta(latent: usize) -> f64 {
    0.2 + 0.02 * latent as f64
}

#[test]
fn golden_numbers() {
    let case = case::<f64>(golden_theta);
    let mut outcome = case.run(&mut jump_relu(serde_json::json!({})));
    // The table has ∂/∂θ, not ∂/∂log θ.
    let by_log = outcome.gradients[4].iter_mut().enumerate();
    by_log.for_each(|(latent, g)| *g /= golden_theta(latent));
    golden::check(
        &outcome,
        8.593_391_306_3,
        &[
            (5.554_666_57, 0.147_827_56),
            (3.039_816_72, 0.765_561_01),
            (5.830_731_87, 0.216_373_72),
            (5.769_712_52, 1.441_833_66),
            (1.023_847_47, -0.006_827_15),
        ],
    );
    assert_eq!(outcome.nnz, 16);
}

#[test]
fn gradients_equal_central_differences() {
    for penalty in ["l0", "quadratic", "tanh"] {
        let fields = serde_json::json!({ "penalty": penalty, "target_l0": 2.0 });
        let (case, mut variant) = (case(golden_theta), jump_relu(fields));
        let gradients = case.run(&mut variant).gradients;
        golden::central_differences(&case, &gradients, &[4], |case| case.run(&mut variant).losses.total);
    }
}

#[test]
fn paths_and_lanes_change_no_bit() {
    for penalty in ["l0", "quadratic", "tanh"] {
        let fields = serde_json::json!({ "penalty": penalty, "target_l0": 2.0 });
        golden::paths_and_lanes(&case(golden_theta), &case(golden_theta), || {
            Box::new(jump_relu(fields.clone()))
        });
    }
}

/// For z ~ N(0, 1) the exact slope of E[(1.3 − f)² + 0.2·1(z > θ)] at θ = 0.4 is 0.25042. The estimate is
/// 0.24474 for ε = 0.2 and 0.24942 for ε = 0.05; a window on the code after the jump would give 0.2823.
#[test]
fn the_estimate_has_its_expectation() {
    let rows = 4_000_000;
    let x: Vec<f64> = (0..rows / 2).flat_map(|i| pair_of_normals(i as u64)).collect();
    let one = || Parameter::new(vec![1.0]);
    let mut case = case::<f64>(|_| 0.4);
    let p = &mut case.parameters;
    (p.d_in, p.w_enc, p.w_dec) = (1, one(), one());
    (p.b_enc, p.b_dec) = (Parameter::new(vec![0.0]), Parameter::new(vec![0.0]));
    p.extras[0] = Extra::new("log_threshold", vec![1], vec![0.4f64.ln()]);
    case.target = Some(vec![1.3; rows]);
    (case.x, case.lanes) = (x, vec![0, rows]);
    for (bandwidth, expected) in [(0.2, 0.24474), (0.05, 0.24942)] {
        let fields = serde_json::json!({ "l0_coefficient": 0.2, "bandwidth": bandwidth });
        let found = case.run(&mut jump_relu(fields)).gradients[4][0] / 0.4;
        close(found / expected, 1.0, 0.02);
    }
}

/// Box–Muller, both numbers.
fn pair_of_normals(i: u64) -> [f64; 2] {
    use crate::random::{hash, unit};
    let radius = (-2.0 * (1.0 - unit(hash(&[i, 0]))).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * unit(hash(&[i, 1]))).sin_cos();
    [radius * cos, radius * sin]
}

#[test]
fn no_threshold_and_no_penalty_equal_relu() {
    let fields = serde_json::json!({ "l0_coefficient": 0, "bandwidth": 1e-12 });
    let jump = case::<f64>(|_| 1e-12).run(&mut jump_relu(fields));
    let spec = serde_json::json!({ "n_latents": F, "l1_coefficient": 0, "form": "2023" });
    let plain = Case::<f64>::default().run(&mut serde_json::from_value::<relu::Relu>(spec).unwrap());
    assert_eq!((&jump.gradients[..4], jump.nnz), (&plain.gradients[..], plain.nnz));
    assert_eq!(jump.losses.total, plain.losses.total);
}

/// A threshold that does not move is a mask: the gradient is that of the codes above it.
#[test]
fn pairs_below_the_threshold_teach_no_weight() {
    let fields = |bandwidth: f64| serde_json::json!({ "l0_coefficient": 0, "bandwidth": bandwidth });
    let narrow = case::<f64>(golden_theta).run(&mut jump_relu(fields(1e-9)));
    let wide = case::<f64>(golden_theta).run(&mut jump_relu(fields(0.3)));
    assert_eq!(narrow.gradients[..4], wide.gradients[..4]);
    assert_eq!(narrow.nnz, wide.nnz);
    assert!(golden::norm(&wide.gradients[4]) > golden::norm(&narrow.gradients[4]));
}

#[test]
fn recovers_a_planted_dictionary() {
    for (penalty, l0_coefficient) in [("l0", 0.05), ("quadratic", 1.0), ("tanh", 0.05)] {
        let learned = planted::learn(
            serde_json::json!({
                "kind": "jumprelu", "n_latents": planted::ATOMS, "penalty": penalty, "target_l0": 4.0,
                "l0_coefficient": l0_coefficient, "threshold": 0.1, "bandwidth": 0.2, "schedule": { "lr": 2e-3 },
            }),
            1500,
        );
        assert!(learned.mmcs >= 0.95, "{penalty}: {learned:?}");
    }
}
