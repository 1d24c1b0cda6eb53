//! Rows of a shard, encoded by the frozen dictionaries on a thread of their own, in storage order.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use atomflow_workers::{card::Card, learner::Dictionary, stats::StatsSpec};
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    accumulate::Harvest,
    read::{Ready, Rows},
    share::{Open, Share},
};
use crate::{
    Error, Result,
    chooser::Hold,
    flow::{Accountable, Capability, NoopBuilder, Operator, Pipeline, Stream, SyncActivator},
    seat::present,
    sight::Sight,
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
    /// The same with its own encoder, where a coder finds the codes: what held-out rows are measured with, too.
    pub encoder: Option<Arc<dyn Dictionary>>,
    /// What it sees of a row.
    pub sight: Sight,
    /// What is counted.
    pub statistics: StatsSpec,
    /// What it runs on.
    pub hold: Hold,
    /// The card it encodes on, if that is not the CPU.
    pub card: Option<Arc<dyn Card>>,
    /// Shards that are committed already.
    pub done: BTreeSet<u32>,
}

/// One row group on its way through harvest: first the share of each dictionary, then once without
/// one, which says that it is through. Holds its share of the read budget until the last is dropped.
#[derive(Debug, Default)]
pub struct HarvestRows {
    /// The row group, its rows and verdicts; or why it could not be used.
    pub read: Option<Arc<Ready<Rows>>>,
    /// What one dictionary made of it.
    pub share: Option<Share>,
}

impl HarvestRows {
    /// A row group that was read.
    pub(crate) fn new(ready: Ready<Rows>) -> Self {
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
        let mut open: Vec<Open> = harvest.harvesters.iter().map(|_| None).collect();
        for rows in inbox {
            let shares = open.iter_mut().enumerate();
            let mut shares = shares.filter_map(|(at, open)| share(&harvest, at, open, &rows, &stop));
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
fn share(harvest: &Harvest, at: usize, open: &mut Open, rows: &HarvestRows, stop: &Stop) -> Option<Share> {
    let harvester = &harvest.harvesters[at];
    let read = rows.read.as_ref()?;
    if harvester.done.contains(&read.task.shard) || harvest.failures.has(harvester.learner) {
        return None;
    }
    let made = harvest.failures.shield(|| Share::of(harvester, at, open, read)).and_then(|made| made);
    // Codes of a card that is gone are empty, and look like codes.
    if let Err(error) = present(harvester.card.as_ref()) {
        stop.fail(error);
        return None;
    }
    made.map_err(|error| harvest.failures.add(harvester.learner, error, stop)).ok()
}
