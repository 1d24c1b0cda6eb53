//! What a frozen base misses is learned and the base left alone; a base that does not fit is refused.

use super::*;
use crate::{planted, threads::Threads, variants::LearnerSpec};

fn learn(json: serde_json::Value, setup: &Setup, batches: &[Vec<f32>], steps: usize) -> Box<dyn DictLearner> {
    let spec: LearnerSpec = serde_json::from_value(json).unwrap();
    let mut learner = spec.build(setup).unwrap();
    planted::train(&mut *learner, batches, steps);
    learner
}

fn fvu(dictionary: &dyn Dictionary, x: &[f32]) -> f64 {
    let mut x_hat = vec![0f32; x.len()];
    dictionary.reconstruct(x, &dictionary.encode(x), &mut x_hat);
    let mean = |c: usize| {
        x.chunks(planted::D).map(|row| f64::from(row[c])).sum::<f64>() / (x.len() / planted::D) as f64
    };
    let means: Vec<f64> = (0..planted::D).map(mean).collect();
    let missed: f64 = x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let scatter: f64 =
        x.iter().enumerate().map(|(i, v)| (f64::from(*v) - means[i % planted::D]).powi(2)).sum();
    missed / scatter
}

/// A base that knows the first atoms; the domain has more: the booster finds those, the FVU on the
/// domain falls, and what the base was good at stays as it was.
#[test]
fn the_booster_learns_what_the_base_does_not_know() {
    const OLD: usize = 96;
    let atoms = planted::atoms();
    let (old, new) = (&atoms[..OLD * planted::D], &atoms[OLD * planted::D..]);
    let rows = |atoms: &[f32], n| {
        (0..n).map(|b| planted::rows_of(atoms, planted::D, planted::ROWS, planted::T2, b)).collect::<Vec<_>>()
    };
    let (general, domain) = (rows(old, 24), rows(&atoms, 24));
    let threads = Threads::new(0).unwrap();
    let schedule = serde_json::json!({ "lr": 2e-3 });
    let setup = Setup::plain(&planted::D, 2000, 1, &general[0], threads.clone());
    let base = serde_json::json!({ "kind": "topk", "n_latents": OLD, "k": 4, "schedule": schedule });
    let base = learn(base, &setup, &general, 2000).freeze(&Scales::of(1.0));
    let files =
        base.export().unwrap().into_iter().map(|file| (format!("base/{}", file.name), file.bytes)).collect();
    let setup = Setup { files: &files, ..Setup::plain(&planted::D, 2000, 1, &domain[0], threads) };
    let boost = serde_json::json!({
        "kind": "boost", "n_latents": 32, "k": 2, "base": "base", "schedule": schedule, "dead_after_tokens": 20_000,
    });
    let boosted = learn(boost, &setup, &domain, 2000).freeze(&Scales::of(1.0));
    let (unseen, familiar) =
        (planted::batch(&atoms, 700), planted::rows_of(old, planted::D, planted::ROWS, planted::T2, 701));
    let (before, after) = (fvu(&*base, &unseen), fvu(&*boosted, &unseen));
    println!(
        "domain FVU {before} -> {after}; general {} -> {}",
        fvu(&*base, &familiar),
        fvu(&*boosted, &familiar)
    );
    assert!(after < 0.8 * before, "{before} -> {after}");
    let (mmcs, _) = planted::mmcs(new, boosted.atoms(), planted::D, false);
    assert!(mmcs > 0.8, "MMCS {mmcs}");
}

#[test]
fn a_base_that_is_not_there_or_does_not_fit_is_refused() {
    let spec: Boost =
        serde_json::from_value(serde_json::json!({ "n_latents": 8, "k": 2, "base": "b/" })).unwrap();
    assert_eq!(spec.files(), ["b/cfg.json", "b/sae_weights.safetensors"]);
    let sample = vec![0.5; 4 * 6];
    let plain = || Setup::plain(&6, 10, 1, &sample, Threads::new(1).unwrap());
    assert_eq!(spec.build(&plain()).err().map(|e| e.field), Some("base"));
    let files = spec.files().into_iter().map(|name| (name, b"{}".to_vec())).collect();
    let setup = Setup { files: &files, ..plain() };
    assert!(spec.build(&setup).err().is_some_and(|e| e.reason.contains("layout of SAELens")));
}
