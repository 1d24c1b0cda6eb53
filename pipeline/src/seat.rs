//! One learner while it learns: which part of a row it sees, at which scale, and what its window came to.

use std::{ops::Range, sync::Arc};

use atomflow_workers::{
    card::Card,
    learner::{ActivationBatch, BatchFacts, DictLearner, Scales, StepReport},
    skeleton::outside::Outside,
    threads::Threads,
};
use rayon::prelude::*;

use crate::{Error, Result, chooser::Hold, operators::shuffle::LaneRows, sight::Sight};

/// What a learner sees of a row: some of its values, multiplied by a constant per column.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Its values among those of a row.
    pub sight: Sight,
    /// What they are multiplied by.
    pub scales: Scales,
}

impl View {
    /// What is seen of `rows`: the inputs one after the other, `[rows, d_in]`, and each column beside
    /// them, `[rows, width]`.
    pub(crate) fn of(&self, rows: &[&[f32]]) -> (Vec<f32>, Vec<Vec<f32>>) {
        let inputs: Vec<Scaled> = self.sight.inputs.iter().zip(&self.scales.inputs).collect();
        let beside = self.sight.beside.iter().zip(&self.scales.beside);
        let beside = beside.map(|((column, _), scale)| scaled(rows, &[(column, scale)])).collect();
        (scaled(rows, &inputs), beside)
    }
}

/// Some values of a row, and what they are multiplied by.
type Scaled<'a> = (&'a Range<usize>, &'a f32);

/// These columns of `rows` beside each other. On all threads: every other one waits for the step's rows.
fn scaled(rows: &[&[f32]], columns: &[Scaled]) -> Vec<f32> {
    let width: usize = columns.iter().map(|(column, _)| column.len()).sum();
    let mut x = vec![0.0; rows.len() * width];
    x.par_chunks_mut(width.max(1)).zip(rows).with_min_len(CHUNK_ROWS).for_each(|(mut out, row)| {
        for (column, scale) in columns {
            let (here, rest) = out.split_at_mut(column.len());
            here.iter_mut().zip(&row[(*column).clone()]).for_each(|(out, v)| *out = v * *scale);
            out = rest;
        }
    });
    x
}

/// Rows that a thread takes at once.
const CHUNK_ROWS: usize = 256;

/// The rows of one step as some learners see them.
#[derive(Debug)]
pub struct Batch {
    /// How they see them.
    pub view: View,
    x: Vec<f32>,
    beside: Vec<Vec<f32>>,
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
    /// The card it learns on, if that is not the CPU.
    pub card: Option<Arc<dyn Card>>,
    /// Who computes its loss, if that is somebody else.
    pub outside: Option<Outside>,
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
        let report = match self.card {
            None => self.hold.run(rows.rows(), || self.dictionary.step(&rows)),
            Some(_) => self.dictionary.step(&rows),
        };
        // Of a card that is gone finite numbers may be left: of others beside it, of a step that was not taken.
        self.present()?;
        if !(report.loss.is_finite() && report.squared_error.is_finite()) {
            return Err(self.why_not_finite(number));
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

/// An error where a learner's card has stopped answering.
///
/// # Errors
/// It has.
pub(crate) fn present(card: Option<&Arc<dyn Card>>) -> Result<()> {
    match card.and_then(|card| card.lost()) {
        None => Ok(()),
        Some(reason) => Err(Error::retry(format!("the card was lost: {reason}"))
            .field("runtime.device")
            .hint("what was committed is safe: `atomflow resume` with runtime.device, runtime.precision and runtime.moments given again, on another card if this one stays away")),
    }
}

impl Seat {
    /// An error where its card has stopped answering: what it says from then on means nothing.
    ///
    /// # Errors
    /// It has.
    pub(crate) fn present(&self) -> Result<()> {
        present(self.card.as_ref())
    }

    fn why_not_finite(&self, number: u64) -> Error {
        if let Some(reason) = self.outside.as_ref().and_then(|outside| outside.failure()) {
            return Error::retry(format!("no loss for step {number}: {reason}"))
                .field(format!("{}.outside", self.field))
                .hint("start the process that computes the loss, then `atomflow resume`");
        }
        Error::spec(format!("diverged at step {number}: the loss is not finite"))
            .field(format!("{}.schedule.lr", self.field))
            .hint("lower schedule.lr")
    }
}

impl Batch {
    fn rows(&self) -> ActivationBatch<'_> {
        let rows = ActivationBatch::new(&self.x, &self.starts).with_beside(&self.beside);
        self.facts.map_or(rows, |facts| rows.with_facts(facts))
    }

    /// Works out what all learners of this batch ask for.
    fn study(&mut self, threads: &Threads) {
        if !self.x.is_empty() {
            self.facts = Some(BatchFacts::of(&self.x, self.view.sight.d_in(), &self.starts, threads));
        }
    }
}

/// Step `step` of every lane, once for each way in which learners see it.
pub(crate) fn batches(seats: &[&mut Seat], lanes: &[LaneRows], step: usize, threads: &Threads) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for seat in seats {
        if batches.iter().all(|batch| batch.view != seat.view) {
            let mut batch = threads.install(|| batch(seat.view.clone(), lanes, step));
            // Cards find out for themselves.
            if seats.iter().any(|other| other.card.is_none() && other.view == batch.view) {
                batch.study(threads);
            }
            batches.push(batch);
        }
    }
    batches
}

/// Step `step` of every lane, one after the other, and where each lane starts.
fn batch(view: View, lanes: &[LaneRows], step: usize) -> Batch {
    let (width, mut starts, mut rows) = (view.sight.width, vec![0], Vec::new());
    for lane in lanes {
        let here = lane.starts[step] * width..lane.starts[step + 1] * width;
        rows.extend(lane.x[here].chunks_exact(width));
        starts.push(rows.len());
    }
    let (x, beside) = view.of(&rows);
    Batch { view, x, beside, starts, facts: None }
}

#[cfg(test)]
mod tests {
    use atomflow_workers::{
        card::{Arithmetic, Encodes, OnCard},
        learner::{Dictionary, Mismatch, Role},
        skeleton::{FrozenParameters, Inference, parameters::Parameters},
        state::LearnerState,
    };

    use super::*;

    #[test]
    fn a_view_takes_its_column_and_scale() {
        let x = (0..12u8).map(f32::from).collect();
        let lanes = [LaneRows { window: 0, lane: 0, x, starts: vec![0, 1, 4] }];
        let sight = Sight::one(3, 1..3);
        let batch = batch(View { sight, scales: Scales::of(2.0) }, &lanes, 1);
        assert_eq!(batch.x, [8.0, 10.0, 14.0, 16.0, 20.0, 22.0]);
        assert_eq!(batch.starts, [0, 3]);
    }

    /// Inputs one after the other, each at its scale, and what is beside them apart.
    #[test]
    fn a_view_of_several_columns() {
        let x = vec![1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0, 7.0, 0.0];
        let lanes = [LaneRows { window: 0, lane: 0, x, starts: vec![0, 2] }];
        let beside = vec![(1..2, Role::Target), (3..4, Role::Label)];
        let sight = Sight { width: 4, inputs: vec![2..3, 0..1], beside };
        let scales = Scales { inputs: vec![2.0, 10.0], beside: vec![0.5, 1.0] };
        let batch = batch(View { sight, scales }, &lanes, 0);
        let rows = batch.rows();
        assert_eq!((rows.x, rows.rows()), (&[6.0, 10.0, 14.0, 50.0][..], 2));
        assert_eq!(rows.beside[0], [1.0, 3.0]);
        assert!(rows.beside[1][0].is_nan() && rows.beside[1][1] == 0.0);
    }

    /// A learner whose steps end well, whatever they are given.
    struct Content;

    impl DictLearner for Content {
        fn d_in(&self) -> usize {
            2
        }
        fn n_latents(&self) -> usize {
            1
        }
        fn step(&mut self, batch: &ActivationBatch) -> StepReport {
            StepReport { rows: batch.rows() as u64, ..StepReport::default() }
        }
        fn freeze(&self, _: &Scales) -> Box<dyn Dictionary> {
            unreachable!("it is not asked")
        }
        fn save(&self) -> LearnerState {
            LearnerState::default()
        }
        fn load(&mut self, _: &LearnerState) -> std::result::Result<(), Mismatch> {
            Ok(())
        }
    }

    /// A card that has stopped answering.
    #[derive(Debug)]
    struct Gone;

    impl Card for Gone {
        fn name(&self) -> String {
            "cuda:0".to_owned()
        }
        fn arithmetic(&self) -> Arithmetic {
            Arithmetic::default()
        }
        fn autoencoder(&self, _: &Parameters<f32>) -> Box<dyn OnCard> {
            unreachable!("it is not asked")
        }
        fn dictionary(&self, _: &FrozenParameters, _: &Inference) -> Option<Box<dyn Encodes>> {
            None
        }
        fn copy(&self, _: usize) {}
        fn multiply(&self, _: usize) {}
        fn lost(&self) -> Option<String> {
            Some("fell off the bus".to_owned())
        }
    }

    /// Numbers that look well do not hide a card that is gone.
    #[test]
    fn a_step_on_a_card_that_is_gone_is_told() {
        let lanes = [LaneRows { window: 0, lane: 0, x: vec![1.0; 4], starts: vec![0, 2] }];
        let view = View { sight: Sight::one(2, 0..2), scales: Scales::of(1.0) };
        let batch = batch(view.clone(), &lanes, 0);
        let seat = |card| Seat {
            learner: 0,
            view: view.clone(),
            sums: StepReport::default(),
            field: "learner".to_owned(),
            dictionary: Box::new(Content),
            hold: Hold::new(&Threads::new(1).unwrap()),
            card,
            outside: None,
        };
        assert!(seat(None).step(&batch, 1).is_ok());
        let error = seat(Some(Arc::new(Gone) as _)).step(&batch, 1).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Retry);
        assert!(error.message().contains("fell off the bus"), "{error}");
    }
}
