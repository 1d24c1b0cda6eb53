//! Rows of a window into the slots of their lanes. Where a row lies is the plan's doing, not arrival's.

use std::{collections::BTreeMap, sync::Arc};

use super::block::{Block, ToOwner};
use crate::{
    flow::{Accountable, DistributorPact, NoopBuilder, Operator, Stream},
    plan::{Plan, Window},
    stop::Stop,
};

/// The rows of one lane of one window, complete and in slot order.
#[derive(Debug, Clone, Default)]
pub struct LaneRows {
    /// Window.
    pub window: u64,
    /// Lane.
    pub lane: u32,
    /// Kept rows, `[rows, d_in]`.
    pub x: Vec<f32>,
    /// First row of each step, then the number of rows: `steps + 1` ascending positions.
    pub starts: Vec<usize>,
}

impl Accountable for LaneRows {
    fn record_count(&self) -> i64 {
        1
    }
}

/// Collects the lanes this worker owns (`lane % peers == index`) and lets each go when its window is complete.
pub(crate) fn shuffle<'s>(
    blocks: Stream<'s, u64, Block>,
    plan: Arc<Plan>,
    d_in: usize,
    first_window: u64,
    (index, peers): (usize, usize),
    stop: Stop,
) -> Stream<'s, u64, LaneRows> {
    let pact = DistributorPact(|_peers| ToOwner);
    blocks.unary_frontier::<NoopBuilder<LaneRows>, _, _, _>(pact, "Shuffle", move |capability, _info| {
        let lanes: Vec<usize> = (index..plan.lanes).step_by(peers).collect();
        let mut capability = Some(capability);
        let mut open: BTreeMap<u64, Vec<Lane>> = BTreeMap::new();
        let mut next = first_window;
        move |(input, frontier), output| {
            let fresh = |window: u64| {
                let window = &plan.windows[usize::try_from(window).unwrap_or(usize::MAX)];
                lanes.iter().map(|&lane| Lane::new(window, lane, plan.lanes, d_in)).collect::<Vec<_>>()
            };
            input.for_each(|time, block| {
                let lanes = open.entry(*time.time()).or_insert_with(|| fresh(*time.time()));
                for (row, slot) in block.x.chunks_exact(d_in).zip(&block.slots) {
                    lanes[slot.lane as usize / peers].place(slot.index as usize, row);
                }
            });
            if stop.is_set() {
                capability = None;
            }
            let Some(held) = capability.as_mut() else { return };
            while next < plan.windows.len() as u64 && !frontier.less_equal(&next) {
                held.downgrade(&next);
                let window = &plan.windows[usize::try_from(next).unwrap_or(usize::MAX)];
                for lane in open.remove(&next).unwrap_or_else(|| fresh(next)) {
                    let mut rows = lane.finish(next, window);
                    output.session_with_builder(&*held).give_container(&mut rows);
                }
                next += 1;
            }
            if next == plan.windows.len() as u64 {
                capability = None;
            } else {
                held.downgrade(&next);
            }
        }
    })
}

/// The slots of one lane of one window.
struct Lane {
    lane: usize,
    d_in: usize,
    x: Vec<f32>,
    present: Vec<bool>,
}

impl Lane {
    fn new(window: &Window, lane: usize, lanes: usize, d_in: usize) -> Self {
        let slots = window.lane_rows(lane, lanes);
        Lane { lane, d_in, x: vec![0.0; slots * d_in], present: vec![false; slots] }
    }

    fn place(&mut self, index: usize, row: &[f32]) {
        self.x[index * self.d_in..][..self.d_in].copy_from_slice(row);
        self.present[index] = true;
    }

    /// Closes the gaps that filtered rows left, and cuts the rows into the steps of the window.
    fn finish(mut self, number: u64, window: &Window) -> LaneRows {
        let mut starts = Vec::new();
        let (slots, d, mut kept) = (self.present.len(), self.d_in, 0);
        for step in 0..window.steps {
            starts.push(kept);
            for slot in window.step_start(step, slots)..window.step_start(step + 1, slots) {
                if self.present[slot] {
                    if kept < slot {
                        self.x.copy_within(slot * d..(slot + 1) * d, kept * d);
                    }
                    kept += 1;
                }
            }
        }
        starts.push(kept);
        self.x.truncate(kept * d);
        let lane = u32::try_from(self.lane).unwrap_or(u32::MAX);
        LaneRows { window: number, lane, x: self.x, starts }
    }
}
