//! The last phase, in which the probe learns beside the dictionary: from the labels of the batches, held
//! near what ridge regression found (`hiyukie/adaptiveK`, phase 3).
//!
//! Minimised is `mean (s − y)² + penalty/rows·‖w‖² + deviation·(‖w − w₀‖ + |c − c₀|)` over the labelled rows
//! of a batch, by Adam. The first two terms are those of the ridge regression per row of its sample (the
//! reference code forgets to divide by the rows), so on that sample nothing pulls. Rounding k lets no
//! gradient of the reconstruction through: dictionary and probe meet in k alone.

use super::Probe;
use crate::{
    kernels::{Real, adam::AdamStep, lanes::LaneStarts, vector},
    learner::Mismatch,
    state::LearnerState,
};

/// What the probe learns from, and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Joint {
    /// What ridge regression found.
    anchor: Probe,
    pub(super) lr: f64,
    pub(super) deviation: f64,
    /// Moments of the weights and, last, of the intercept.
    m: Vec<f64>,
    v: Vec<f64>,
    steps: u64,
}

/// Labelled rows of a batch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Labelled<'a, R> {
    /// `[rows, d]`.
    pub(super) x: &'a [R],
    /// `[rows]`, not finite where nobody knows it; what is read off is this times `unit`.
    pub(super) labels: &'a [R],
    pub(super) unit: f64,
    pub(super) lanes: LaneStarts<'a>,
}

impl Joint {
    pub(super) fn new(anchor: Probe, lr: f64, deviation: f64) -> Self {
        let zeros = vec![0.0; anchor.weights.len() + 1];
        Joint { anchor, lr, deviation, m: zeros.clone(), v: zeros, steps: 0 }
    }

    /// The gradient of what is minimised, with respect to the weights and, last, the intercept; `None` if no
    /// row is labelled. Summed lane by lane.
    pub(super) fn gradient<R: Real>(&self, probe: &Probe, rows: &Labelled<R>) -> Option<Vec<f64>> {
        let d = probe.weights.len();
        let (mut total, mut known) = (vec![0f64; d + 1], 0usize);
        for lane in rows.lanes.windows(2) {
            let mut sum = vec![0f64; d + 1];
            for row in lane[0]..lane[1] {
                let label = rows.labels.get(row).map_or(f64::NAN, |label| label.f64());
                if label.is_finite() {
                    let x = &rows.x[row * d..][..d];
                    let off = probe.read(x) - label * rows.unit;
                    sum.iter_mut().zip(x).for_each(|(sum, &x)| *sum += off * x.f64());
                    sum[d] += off;
                    known += 1;
                }
            }
            vector::add(&sum, &mut total);
        }
        (known > 0).then(|| {
            vector::scale(2.0 / known as f64, &mut total);
            vector::axpy(2.0 * probe.penalty, &probe.weights, &mut total[..d]);
            self.hold(probe, &mut total);
            total
        })
    }

    /// Adds the slope of how far the probe has moved.
    fn hold(&self, probe: &Probe, gradient: &mut [f64]) {
        let off: Vec<f64> = probe.weights.iter().zip(&self.anchor.weights).map(|(w, a)| w - a).collect();
        let far = vector::dot(&off, &off).sqrt();
        if far > 0.0 {
            vector::axpy(self.deviation / far, &off, &mut gradient[..off.len()]);
        }
        let shift = probe.intercept - self.anchor.intercept;
        if shift != 0.0 {
            gradient[off.len()] += self.deviation * shift.signum();
        }
    }

    /// One step of the probe.
    pub(super) fn step<R: Real>(&mut self, probe: &mut Probe, rows: &Labelled<R>) {
        let Some(gradient) = self.gradient(probe, rows) else { return };
        self.steps += 1;
        let mut all = [&probe.weights[..], &[probe.intercept]].concat();
        AdamStep::new(self.lr, self.steps).apply(&gradient, &mut all, &mut self.m, &mut self.v);
        probe.intercept = all.pop().unwrap_or(probe.intercept);
        probe.weights = all;
    }

    pub(super) fn save(&self, state: &mut LearnerState) {
        state.push_f64("joint.anchor", &[&self.anchor.weights[..], &[self.anchor.intercept]].concat());
        state.push_f64("joint.m", &self.m);
        state.push_f64("joint.v", &self.v);
        state.push_u64("joint.steps", &[self.steps]);
    }

    /// What [`Joint::save`] wrote.
    ///
    /// # Errors
    /// A tensor is missing or has another length; nothing is changed then.
    pub(super) fn read(&self, state: &LearnerState) -> Result<Self, Mismatch> {
        let n = self.m.len();
        let mut weights = state.f64("joint.anchor", n)?;
        let intercept = weights.pop().unwrap_or_default();
        let (m, v, steps) =
            (state.f64("joint.m", n)?, state.f64("joint.v", n)?, state.u64("joint.steps", 1)?);
        let anchor = Probe { weights, intercept, penalty: self.anchor.penalty };
        Ok(Joint { anchor, m, v, steps: steps[0], ..*self })
    }
}

#[cfg(test)]
mod tests;
