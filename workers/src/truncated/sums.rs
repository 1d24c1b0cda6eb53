//! What the M-step knows of the rows: sums, so that partitions and passes add up.

use super::posterior::{PairOf, Posterior};
use crate::{
    kernels::{Path, lanes::LaneStarts},
    learner::Mismatch,
    linear::product,
    state::LearnerState,
};

/// Sums over rows of expectations.
#[derive(Debug, Clone, PartialEq)]
pub struct Sums {
    /// Number of rows.
    pub rows: f64,
    /// `Σ‖y‖²`.
    pub squared_norm: f64,
    /// `Σ⟨s ≠ 0⟩`, `[n]`.
    pub active: Vec<f64>,
    /// `Σ⟨v⟩`, `[n]`.
    pub mean: Vec<f64>,
    /// `Σ⟨v·vᵀ⟩`, `[n, n]`.
    pub second: Vec<f64>,
    /// `Σ⟨v⟩ᵀ·y`, `[n, d]`.
    pub cross: Vec<f64>,
    /// `Σ⟨s_a ≠ 0 and s_b ≠ 0⟩`, `[n, n]`; empty for priors that do not ask.
    pub together: Vec<f64>,
}

impl Sums {
    /// Of no rows.
    pub fn zero(n: usize, d: usize) -> Self {
        Sums {
            rows: 0.0,
            squared_norm: 0.0,
            active: vec![0.0; n],
            mean: vec![0.0; n],
            second: vec![0.0; n * n],
            cross: vec![0.0; n * d],
            together: Vec::new(),
        }
    }

    /// Of no rows, for a prior that asks which latents are active together, if `coupled`.
    pub fn start(n: usize, d: usize, coupled: bool) -> Self {
        let together = vec![0.0; if coupled { n * n } else { 0 }];
        Sums { together, ..Sums::zero(n, d) }
    }

    /// Of rows `y`, `[rows, d]`, lane by lane in lane order.
    pub fn of(
        path: Path,
        lanes: LaneStarts,
        posteriors: &[Posterior],
        y: &[f64],
        (n, coupled): (usize, bool),
    ) -> Self {
        let d = y.len() / posteriors.len().max(1);
        let means: Vec<f64> = posteriors.iter().flat_map(|p| &p.mean).copied().collect();
        let mut total = Sums::start(n, d, coupled);
        for lane in lanes.windows(2).filter(|lane| lane[0] < lane[1]) {
            let mut sum = Sums::start(n, 0, coupled);
            for (posterior, y) in posteriors.iter().zip(y.chunks_exact(d)).take(lane[1]).skip(lane[0]) {
                sum.add_row(posterior, y, n);
            }
            total.add(1.0, &sum);
        }
        total.cross = product::cross(path, lanes, (&means, n), (y, d));
        total
    }

    fn add_row(&mut self, posterior: &Posterior, y: &[f64], n: usize) {
        self.rows += 1.0;
        self.squared_norm += y.iter().map(|v| v * v).sum::<f64>();
        self.active.iter_mut().zip(&posterior.active).for_each(|(sum, v)| *sum += v);
        self.mean.iter_mut().zip(&posterior.mean).for_each(|(sum, v)| *sum += v);
        for (h, v) in posterior.squares.iter().enumerate() {
            self.second[h * n + h] += v;
        }
        for &PairOf { a, b, product, .. } in &posterior.pairs {
            self.second[a * n + b] += product;
        }
        if !self.together.is_empty() {
            posterior.active.iter().enumerate().for_each(|(h, v)| self.together[h * n + h] += v);
            posterior.pairs.iter().for_each(|pair| self.together[pair.a * n + pair.b] += pair.together);
        }
    }

    /// `self ← keep·self + other`.
    pub fn add(&mut self, keep: f64, other: &Sums) {
        let add = |sum: &mut [f64], more: &[f64]| {
            sum.iter_mut().zip(more).for_each(|(sum, v)| *sum = keep * *sum + v);
        };
        self.rows = keep * self.rows + other.rows;
        self.squared_norm = keep * self.squared_norm + other.squared_norm;
        add(&mut self.active, &other.active);
        add(&mut self.mean, &other.mean);
        add(&mut self.second, &other.second);
        add(&mut self.cross, &other.cross);
        add(&mut self.together, &other.together);
    }

    /// Adds them to `state`.
    pub fn save(&self, state: &mut LearnerState) {
        state.push_f64("sums.scalars", &[self.rows, self.squared_norm]);
        state.push_f64("sums.active", &self.active);
        state.push_f64("sums.mean", &self.mean);
        state.push_f64("sums.second", &self.second);
        state.push_f64("sums.cross", &self.cross);
        if !self.together.is_empty() {
            state.push_f64("sums.together", &self.together);
        }
    }

    /// Takes them from there.
    ///
    /// # Errors
    /// A tensor is missing or has another length.
    pub fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let scalars = state.f64("sums.scalars", 2)?;
        (self.rows, self.squared_norm) = (scalars[0], scalars[1]);
        self.active = state.f64("sums.active", self.active.len())?;
        self.mean = state.f64("sums.mean", self.mean.len())?;
        self.second = state.f64("sums.second", self.second.len())?;
        self.cross = state.f64("sums.cross", self.cross.len())?;
        if !self.together.is_empty() {
            self.together = state.f64("sums.together", self.together.len())?;
        }
        Ok(())
    }
}
