//! The rows of one step as learners see them: here, or on the cards they learn on.

use std::sync::Arc;

use atomflow_workers::{
    card::{
        Card,
        wire::{Outgoing, Sent},
    },
    learner::{ActivationBatch, BatchFacts, Scales},
    threads::Threads,
};

use crate::{operators::shuffle::LaneRows, seat::Seat, sight::Sight};

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
        (scaled(&self.inputs(rows)), self.beside(rows))
    }

    fn inputs<'a>(&'a self, rows: &'a [&'a [f32]]) -> Outgoing<'a> {
        Outgoing { rows, columns: &self.sight.inputs, scales: &self.scales.inputs }
    }

    fn beside(&self, rows: &[&[f32]]) -> Vec<Vec<f32>> {
        let columns = self.sight.beside.iter().zip(&self.scales.beside);
        let of = |((column, _), scale): (&(_, _), &f32)| {
            let (columns, scales) = (std::slice::from_ref(column), std::slice::from_ref(scale));
            scaled(&Outgoing { rows, columns, scales })
        };
        columns.map(of).collect()
    }
}

/// On all threads: every other one waits for the step's rows.
fn scaled(rows: &Outgoing) -> Vec<f32> {
    let mut x = vec![0.0; rows.rows.len() * rows.width()];
    rows.scaled(&mut x);
    x
}

/// The rows of one step as some learners see them.
#[derive(Debug)]
pub struct Batch {
    /// How they see them.
    pub view: View,
    /// Empty where none of them reads it.
    x: Vec<f32>,
    beside: Vec<Vec<f32>>,
    starts: Vec<usize>,
    /// What several learners would otherwise each work out.
    facts: Option<BatchFacts>,
    /// The rows on each card where one of them learns.
    sent: Vec<(Arc<dyn Card>, Sent)>,
}

/// A learner as far as its batches are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Watcher {
    pub(crate) learner: usize,
    view: View,
    card: Option<Arc<dyn Card>>,
    /// Whether it reads rows here, wherever it learns.
    reads: bool,
}

impl From<&Seat> for Watcher {
    fn from(seat: &Seat) -> Self {
        let reads = seat.card.is_none() || seat.dictionary.reads_rows();
        Watcher { learner: seat.learner, view: seat.view.clone(), card: seat.card.clone(), reads }
    }
}

impl Watcher {
    pub(crate) fn on_card(&self) -> bool {
        self.card.is_some()
    }
}

impl Batch {
    /// The rows for a learner on `card`, or here.
    pub(crate) fn rows(&self, card: Option<&Arc<dyn Card>>) -> ActivationBatch<'_> {
        let mut rows = ActivationBatch::new(&self.x, &self.starts).with_beside(&self.beside);
        if let Some(facts) = self.facts {
            rows = rows.with_facts(facts);
        }
        let sent = card.and_then(|card| self.sent.iter().find(|(there, _)| Arc::ptr_eq(there, card)));
        sent.map_or(rows, |(_, sent)| rows.with_sent(sent))
    }
}

/// Step `step` of every lane, once for each way in which learners see it. It is on their cards when this returns.
pub(crate) fn batches(
    watchers: &[&Watcher],
    lanes: &[LaneRows],
    step: usize,
    threads: &Threads,
) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for watcher in watchers {
        if batches.iter().all(|batch| batch.view != watcher.view) {
            let alike: Vec<&Watcher> =
                watchers.iter().copied().filter(|other| other.view == watcher.view).collect();
            batches.push(batch(watcher.view.clone(), &alike, lanes, step, threads));
        }
    }
    batches
}

/// Step `step` of every lane, one after the other, and where each lane starts, for learners of the same view.
fn batch(view: View, alike: &[&Watcher], lanes: &[LaneRows], step: usize, threads: &Threads) -> Batch {
    let (width, mut starts, mut rows) = (view.sight.width, vec![0], Vec::new());
    for lane in lanes {
        let here = lane.starts[step] * width..lane.starts[step + 1] * width;
        rows.extend(lane.x[here].chunks_exact(width));
        starts.push(rows.len());
    }
    let (mut x, mut facts) = (Vec::new(), None);
    if alike.iter().any(|watcher| watcher.reads) {
        x = threads.install(|| scaled(&view.inputs(&rows)));
    }
    // Cards find out for themselves.
    if alike.iter().any(|watcher| !watcher.on_card()) {
        facts = (!x.is_empty()).then(|| BatchFacts::of(&x, view.sight.d_in(), &starts, threads));
    }
    let mut sent: Vec<(Arc<dyn Card>, Sent)> = Vec::new();
    for card in alike.iter().filter_map(|watcher| watcher.card.as_ref()).filter(|_| !rows.is_empty()) {
        if !sent.iter().any(|(there, _)| Arc::ptr_eq(there, card)) {
            sent.push((Arc::clone(card), card.send(&view.inputs(&rows), threads)));
        }
    }
    let beside = threads.install(|| view.beside(&rows));
    Batch { view, x, beside, starts, facts, sent }
}

#[cfg(test)]
mod tests {
    use atomflow_workers::learner::Role;

    use super::*;

    fn of(view: View, lanes: &[LaneRows], step: usize) -> Batch {
        let watcher = Watcher { learner: 0, view: view.clone(), card: None, reads: true };
        batch(view, &[&watcher], lanes, step, &Threads::new(2).unwrap())
    }

    #[test]
    fn a_view_takes_its_column_and_scale() {
        let x = (0..12u8).map(f32::from).collect();
        let lanes = [LaneRows { window: 0, lane: 0, x, starts: vec![0, 1, 4] }];
        let sight = Sight::one(3, 1..3);
        let batch = of(View { sight, scales: Scales::of(2.0) }, &lanes, 1);
        assert_eq!(batch.x, [8.0, 10.0, 14.0, 16.0, 20.0, 22.0]);
        assert_eq!(batch.starts, [0, 3]);
    }

    #[test]
    fn a_step_without_rows_is_a_batch() {
        let lanes = [LaneRows { window: 0, lane: 0, x: vec![1.0; 3], starts: vec![0, 0, 1] }];
        let batch = of(View { sight: Sight::whole(3), scales: Scales::of(2.0) }, &lanes, 0);
        assert_eq!((batch.rows(None).rows(), batch.facts), (0, None));
        assert!(batch.rows(None).x.is_empty());
    }

    /// Inputs one after the other, each at its scale, and what is beside them apart.
    #[test]
    fn a_view_of_several_columns() {
        let x = vec![1.0, 2.0, 3.0, f32::NAN, 5.0, 6.0, 7.0, 0.0];
        let lanes = [LaneRows { window: 0, lane: 0, x, starts: vec![0, 2] }];
        let beside = vec![(1..2, Role::Target), (3..4, Role::Label)];
        let sight = Sight { width: 4, inputs: vec![2..3, 0..1], beside };
        let scales = Scales { inputs: vec![2.0, 10.0], beside: vec![0.5, 1.0] };
        let batch = of(View { sight, scales }, &lanes, 0);
        let rows = batch.rows(None);
        assert_eq!((rows.x, rows.rows()), (&[6.0, 10.0, 14.0, 50.0][..], 2));
        assert_eq!(rows.beside[0], [1.0, 3.0]);
        assert!(rows.beside[1][0].is_nan() && rows.beside[1][1] == 0.0);
    }
}
