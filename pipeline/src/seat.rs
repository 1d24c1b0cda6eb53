//! One learner while it learns: which part of a row it sees, at which scale, and what its window came to.

use std::ops::Range;

use atomflow_workers::{
    learner::{ActivationBatch, BatchFacts, DictLearner, StepReport},
    threads::Threads,
};

use crate::{Error, Result, chooser::Hold, operators::shuffle::LaneRows};

/// What a learner sees of a row: some of its values, multiplied by a constant.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its values among those of a row.
    pub column: Range<usize>,
    /// They are multiplied by this.
    pub scale: f32,
    /// Values of a whole row.
    pub width: usize,
}

/// The rows of one step as some learners see them.
#[derive(Debug)]
pub struct Batch {
    /// How they see them.
    pub view: View,
    x: Vec<f32>,
    starts: Vec<usize>,
    /// What several learners would otherwise each work out.
    facts: Option<BatchFacts>,
}

/// A learner on the device thread.
pub struct Seat {
    /// Its number in the job.
    pub learner: usize,
    /// What it sees.
    pub view: View,
    /// Sums over the steps of the window; `lr`, `dead` and the losses are those of its last step.
    pub sums: StepReport,
    /// How errors call its table in the spec.
    pub field: String,
    /// The learner.
    pub dictionary: Box<dyn DictLearner>,
    /// What it runs on.
    pub hold: Hold,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seat")
            .field("learner", &self.learner)
            .field("view", &self.view)
            .finish_non_exhaustive()
    }
}

impl Seat {
    /// Begins a window.
    pub(crate) fn open(&mut self) {
        self.sums = StepReport::default();
    }

    /// Learns from one batch, which is step `number` of the run, counted from 1.
    ///
    /// # Errors
    /// The loss is not finite: whatever is learned from here on means nothing.
    pub(crate) fn step(&mut self, batch: &Batch, number: u64) -> Result<()> {
        let rows = batch.rows();
        let report = self.hold.run(rows.rows(), || self.dictionary.step(&rows));
        if !(report.loss.is_finite() && report.squared_error.is_finite()) {
            return Err(Error::spec(format!("diverged at step {number}: the loss is not finite"))
                .field(format!("{}.schedule.lr", self.field))
                .hint("lower schedule.lr"));
        }
        self.sums = StepReport {
            rows: self.sums.rows + report.rows,
            nnz: self.sums.nnz + report.nnz,
            squared_error: self.sums.squared_error + report.squared_error,
            scatter: self.sums.scatter + report.scatter,
            ..report
        };
        Ok(())
    }
}

impl Batch {
    fn rows(&self) -> ActivationBatch<'_> {
        let rows = ActivationBatch::new(&self.x, &self.starts);
        self.facts.map_or(rows, |facts| rows.with_facts(facts))
    }

    /// Works out what all learners of this batch ask for.
    fn study(&mut self, threads: &Threads) {
        if !self.x.is_empty() {
            self.facts = Some(BatchFacts::of(&self.x, self.view.column.len(), &self.starts, threads));
        }
    }
}

/// Step `step` of every lane, once for each way in which learners see it.
pub(crate) fn batches(seats: &[&mut Seat], lanes: &[LaneRows], step: usize, threads: &Threads) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for seat in seats {
        if batches.iter().all(|batch| batch.view != seat.view) {
            let mut batch = batch(seat.view.clone(), lanes, step);
            batch.study(threads);
            batches.push(batch);
        }
    }
    batches
}

/// Step `step` of every lane, one after the other, and where each lane starts.
fn batch(view: View, lanes: &[LaneRows], step: usize) -> Batch {
    let (mut x, mut starts) = (Vec::new(), vec![0]);
    for lane in lanes {
        let rows = lane.starts[step] * view.width..lane.starts[step + 1] * view.width;
        for row in lane.x[rows].chunks_exact(view.width) {
            x.extend(row[view.column.clone()].iter().map(|v| v * view.scale));
        }
        starts.push(x.len() / view.column.len());
    }
    Batch { view, x, starts, facts: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_takes_its_column_and_scale() {
        let x = (0..12u8).map(f32::from).collect();
        let lanes = [LaneRows { window: 0, lane: 0, x, starts: vec![0, 1, 4] }];
        let view = View { column: 1..3, scale: 2.0, width: 3 };
        let batch = batch(view, &lanes, 1);
        assert_eq!(batch.x, [8.0, 10.0, 14.0, 16.0, 20.0, 22.0]);
        assert_eq!(batch.starts, [0, 3]);
    }
}
