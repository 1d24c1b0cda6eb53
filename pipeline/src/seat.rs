//! One learner while it learns: which part of a row it sees, at which scale, and what its window came to.

use std::sync::Arc;

use atomflow_workers::{
    card::Card,
    learner::{DictLearner, StepReport},
    skeleton::outside::Outside,
};

use crate::{
    Error, Result,
    batch::{Batch, View},
    chooser::Hold,
};

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
        let rows = batch.rows(self.card.as_ref());
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

#[cfg(test)]
mod tests {
    use atomflow_workers::{
        card::{
            Arithmetic, Encodes, OnCard,
            wire::{Outgoing, Sent},
        },
        learner::{ActivationBatch, Dictionary, Mismatch, Scales},
        skeleton::{FrozenParameters, Inference, parameters::Parameters},
        state::LearnerState,
        threads::Threads,
    };

    use super::*;
    use crate::{
        batch::{Watcher, batches},
        operators::shuffle::LaneRows,
        sight::Sight,
    };

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
        fn send(&self, _: &Outgoing, _: &Threads) -> Sent {
            Sent(Arc::new(()))
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
        let threads = Threads::new(1).unwrap();
        let seat = |card| Seat {
            learner: 0,
            view: view.clone(),
            sums: StepReport::default(),
            field: "learner".to_owned(),
            dictionary: Box::new(Content),
            hold: Hold::new(&threads),
            card,
            outside: None,
        };
        let step = |mut seat: Seat| {
            let watcher = Watcher::from(&seat);
            seat.step(&batches(&[&watcher], &lanes, 0, &threads)[0], 1)
        };
        assert!(step(seat(None)).is_ok());
        let error = step(seat(Some(Arc::new(Gone) as _))).unwrap_err();
        assert_eq!(error.kind, crate::error::Kind::Retry);
        assert!(error.message().contains("fell off the bus"), "{error}");
    }
}
