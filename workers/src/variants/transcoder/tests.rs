//! Gradients, the autoencoder it contains, what `batch` and `skip` are for.

use super::*;
use crate::skeleton::golden::{self, B, Case, D, F, close, fill};

const OUT: usize = 4;

fn learner(skip: bool) -> Learner {
    chosen(skip, false)
}

fn chosen(skip: bool, batch: bool) -> Learner {
    let spec = serde_json::json!({ "n_latents": F, "k": 3, "target": "y", "skip": skip, "batch": batch });
    let config = serde_json::from_value(spec).unwrap();
    Learner { config, width: OUT, threshold: Threshold::default() }
}

fn case<R: Real>(skip: bool) -> Case<R> {
    let mut case = Case::<R> { target: Some(fill(20, B * OUT, 1.0)), ..Case::default() };
    let p = &mut case.parameters;
    p.pre_bias = false;
    p.w_dec = crate::skeleton::parameters::Parameter::new(fill(21, F * OUT, 0.7));
    p.b_dec = crate::skeleton::parameters::Parameter::new(fill(22, OUT, 0.1));
    if skip { case.extra("skip", fill(23, OUT * D, 0.3)) } else { case }
}

#[test]
fn gradients_equal_central_differences() {
    for (skip, batch) in [(false, false), (true, false), (false, true), (true, true)] {
        let (case, learner) = (case::<f64>(skip), || chosen(skip, batch));
        let outcome = case.run(&mut learner());
        let loss = |c: &Case<f64>| c.run(&mut learner()).losses.total;
        golden::central_differences(&case, &outcome.gradients, &[], loss);
        golden::paths_and_lanes(&self::case(skip), &case, || Box::new(learner()));
    }
}

/// The rows themselves as target, and the same weights: an autoencoder without pre-bias.
#[test]
fn the_input_as_target_is_an_autoencoder() {
    let mut case = Case::<f64>::default();
    case.parameters.pre_bias = false;
    let spec = serde_json::json!({ "n_latents": F, "k": 3 });
    let mut top_k: super::super::topk::TopK = serde_json::from_value(spec).unwrap();
    let expected = case.run(&mut top_k);
    let outcome =
        Case { target: Some(case.x.clone()), ..case }.run(&mut Learner { width: D, ..learner(false) });
    assert_eq!(outcome, expected);
}

/// Rows keep k on average, and the threshold of inference lies among what they kept.
#[test]
fn a_batch_shares_its_latents_out() {
    let small = r#"{"kind": "transcoder", "n_latents": 40, "k": 4, "target": "y", "batch": true}"#;
    crate::conformance::check(&serde_json::from_str(small).unwrap());
    let mut by_batch = chosen(false, true);
    assert_eq!(case::<f64>(false).run(&mut by_batch).nnz, 3 * B);
    let Inference::Above(thresholds) = by_batch.inference(1.0) else { panic!("a threshold") };
    assert!(thresholds.len() == 1 && thresholds[0] > 0.0, "{thresholds:?}");
}

/// A code of zeros: the skip alone is linear regression, and a step along its gradient lowers the loss.
#[test]
fn the_skip_is_learned() {
    let mut case = case::<f64>(true);
    let before = case.run(&mut learner(true));
    for (value, g) in case.parameters.extras[0].parameter.value.iter_mut().zip(&before.gradients[4]) {
        *value -= 0.02 * g;
    }
    assert!(case.run(&mut learner(true)).losses.total < before.losses.total);
    close(before.losses.aux, 0.0, 0.0);
}
