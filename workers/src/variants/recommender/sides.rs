//! A learner of single vectors that takes rows of two: the two halves of a row are rows of their own.

use super::PairDictionary;
use crate::{
    learner::{ActivationBatch, BatchFacts, DictLearner, Dictionary, Mismatch, Scales, StepReport},
    state::LearnerState,
    threads::Threads,
};

/// `[rows, 2d]` is `[2·rows, d]`, without a copy.
pub(super) struct TwoSided<L> {
    inner: L,
    threads: Threads,
}

impl<L: DictLearner> TwoSided<L> {
    pub(super) fn new(inner: L, threads: Threads) -> Self {
        TwoSided { inner, threads }
    }
}

impl<L: DictLearner> DictLearner for TwoSided<L> {
    fn d_in(&self) -> usize {
        2 * self.inner.d_in()
    }

    fn n_latents(&self) -> usize {
        2 * self.inner.n_latents()
    }

    /// What is reported is about rows of the table: their number and scatter.
    fn step(&mut self, batch: &ActivationBatch) -> StepReport {
        let lanes: Vec<usize> = batch.lanes.iter().map(|end| 2 * end).collect();
        let report = self.inner.step(&ActivationBatch::new(batch.x, &lanes));
        let facts = || BatchFacts::of(batch.x, self.d_in(), batch.lanes, &self.threads);
        let scatter = if batch.rows() == 0 { 0.0 } else { batch.facts.unwrap_or_else(facts).scatter };
        StepReport { rows: batch.rows() as u64, scatter, dead: 2 * report.dead, ..report }
    }

    fn freeze(&self, scales: &Scales) -> Box<dyn Dictionary> {
        let scale = |side: usize| scales.inputs.get(side).copied().unwrap_or_else(|| scales.first());
        Box::new(PairDictionary::new([0, 1].map(|side| self.inner.freeze(&Scales::of(scale(side))))))
    }

    fn save(&self) -> LearnerState {
        self.inner.save()
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        self.inner.load(state)
    }
}
