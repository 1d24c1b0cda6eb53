//! Rows of a shard, encoded by the frozen dictionaries on a thread of their own, in storage order.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
    sync::Arc,
};

use atomflow_workers::{
    codes::Codes,
    learner::Dictionary,
    stats::{RowSplit, StatsSpec},
};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{accumulate::Harvest, read::Ready};
use crate::{
    Error, Result,
    chooser::Hold,
    flow::{Accountable, Capability, NoopBuilder, Operator, Pipeline, Stream, SyncActivator},
    source::{Decoded, Verdict},
    stop::Stop,
};

/// A dictionary at harvest.
#[derive(Clone)]
pub struct Harvester {
    /// Number of its learner in the job.
    pub learner: usize,
    /// The dictionary.
    pub dictionary: Arc<dyn Dictionary>,
    /// Its values among those of a row.
    pub column: Range<usize>,
    /// What is counted.
    pub statistics: StatsSpec,
    /// What it runs on.
    pub hold: Hold,
    /// Shards that are committed already.
    pub done: BTreeSet<u32>,
}

/// One row group on its way through harvest: first the share of each dictionary, then once without
/// one, which says that it is through. Holds its share of the read budget until the last is dropped.
#[derive(Debug, Default)]
pub struct HarvestRows {
    /// The row group, its rows and verdicts; or why it could not be used.
    pub read: Option<Arc<Ready<super::read::Rows>>>,
    /// What one dictionary made of it.
    pub share: Option<Share>,
}

/// What one dictionary made of a row group.
#[derive(Debug)]
pub struct Share {
    /// Place of the dictionary among the harvesters.
    pub harvester: usize,
    /// Codes of all rows, filtered ones included; empty where the row group could not be used.
    pub codes: Codes,
    /// Reconstructions, `[rows, d_in]`.
    pub x_hat: Vec<f32>,
    /// The rows it saw, `[rows, d_in]`, where they are not whole rows.
    pub x: Option<Vec<f32>>,
}

impl HarvestRows {
    /// A row group that was read.
    pub(crate) fn new(ready: Ready<super::read::Rows>) -> Self {
        HarvestRows { read: Some(Arc::new(ready)), share: None }
    }

    /// Rows and verdicts, where the row group could be used.
    pub fn rows(&self) -> Option<&(Decoded, Vec<Verdict>)> {
        self.read.as_ref().and_then(|read| read.value.as_ref().ok())
    }
}

impl Accountable for HarvestRows {
    fn record_count(&self) -> i64 {
        1
    }
}

/// How a verdict counts in statistics.
pub fn split_of(verdict: Verdict) -> RowSplit {
    match verdict {
        Verdict::Train => RowSplit::Train,
        Verdict::HeldOut => RowSplit::HeldOut,
        Verdict::Bad => RowSplit::Bad,
        _ => RowSplit::Dropped,
    }
}

/// Encodes and decodes each row group on a thread of its own; results come back in order.
pub(crate) fn encode<'s>(
    rows: Stream<'s, u64, HarvestRows>,
    harvest: &Harvest,
    stop: Stop,
) -> Stream<'s, u64, HarvestRows> {
    let (scope, harvest) = (rows.scope(), harvest.clone());
    rows.unary_frontier::<NoopBuilder<HarvestRows>, _, _, _>(Pipeline, "Encode", move |capability, info| {
        drop(capability);
        let waker = || scope.worker().sync_activator_for(info.address.to_vec());
        stop.register(waker());
        let thread = start(harvest, stop.clone(), waker());
        let mut held: VecDeque<Capability<u64>> = VecDeque::new();
        move |(input, _frontier), output| {
            let Ok((to_thread, from_thread)) = &thread else {
                return stop.fail(Error::retry("cannot start the encoder thread"));
            };
            input.for_each(|time, rows| {
                held.push_back(time.retain(0));
                // Unbounded in form, bounded by the read budget that every row group carries.
                if to_thread.send(std::mem::take(rows)).is_err() {
                    stop.fail(Error::bug("the encoder thread ended early"));
                }
            });
            if stop.is_set() {
                return held.clear();
            }
            while let Ok(mut rows) = from_thread.try_recv() {
                let through = rows.share.is_none();
                if let Some(capability) = held.front() {
                    output.session_with_builder(capability).give_container(&mut rows);
                }
                if through {
                    held.pop_front();
                }
            }
        }
    })
}

type Channels = (Sender<HarvestRows>, Receiver<HarvestRows>);

fn start(harvest: Harvest, stop: Stop, waker: SyncActivator) -> Result<Channels> {
    let (to_thread, inbox) = crossbeam_channel::unbounded::<HarvestRows>();
    // Codes and reconstructions of two dictionaries wait at most, however many there are.
    let (outbox, from_thread) = bounded(2);
    let send = move |rows| {
        let sent = outbox.send(rows).is_ok();
        let _gone = waker.activate();
        sent
    };
    let run = move || {
        for rows in inbox {
            let mut shares = (0..harvest.harvesters.len()).filter_map(|at| share(&harvest, at, &rows, &stop));
            let part = |share| HarvestRows { read: rows.read.clone(), share: Some(share) };
            if !(shares.all(|share| send(part(share))) && send(rows)) {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("encode".to_owned()).spawn(run);
    thread.map_err(|e| Error::retry(format!("cannot start the encoder thread: {e}")))?;
    Ok((to_thread, from_thread))
}

/// What one dictionary makes of a row group; `None` if it does not need it.
fn share(harvest: &Harvest, at: usize, rows: &HarvestRows, stop: &Stop) -> Option<Share> {
    let harvester = &harvest.harvesters[at];
    let shard = rows.read.as_ref()?.task.shard;
    if harvester.done.contains(&shard) || harvest.failures.has(harvester.learner) {
        return None;
    }
    let Some((decoded, _)) = rows.rows() else {
        return Some(Share { harvester: at, codes: Codes::default(), x_hat: Vec::new(), x: None });
    };
    let encoded = harvest.failures.shield(|| encoded(harvester, at, decoded));
    encoded.map_err(|error| harvest.failures.add(harvester.learner, error, stop)).ok()
}

fn encoded(harvester: &Harvester, at: usize, decoded: &Decoded) -> Share {
    let (column, width) = (&harvester.column, decoded.x.len() / decoded.rows.max(1));
    let part = |row: &[f32]| row[column.clone()].to_vec();
    let x =
        (column.len() < width).then(|| decoded.x.chunks_exact(width).flat_map(part).collect::<Vec<f32>>());
    let seen = x.as_deref().unwrap_or(&decoded.x);
    let codes = harvester.hold.run(decoded.rows, || harvester.dictionary.encode(seen));
    let mut x_hat = vec![0f32; seen.len()];
    harvester.dictionary.decode(&codes, &mut x_hat);
    Share { harvester: at, codes, x_hat, x }
}
