//! What a model says about hidden causes: the part in which BSC, TSC and GSC differ.

use std::fmt::Debug;

use super::sums::Sums;
use crate::{learner::Mismatch, state::LearnerState};

/// The most latents that are active together.
pub const MOST_ACTIVE: usize = 6;

/// A few active latents of one row, as the data see them.
#[derive(Debug, Clone, Copy, Default)]
pub struct View {
    /// How many are active.
    pub active: usize,
    /// Which.
    pub latents: [usize; MOST_ACTIVE],
    /// Their signs.
    pub signs: [f64; MOST_ACTIVE],
    /// `⟨y, W_h⟩` of each.
    pub q: [f64; MOST_ACTIVE],
    /// `⟨W_h, W_h′⟩` of each two.
    pub gram: [[f64; MOST_ACTIVE]; MOST_ACTIVE],
}

impl View {
    /// `(2·v·q − v·G·v)/2`: what values `v` add to `−‖y − vW‖²/2`.
    pub fn explained(&self, v: &[f64; MOST_ACTIVE]) -> f64 {
        let row = |a: usize| (0..self.active).map(|b| self.gram[a][b] * v[b]).sum::<f64>();
        (0..self.active).map(|a| v[a] * (self.q[a] - 0.5 * row(a))).sum()
    }
}

/// A state of a row: how probable, and what the values of its active latents are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weighed {
    /// `log p(y, s)` less that of the state in which nothing is active.
    pub log: f64,
    /// Expected values.
    pub mean: [f64; MOST_ACTIVE],
    /// Expected products of two values.
    pub second: [[f64; MOST_ACTIVE]; MOST_ACTIVE],
}

/// A prior over hidden causes and their values.
pub trait Prior: Debug + Clone + Send + Sync + 'static {
    /// The signs an active latent may have.
    fn signs(&self) -> &'static [f64];
    /// Weighs a state; `noise` is σ².
    fn weigh(&self, view: &View, noise: f64) -> Weighed;
    /// `log p` of the state in which nothing is active.
    fn log_silence(&self) -> f64;
    /// Whether the M-step asks which latents are active together.
    fn coupled(&self) -> bool {
        false
    }
    /// The M-step.
    fn update(&mut self, sums: &Sums);
    /// Adds what it knows to `state`.
    fn save(&self, state: &mut LearnerState);
    /// Takes it from there.
    ///
    /// # Errors
    /// A tensor is missing or has another length.
    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch>;
}
