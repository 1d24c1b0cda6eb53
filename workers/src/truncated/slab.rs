//! Spike and slab (GSC, Sheikh, Shelton, Lücke 2014): a cause is on with a probability of its own, and
//! then has a normal value with a mean and a variance of its own.
//!
//! Slabs are independent of each other (a diagonal Ψ), or have a covariance (a full one). Given which
//! latents are on, their values are normal: `Λ⁻¹ = G/σ² + Ψ_ss⁻¹`, `κ = μ + Λ(q − Gμ)/σ²`, with the part
//! Ψ_ss of Ψ that belongs to them, and the values integrate out in closed form.
//!
//! The M-step of a full Ψ goes entry by entry: `⟨v_a·v_b⟩` of the rows in which both are on, less `μ_a·μ_b`
//! (`ml-uol/prosper` multiplies with the entries of the inverse of `Σ⟨s·sᵀ⟩` where it has to divide by those
//! of `Σ⟨s·sᵀ⟩` itself). Entries then come from different rows: a pair counts as if ten more rows had shown
//! no covariance, and all covariances shrink together until Ψ is positive definite. The likelihood can
//! therefore fall a little from step to step, which it cannot with a diagonal Ψ.

use super::{
    prior::{MOST_ACTIVE, Prior, View, Weighed},
    sums::Sums,
};
use crate::{kernels::Path, learner::Mismatch, linear::solve::Factor, state::LearnerState};

/// Of each latent.
#[derive(Debug, Clone, PartialEq)]
pub struct Slab {
    /// Probability that it is on.
    pub pi: Vec<f64>,
    /// Mean of its value then.
    pub mu: Vec<f64>,
    /// Variance of its value then.
    pub psi: Vec<f64>,
    /// Covariances of the values of latents that are on together, `[n, n]`, with the variances on the
    /// diagonal; empty if slabs are independent.
    pub full: Vec<f64>,
}

/// Rows without covariance that every pair of latents starts with.
const UNSEEN: f64 = 10.0;

/// How often covariances are halved before they are given up.
const HALVINGS: usize = 20;

/// A square with room for the most that can be active.
type Square = [[f64; MOST_ACTIVE]; MOST_ACTIVE];

impl Slab {
    /// Sign-symmetric slabs of variance 1.
    pub fn new(n: usize, pi: f64) -> Self {
        Slab { pi: vec![pi; n], mu: vec![0.0; n], psi: vec![1.0; n], full: Vec::new() }
    }

    /// The same with room for covariances, 0 at the start.
    pub fn coupled(n: usize, pi: f64) -> Self {
        let full = (0..n * n).map(|i| f64::from(u8::from(i % (n + 1) == 0))).collect();
        Slab { full, ..Slab::new(n, pi) }
    }

    /// `Ψ_ss⁻¹` of the latents of a view, and the terms of `log det Ψ_ss`.
    fn inverse_of(&self, view: &View) -> (Square, [f64; MOST_ACTIVE]) {
        let (mut block, mut logs, n) = (Square::default(), [0.0; MOST_ACTIVE], view.active);
        if self.full.is_empty() {
            for a in 0..n {
                let psi = self.psi[view.latents[a]];
                (block[a][a], logs[a]) = (1.0 / psi, psi.ln());
            }
            return (block, logs);
        }
        for (row, &a) in block.iter_mut().zip(&view.latents[..n]) {
            let of = &self.full[a * self.pi.len()..];
            row.iter_mut().zip(&view.latents[..n]).for_each(|(entry, &b)| *entry = of[b]);
        }
        let (inverse, log_det) = inverse(&block, n);
        logs[0] = log_det;
        (inverse, logs)
    }

    /// New covariances, given new means and variances.
    fn couple(&mut self, sums: &Sums) {
        let n = self.pi.len();
        let mut off = vec![0.0; n * n];
        for (i, off) in off.iter_mut().enumerate().filter(|(i, _)| i / n != i % n) {
            let (a, b) = (i / n, i % n);
            *off =
                (sums.second[i] - sums.together[i] * self.mu[a] * self.mu[b]) / (sums.together[i] + UNSEEN);
        }
        let mut share = 1.0;
        for _ in 0..HALVINGS {
            self.full = off.iter().map(|v| share * v).collect();
            (0..n).for_each(|h| self.full[h * (n + 1)] = self.psi[h]);
            if Factor::of(Path::best(), &self.full, n).is_some() {
                return;
            }
            share *= 0.5;
        }
        self.full.fill(0.0);
        (0..n).for_each(|h| self.full[h * (n + 1)] = self.psi[h]);
    }
}

impl Prior for Slab {
    fn signs(&self) -> &'static [f64] {
        &[1.0]
    }

    fn weigh(&self, view: &View, noise: f64) -> Weighed {
        let n = view.active;
        let (mut precision, mut mu, mut r) = (Square::default(), [0.0; MOST_ACTIVE], [0.0; MOST_ACTIVE]);
        let (slabs, logs) = self.inverse_of(view);
        let mut log = 0.0;
        for a in 0..n {
            let h = view.latents[a];
            mu[a] = self.mu[h];
            log += (self.pi[h] / (1.0 - self.pi[h])).ln() - 0.5 * logs[a];
            let terms = precision[a].iter_mut().zip(&view.gram[a]).zip(&slabs[a]);
            terms.take(n).for_each(|((entry, gram), slab)| *entry = gram / noise + slab);
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

    fn coupled(&self) -> bool {
        !self.full.is_empty()
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
        if self.coupled() {
            self.couple(sums);
        }
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f64("pi", &self.pi);
        state.push_f64("mu", &self.mu);
        state.push_f64("psi", &self.psi);
        if self.coupled() {
            state.push_f64("psi.full", &self.full);
        }
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let n = self.pi.len();
        if self.coupled() {
            self.full = state.f64("psi.full", n * n)?;
        }
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
