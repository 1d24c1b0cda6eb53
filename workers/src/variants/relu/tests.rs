//! The golden number, central differences, the symmetry and the shrinkage of the penalty, its limits, and
//! a planted dictionary.

use super::*;
use crate::{
    learner::ActivationBatch,
    planted,
    skeleton::golden::{self, B, Case, D, F, close},
    skeleton::parameters::Parameter,
    threads::Threads,
};

fn relu(form: &str, l1_coefficient: f64) -> Relu {
    let spec = serde_json::json!({
        "n_latents": F, "l1_coefficient": l1_coefficient, "form": form, "sparsity_warmup_share": 0,
    });
    serde_json::from_value(spec).unwrap()
}

fn longer_atoms() -> Case<f64> {
    let mut case = Case::<f64>::default();
    vector::scale(1.3, &mut case.parameters.w_dec.value);
    case
}

/// The golden row has the pre-bias, which the form itself leaves out.
#[test]
fn golden_numbers() {
    let outcome = longer_atoms().run(&mut relu("april2024", 0.3));
    golden::check(
        &outcome,
        11.554_911_515_8,
        &[
            (9.672_857_91, 0.257_610_80),
            (5.349_878_62, 1.295_065_80),
            (7.068_173_71, 0.317_841_33),
            (8.365_067_51, 2.202_733_06),
        ],
    );
    assert_eq!(outcome.nnz, 25);
}

#[test]
fn gradients_equal_central_differences() {
    for (form, pre_bias) in [("april2024", false), ("april2024", true), ("2023", true)] {
        let (mut case, mut variant) = (longer_atoms(), relu(form, 0.3));
        case.parameters.pre_bias = pre_bias;
        let gradients = case.run(&mut variant).gradients;
        golden::central_differences(&case, &gradients, &[], |case| case.run(&mut variant).losses.total);
    }
}

#[test]
fn paths_and_lanes_change_no_bit() {
    for form in ["april2024", "2023"] {
        golden::paths_and_lanes(&Case::default(), &Case::default(), || Box::new(relu(form, 0.3)));
    }
}

/// Codes a times larger with atoms a times shorter cost the same in 2024, and less or more in 2023.
#[test]
fn only_the_later_form_is_free_of_the_atoms_scale() {
    let plain = Case::<f64>::default();
    let mut scaled = plain.clone();
    let p = &mut scaled.parameters;
    for latent in 0..F {
        let a = 0.5 + latent as f64 / 4.0;
        vector::scale(a, &mut p.w_enc.value[latent * D..][..D]);
        vector::scale(1.0 / a, &mut p.w_dec.value[latent * D..][..D]);
        p.b_enc.value[latent] *= a;
    }
    let total = |form, case: &Case<f64>| case.run(&mut relu(form, 0.3)).losses.total;
    close(total("april2024", &scaled), total("april2024", &plain), 1e-13);
    assert!((total("2023", &scaled) - total("2023", &plain)).abs() > 0.1);
}

/// One atom, rows c·d: the loss is least at f = c − λ/2, so nothing pulls there.
#[test]
fn codes_shrink_by_half_of_lambda() {
    let (lambda, atom) = (0.4, golden::unit_rows::<f64>()[..D].to_vec());
    let x = (0..B).flat_map(|row| atom.iter().map(move |v| v * (1.0 + row as f64))).collect();
    let case = Case::<f64> { x, ..Case::default() };
    let slope_at = |bias: f64, form| {
        let mut case = case.clone();
        let p = &mut case.parameters;
        (p.w_enc, p.w_dec) = (Parameter::new(atom.clone()), Parameter::new(atom.clone()));
        (p.b_enc, p.b_dec) = (Parameter::new(vec![bias]), Parameter::new(vec![0.0; D]));
        let gradients = case.run(&mut relu(form, lambda)).gradients;
        golden::norm(&gradients[0]).max(golden::norm(&gradients[1]))
    };
    for form in ["april2024", "2023"] {
        assert!(slope_at(-lambda / 2.0, form) < 1e-12);
        assert!(slope_at(0.0, form) > lambda / 2.0);
    }
}

fn spec(form: &str, l1_coefficient: f64) -> serde_json::Value {
    serde_json::json!({
        "kind": "relu", "n_latents": planted::ATOMS, "l1_coefficient": l1_coefficient, "form": form,
        "schedule": { "lr": 2e-3 },
    })
}

#[test]
fn a_price_out_of_reach_leaves_the_mean() {
    let learned = planted::learn(spec("2023", 30.0), 2500);
    assert!(learned.l0 < 0.05, "{learned:?}");
    assert!((learned.fvu - 1.0).abs() < 0.02, "FVU {}", learned.fvu);
}

#[test]
fn without_a_price_everything_is_reconstructed() {
    for form in ["april2024", "2023"] {
        let learned = planted::learn(spec(form, 0.0), 800);
        assert!(learned.fvu < 0.01, "{form}: FVU {}", learned.fvu);
    }
}

#[test]
fn recovers_a_planted_dictionary() {
    for form in ["april2024", "2023"] {
        let learned = planted::learn(spec(form, 0.2), 1500);
        assert!(learned.mmcs >= 0.95, "{form}: {learned:?}");
    }
}

/// Atoms of any norm become unit atoms, and the dictionary says what the learner says.
#[test]
fn frozen_atoms_have_unit_norm_and_the_same_reconstruction() {
    let atoms = planted::atoms();
    let x = planted::batch(&atoms, 7);
    let config: super::super::LearnerSpec = serde_json::from_value(spec("april2024", 0.1)).unwrap();
    let setup = Setup::plain(&planted::D, 100, 1, &x, Threads::new(1).unwrap());
    let mut learner = config.build(&setup).unwrap();
    let batch = ActivationBatch::new(&x, &[0, planted::ROWS]);
    (0..50).for_each(|_| {
        learner.step(&batch);
    });
    let dictionary = learner.freeze(&Scales::of(1.0));
    let mut x_hat = vec![0.0; x.len()];
    dictionary.decode(&dictionary.encode(&x), &mut x_hat);
    let error: f64 = x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let report = learner.step(&batch);
    close(error / report.squared_error, 1.0, 1e-4);
    for atom in dictionary.atoms().chunks(planted::D) {
        close(vector::dot(atom, atom).into(), 1.0, 1e-5);
    }
}
