//! Spike and slab (GSC, Sheikh, Shelton, Lücke 2014): a cause is on with a probability of its own, and
//! then has a normal value with a mean and a variance of its own.
//!
//! Slabs are independent of each other (a diagonal Ψ). Given which latents are on, their values are
//! normal: `Λ⁻¹ = G/σ² + Ψ⁻¹`, `κ = μ + Λ(q − Gμ)/σ²`, and the values integrate out in closed form.

use super::{
    prior::{MOST_ACTIVE, Prior, View, Weighed},
    sums::Sums,
};
use crate::{learner::Mismatch, state::LearnerState};

/// Of each latent.
#[derive(Debug, Clone, PartialEq)]
pub struct Slab {
    /// Probability that it is on.
    pub pi: Vec<f64>,
    /// Mean of its value then.
    pub mu: Vec<f64>,
    /// Variance of its value then.
    pub psi: Vec<f64>,
}

/// A square with room for the most that can be active.
type Square = [[f64; MOST_ACTIVE]; MOST_ACTIVE];

impl Slab {
    /// Sign-symmetric slabs of variance 1.
    pub fn new(n: usize, pi: f64) -> Self {
        Slab { pi: vec![pi; n], mu: vec![0.0; n], psi: vec![1.0; n] }
    }
}

impl Prior for Slab {
    fn signs(&self) -> &'static [f64] {
        &[1.0]
    }

    fn weigh(&self, view: &View, noise: f64) -> Weighed {
        let n = view.active;
        let (mut precision, mut mu, mut r) = (Square::default(), [0.0; MOST_ACTIVE], [0.0; MOST_ACTIVE]);
        let mut log = 0.0;
        for a in 0..n {
            let h = view.latents[a];
            mu[a] = self.mu[h];
            log += (self.pi[h] / (1.0 - self.pi[h])).ln() - 0.5 * self.psi[h].ln();
            for (entry, gram) in precision[a].iter_mut().zip(&view.gram[a]).take(n) {
                *entry = gram / noise;
            }
            precision[a][a] += 1.0 / self.psi[h];
        }
        for (a, r) in r.iter_mut().enumerate().take(n) {
            let predicted: f64 = (0..n).map(|b| view.gram[a][b] * mu[b]).sum();
            *r = (view.q[a] - predicted) / noise;
        }
        let (cover, log_det) = inverse(&precision, n);
        let (mut mean, mut second, mut fit) = (mu, Square::default(), 0.0);
        for a in 0..n {
            let shift: f64 = (0..n).map(|b| cover[a][b] * r[b]).sum();
            mean[a] += shift;
            fit += r[a] * shift;
        }
        for a in 0..n {
            for b in 0..n {
                second[a][b] = cover[a][b] + mean[a] * mean[b];
            }
        }
        log += view.explained(&mu) / noise + 0.5 * (fit - log_det);
        Weighed { log, mean, second }
    }

    fn log_silence(&self) -> f64 {
        self.pi.iter().map(|pi| (1.0 - pi).ln()).sum()
    }

    /// A latent that hardly ever was on keeps its slab.
    fn update(&mut self, sums: &Sums) {
        let n = self.pi.len();
        for h in 0..n {
            let active = sums.active[h];
            self.pi[h] = (active / sums.rows).clamp(1e-9, 1.0 - 1e-9);
            if active > 1e-9 * sums.rows {
                self.mu[h] = sums.mean[h] / active;
                let spread = sums.second[h * n + h] / active - self.mu[h] * self.mu[h];
                self.psi[h] = spread.max(1e-9 * (1.0 + self.mu[h] * self.mu[h]));
            }
        }
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f64("pi", &self.pi);
        state.push_f64("mu", &self.mu);
        state.push_f64("psi", &self.psi);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let n = self.pi.len();
        (self.pi, self.mu, self.psi) = (state.f64("pi", n)?, state.f64("mu", n)?, state.f64("psi", n)?);
        Ok(())
    }
}

/// The inverse of the upper left `n` by `n` part of a symmetric positive definite `m`, and `log det`:
/// Gauss–Jordan, whose pivots are positive.
fn inverse(m: &Square, n: usize) -> (Square, f64) {
    let (mut m, mut out, mut log_det) = (*m, Square::default(), 0.0);
    (0..n).for_each(|i| out[i][i] = 1.0);
    for i in 0..n {
        let pivot = m[i][i].max(f64::MIN_POSITIVE);
        log_det += pivot.ln();
        for j in 0..n {
            (m[i][j], out[i][j]) = (m[i][j] / pivot, out[i][j] / pivot);
        }
        for other in (0..n).filter(|&other| other != i) {
            let factor = m[other][i];
            for j in 0..n {
                m[other][j] -= factor * m[i][j];
                out[other][j] -= factor * out[i][j];
            }
        }
    }
    (out, log_det)
}
