//! Slabs with covariances: the E-step by the definition, the diagonal as a limit, planted covariances.

use super::*;
use crate::{conformance, truncated::prior::Weighed};

/// Covariances that are neither 0 nor as large as they could be.
fn prior() -> Slab {
    let mut prior = Slab::coupled(N, 0.3);
    prior.mu = vec![0.3, -0.2, 0.0, 0.5, 1.0];
    prior.psi = vec![0.5, 1.0, 1.5, 0.8, 0.3];
    let of = |i: usize| {
        let (a, b) = (i / N, i % N);
        let correlation = if a == b { 1.0 } else { 0.4 * ((a + b) as f64).cos() };
        correlation * (prior.psi[a] * prior.psi[b]).sqrt()
    };
    prior.full = (0..N * N).map(of).collect();
    assert!(Factor::of(Path::best(), &prior.full, N).is_some());
    prior
}

#[test]
fn with_all_states_it_is_em_of_coupled_slabs() {
    let (x, prior) = (data(), prior());
    let em = full(prior.clone(), &x);
    let slab = |s: &[f64], h: usize, g: usize| s[h] * s[g] * prior.full[h * N + g];
    // Cov(v_h, y) given s.
    let gain = |s: &[f64], h: usize| -> Vec<f64> {
        (0..D).map(|c| (0..N).map(|g| slab(s, h, g) * em.w[g * D + c]).sum()).collect()
    };
    let cover = |s: &[f64]| -> Vec<f64> {
        let gains: Vec<Vec<f64>> = (0..N).map(|h| gain(s, h)).collect();
        let of = |i: usize| {
            let (a, b) = (i / D, i % D);
            let slabs: f64 = (0..N).map(|h| em.w[h * D + a] * gains[h][b]).sum();
            slabs + if a == b { em.noise } else { 0.0 }
        };
        (0..D * D).map(of).collect()
    };
    let means = |s: &[f64]| s.iter().zip(&prior.mu).map(|(s, m)| s * m).collect::<Vec<f64>>();
    let log_joint = |s: &[f64], y: &[f64]| {
        let prior: f64 = s.iter().map(|&v| if v == 0.0 { 0.7f64.ln() } else { 0.3f64.ln() }).sum();
        prior + log_normal(y, &project(&means(s), &em.w), &cover(s))
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let moments = |s: &[f64], y: &[f64]| {
        let factor = Factor::of(Path::best(), &cover(s), D).unwrap();
        let off: Vec<f64> = y.iter().zip(project(&means(s), &em.w)).map(|(y, m)| y - m).collect();
        let solved = factor.solve(Path::best(), &off, 1);
        let mean: Vec<f64> = (0..N).map(|h| means(s)[h] + dot(&gain(s, h), &solved)).collect();
        let second = |i: usize| {
            let (h, g) = (i / N, i % N);
            let through = factor.solve(Path::best(), &gain(s, g), 1);
            slab(s, h, g) - dot(&gain(s, h), &through) + mean[h] * mean[g]
        };
        (mean.clone(), (0..N * N).map(second).collect::<Vec<f64>>())
    };
    let states = everything(&[0.0, 1.0]);
    same(em.clone(), &x, by_definition(&x, &states, log_joint, moments));
    let both = |s: &[f64], _: &[f64]| (s.to_vec(), (0..N * N).map(|i| s[i / N] * s[i % N]).collect());
    let (together, _) = by_definition(&x, &states, log_joint, both);
    let mut em = em.clone();
    em.learn(&task(&x));
    close(&em.sums.together, &together.second, "together");
}

/// Without covariances, a state is weighed as among independent slabs.
#[test]
fn no_covariance_is_a_diagonal() {
    let mut plain = Slab::new(N, 0.3);
    (plain.mu, plain.psi) = (vec![0.3, -0.2, 0.0, 0.5, 1.0], vec![0.5, 1.0, 1.5, 0.8, 0.3]);
    let mut coupled = Slab { full: vec![0.0; N * N], ..plain.clone() };
    (0..N).for_each(|h| coupled.full[h * (N + 1)] = plain.psi[h]);
    let mut view = View { active: 3, latents: [0, 2, 4, 0, 0, 0], ..View::default() };
    view.q = [0.7, -1.0, 2.0, 0.0, 0.0, 0.0];
    for a in 0..3 {
        for b in 0..3 {
            view.gram[a][b] = if a == b { 1.0 } else { 0.3 };
        }
    }
    let [a, b]: [Weighed; 2] = [plain.weigh(&view, 0.2), coupled.weigh(&view, 0.2)];
    close(&[a.log], &[b.log], "log");
    close(&a.mean, &b.mean, "mean");
    close(&a.second.concat(), &b.second.concat(), "second");
}

/// Two causes whose values go together, and two that go their own ways.
fn together(correlation: f64) -> (Vec<f64>, Vec<f32>) {
    let causes: Vec<f64> = (0..4 * 8).map(|i| 2.0 * normal(&[31, i])).collect();
    let mut x: Vec<f32> = (0..2000 * 8).map(|i| 0.3 * normal(&[32, i as u64]) as f32).collect();
    for (r, row) in x.chunks_mut(8).enumerate() {
        let mut z: Vec<f64> = (0..4).map(|h| normal(&[33, r as u64, h])).collect();
        z[1] = correlation * z[0] + (1.0 - correlation * correlation).sqrt() * z[1];
        for h in 0..4 {
            if unit(hash(&[34, r as u64, h as u64])) < 0.4 {
                row.iter_mut().zip(&causes[h * 8..]).for_each(|(v, c)| *v += ((1.0 + z[h]) * c) as f32);
            }
        }
    }
    (causes, x)
}

/// From the planted causes, the planted covariance is found, and rows are more likely with it.
#[test]
fn a_planted_covariance_is_found() {
    let (causes, x) = together(0.8);
    let learn = |prior: Slab| {
        let spec = EmSpec {
            candidates: 4,
            active: 4,
            keep: 0.0,
            temperature: 1.0,
            jitter: 0.0,
            ..EmSpec::default()
        };
        let spec = EmSpec { centre: false, ..spec };
        let setup = Setup::plain(&8, 40, 3, &x, Threads::new(0).unwrap());
        let mut em = Em::new("test", 4, prior, &spec, &setup);
        (em.w, em.noise) = (causes.clone(), 0.09);
        let mut loss = 0.0;
        for step in 1..=40 {
            let (lanes, path) = (&[0usize, 2000][..], Path::best());
            loss = em.learn(&Task { x: &x, lanes, rows: 2000, scatter: 1.0, step, steps: 40, path }).loss;
        }
        (em.prior, loss)
    };
    let (coupled, with) = learn(Slab::coupled(4, 0.4));
    let (_, without) = learn(Slab::new(4, 0.4));
    let correlation = |a: usize, b: usize| coupled.full[a * 4 + b] / (coupled.psi[a] * coupled.psi[b]).sqrt();
    println!(
        "coupled slabs: correlation {:.3} of 0.8, others {:.3} {:.3}; −log-likelihood {with:.4}, diagonal {without:.4}",
        correlation(0, 1),
        correlation(0, 2),
        correlation(2, 3)
    );
    assert!((correlation(0, 1) - 0.8).abs() < 0.1, "{}", correlation(0, 1));
    assert!(correlation(0, 2).abs() < 0.15 && correlation(2, 3).abs() < 0.15);
    assert!(with < without - 0.02, "{with} and {without}");
}

/// Entries that come from different rows need not be a covariance: they shrink until they are.
#[test]
fn covariances_stay_positive_definite() {
    let mut sums = Sums::start(3, 0, true);
    (sums.rows, sums.active) = (1e6, vec![1e5; 3]);
    sums.together = vec![1e5; 9];
    // Correlations 0.9, 0.9 and −0.9.
    sums.second = [1.0, 0.9, 0.9, 0.9, 1.0, -0.9, 0.9, -0.9, 1.0].map(|v| v * 1e5).to_vec();
    let mut prior = Slab::coupled(3, 0.1);
    prior.update(&sums);
    assert!(Factor::of(Path::best(), &prior.full, 3).is_some());
    assert!((prior.full[1] / prior.full[5] + 1.0).abs() < 1e-12 && prior.full[1] > 0.4);
    close(&[prior.full[0], prior.full[4]], &[1.0, 1.0], "variances");
}

#[test]
fn a_coupled_learner_keeps_every_promise() {
    let table = serde_json::json!({
        "kind": "gsc", "n_latents": 40, "covariance": "full", "em": { "candidates": 6, "active": 3 },
    });
    conformance::check(&serde_json::from_value(table).unwrap());
}
