//! The two dataflows, whole. They share source and decode; they are two short functions, not one with flags.

use std::sync::Arc;

use crate::{
    device::{DeviceHandle, WINDOWS_AHEAD},
    flow::{ConnectLoop, Feedback, Worker},
    operators::{
        accumulate::{Harvest, accumulate},
        block::{Block, rows_per_block},
        encode::{HarvestRows, encode},
        read::{Reader, Rows, Task, source},
        shuffle::shuffle,
        train::train,
    },
    plan::{Plan, Window},
    source::{Decoded, Verdict},
};

/// What training needs on every worker.
#[derive(Debug, Clone)]
pub struct Training {
    /// Fetches, decodes, filters.
    pub reader: Reader,
    /// The order of all rows.
    pub plan: Arc<Plan>,
    /// First window that is not trained yet.
    pub first_window: u64,
    /// Where lanes go.
    pub device: DeviceHandle,
}

/// Row groups → rows in their slots → complete lanes → the device. Time is the window.
pub(crate) fn train_graph(worker: &mut Worker, training: &Training) {
    let (index, peers) = (worker.index(), worker.peers());
    let Training { reader, plan, first_window, device } = training.clone();
    let (d_in, stop) = (reader.manifest.d_in, reader.stop.clone());
    worker.dataflow::<u64, _, _>(|scope| {
        // Data-free: only its frontier matters. It lets the source run two windows ahead, no more.
        let (trained, progress) = scope.feedback::<Vec<()>>(0);
        let slots = Arc::clone(&plan);
        let place = move |task: &Task, rows: Rows| {
            let window = &slots.windows[usize::try_from(task.time).unwrap_or(usize::MAX)];
            Ok(blocks(rows, window, task.first_row, (slots.lanes, peers), d_in))
        };
        let tasks = window_tasks(Arc::clone(&plan), first_window, index, peers);
        let start = |waker| reader.start(tasks, place, waker);
        let flow = Some((progress, WINDOWS_AHEAD));
        let blocks = source(scope, flow, first_window, start, |ready| ready.value, stop.clone());
        let lanes = shuffle(blocks, plan, d_in, first_window, (index, peers), stop.clone());
        train(lanes, device, stop).connect_loop(trained);
    });
}

/// Row groups → codes → statistics and candidates, one partial per shard and learner. Time is the shard.
pub(crate) fn harvest_graph(worker: &mut Worker, reader: &Reader, harvest: &Harvest) {
    let (index, peers) = (worker.index(), worker.peers());
    let (reader, harvest, stop) = (reader.clone(), harvest.clone(), reader.stop.clone());
    worker.dataflow::<u64, _, _>(|scope| {
        let tasks = shard_tasks(&reader, &harvest.shards, index, peers);
        let start = |waker| reader.start(tasks.into_iter(), |_, rows| Ok(rows), waker);
        let give = |ready| vec![HarvestRows::new(ready)];
        let rows = source(scope, None, 0, start, give, stop.clone());
        let encoded = encode(rows, &harvest, stop.clone());
        accumulate(encoded, harvest, stop);
    });
}

/// The row groups this worker reads for training: every `peers`-th of each window.
pub(crate) fn window_tasks(
    plan: Arc<Plan>,
    first: u64,
    index: usize,
    peers: usize,
) -> impl Iterator<Item = Task> + Send {
    (first..plan.windows.len() as u64).flat_map(move |time| {
        let window = &plan.windows[usize::try_from(time).unwrap_or(usize::MAX)];
        let mine = window.groups.iter().skip(index).step_by(peers);
        mine.map(|g| Task { time, shard: g.shard, row_group: g.row_group, first_row: g.first_row })
            .collect::<Vec<_>>()
    })
}

/// The row groups this worker harvests: every `peers`-th of the shards that are not done, in storage order.
fn shard_tasks(reader: &Reader, shards: &[u32], index: usize, peers: usize) -> Vec<Task> {
    let mut tasks = Vec::new();
    for &shard in shards.iter().skip(index).step_by(peers) {
        let mut first_row = 0;
        let groups = &reader.manifest.shards[shard as usize].row_groups;
        for (row_group, group) in (0u32..).zip(groups) {
            tasks.push(Task { time: u64::from(shard), shard, row_group, first_row });
            first_row += group.rows;
        }
    }
    tasks
}

/// Rows that train, in blocks for the workers that own their lanes.
fn blocks(
    rows: Rows,
    window: &Window,
    first_row: u64,
    (lanes, peers): (usize, usize),
    d_in: usize,
) -> Vec<Block> {
    let Ok((Decoded { x, .. }, verdicts)) = rows else { return Vec::new() };
    let limit = rows_per_block(d_in);
    let fresh =
        |worker: usize| Block { worker: u32::try_from(worker).unwrap_or(u32::MAX), ..Block::default() };
    let mut open: Vec<Block> = (0..peers).map(fresh).collect();
    let mut full = Vec::new();
    for (row, x) in x.chunks_exact(d_in).enumerate().filter(|&(row, _)| verdicts[row] == Verdict::Train) {
        let slot = window.slot(first_row + row as u64, lanes);
        let owner = slot.lane as usize % peers;
        open[owner].slots.push(slot);
        open[owner].x.extend_from_slice(x);
        if open[owner].slots.len() == limit {
            full.push(std::mem::replace(&mut open[owner], fresh(owner)));
        }
    }
    full.extend(open.into_iter().filter(|block| !block.slots.is_empty()));
    full
}
