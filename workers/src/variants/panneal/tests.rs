//! The golden number, central differences, the L1 it starts as, the continuity of its falls, a planted
//! dictionary.

use super::*;
use crate::{
    planted,
    skeleton::golden::{self, Case, F, close, fill},
};

fn annealed(fields: serde_json::Value) -> Annealed {
    let mut spec = serde_json::json!({
        "n_latents": F, "l1_coefficient": 0.3, "sparsity_warmup_share": 0, "anneal_start_share": 0,
        "anneal_steps": 1,
    });
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    Annealed::new(serde_json::from_value(spec).unwrap())
}

fn half() -> Annealed {
    Annealed { p: 0.5, ..annealed(serde_json::json!({ "p_end": 0.5 })) }
}

#[test]
fn golden_numbers() {
    let outcome = Case::<f64>::default().run(&mut half());
    golden::check(
        &outcome,
        9.221_535_324_2,
        &[
            (6.121_037_92, 0.154_482_88),
            (3.394_336_36, 0.785_908_14),
            (5.966_359_95, 0.198_104_83),
            (6.010_766_26, 1.447_296_83),
        ],
    );
}

#[test]
fn gradients_equal_central_differences() {
    let (case, mut variant) = (Case::<f64>::default(), half());
    let gradients = case.run(&mut variant).gradients;
    golden::central_differences(&case, &gradients, &[], |case| case.run(&mut half()).losses.total);
}

#[test]
fn paths_and_lanes_change_no_bit() {
    golden::paths_and_lanes(&Case::default(), &Case::default(), || Box::new(half()));
}

fn gated_case() -> Case<f64> {
    Case::default().extra("r_mag", fill(6, F, 0.1)).extra("b_mag", fill(7, F, 0.02))
}

#[test]
fn p_of_1_is_the_l1_of_relu_and_of_gated() {
    let one = |on: &str| annealed(serde_json::json!({ "p_end": 1, "on": on }));
    let spec = serde_json::json!({
        "n_latents": F, "l1_coefficient": 0.3, "form": "2023", "sparsity_warmup_share": 0,
    });
    let l1 = Case::<f64>::default().run(&mut serde_json::from_value::<relu::Relu>(spec).unwrap());
    assert_eq!(Case::<f64>::default().run(&mut one("relu")), l1);
    let spec = serde_json::json!({ "n_latents": F, "l1_coefficient": 0.3, "sparsity_warmup_share": 0 });
    let l1 = gated_case().run(&mut serde_json::from_value::<gated::Gated>(spec).unwrap());
    assert_eq!(gated_case().run(&mut one("gated")), l1);
}

#[test]
fn p_falls_in_equal_parts() {
    let config = annealed(serde_json::json!({ "anneal_start_share": 0.5, "anneal_steps": 4 })).config;
    let p = |number| config.p(number, 40);
    for (number, expected) in [(1, 1.0), (20, 1.0), (21, 0.8), (25, 0.8), (26, 0.6), (31, 0.4), (40, 0.2)] {
        close(p(number), expected, 1e-12);
    }
    assert_eq!(config.next(10, 40), None);
    close(config.next(11, 40).unwrap(), 0.8, 1e-12);
}

/// The same batch before and after each fall costs the same.
#[test]
fn the_penalty_keeps_its_value_when_p_falls() {
    for (on, plain) in [("relu", Case::<f64>::default()), ("gated", gated_case())] {
        let mut variant =
            annealed(serde_json::json!({ "on": on, "anneal_steps": 5, "anneal_start_share": 0.2 }));
        let penalty = |number, variant: &mut Annealed| {
            Case { number: (number, 100), ..plain.clone() }.run(variant).losses
        };
        let first = penalty(1, &mut variant).penalty;
        for number in 2..=100 {
            close(penalty(number, &mut variant).penalty, first, 1e-12);
        }
        close(variant.p, 0.2, 1e-12);
        assert!(variant.factor != 1.0);
    }
}

#[test]
fn recovers_a_planted_dictionary() {
    for (on, l1_coefficient, steps) in [("relu", 0.3, 1500), ("gated", 0.6, 2500)] {
        let learned = planted::learn(
            serde_json::json!({
                "kind": "panneal", "n_latents": planted::ATOMS, "l1_coefficient": l1_coefficient, "on": on,
                "schedule": { "lr": 2e-3 },
            }),
            steps,
        );
        assert!(learned.mmcs >= 0.95, "{on}: {learned:?}");
    }
}
