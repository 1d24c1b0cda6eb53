//! Causes that are on or off (BSC, Henniges et al. 2010), or on with a sign (TSC, Exarchakis et al.
//! 2012), each with the same probability.

use super::{
    prior::{MOST_ACTIVE, Prior, View, Weighed},
    sums::Sums,
};
use crate::{learner::Mismatch, state::LearnerState};

/// Values 0 and 1, or −1, 0 and 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Digits {
    /// Whether −1 is among the values.
    pub signed: bool,
    /// Number of latents.
    pub n: usize,
    /// Probability that a latent is not 0.
    pub pi: f64,
}

impl Prior for Digits {
    fn signs(&self) -> &'static [f64] {
        if self.signed { &[1.0, -1.0] } else { &[1.0] }
    }

    fn weigh(&self, view: &View, noise: f64) -> Weighed {
        let each = (self.pi / self.signs().len() as f64 / (1.0 - self.pi)).ln();
        let mut weighed = Weighed {
            log: view.active as f64 * each + view.explained(&view.signs) / noise,
            mean: view.signs,
            second: [[0.0; MOST_ACTIVE]; MOST_ACTIVE],
        };
        for a in 0..view.active {
            for b in 0..view.active {
                weighed.second[a][b] = view.signs[a] * view.signs[b];
            }
        }
        weighed
    }

    fn log_silence(&self) -> f64 {
        self.n as f64 * (1.0 - self.pi).ln()
    }

    fn update(&mut self, sums: &Sums) {
        let active: f64 = sums.active.iter().sum();
        self.pi = (active / (sums.rows * self.n as f64)).clamp(1e-9, 1.0 - 1e-9);
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f64("pi", &[self.pi]);
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        self.pi = state.f64("pi", 1)?.first().copied().unwrap_or(self.pi);
        Ok(())
    }
}
