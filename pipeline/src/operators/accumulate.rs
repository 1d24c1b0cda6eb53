//! Codes of a shard into its statistics; when the shard is complete, its partial is written and
//! committed, for each dictionary by itself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use atomflow_workers::stats::{Encoded, HarvestBlock, RowSplit, ShardPartial};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::{
    encode::{HarvestRows, Harvester},
    read::{Ready, Rows},
    share::{Counting, Share, split_of, tokens},
};
use crate::{
    Error, Result,
    failures::Failures,
    flow::{Capability, NoopBuilder, Operator, Pipeline, Stream},
    seat::present,
    source::Verdict,
    stop::Stop,
};

/// What became of the rows of a shard. A row of the `shards` table.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCounts {
    /// Rows in the shard.
    pub rows: u64,
    /// Rows that train.
    pub train: u64,
    /// Rows that are held out.
    pub heldout: u64,
    /// Rows left out by position.
    pub dropped_pos: u64,
    /// Rows left out by token id.
    pub dropped_token_id: u64,
    /// Rows left out by norm.
    pub dropped_norm: u64,
    /// Rows without a usable vector.
    pub bad: u64,
    /// Why the whole shard was left out, if it was.
    pub quarantined: Option<String>,
}

/// A shard that has been read to its end.
#[derive(Debug)]
pub struct ShardDone {
    /// Index into the manifest.
    pub shard: u32,
    /// Its statistics; none when it was quarantined.
    pub partial: Option<ShardPartial>,
    /// What became of its rows.
    pub counts: ShardCounts,
}

/// Writes and commits a finished shard of a learner, given by its number in the job.
pub type Save = Arc<dyn Fn(usize, ShardDone) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What harvest needs on every worker.
#[derive(Clone)]
pub struct Harvest {
    /// Shards that some dictionary lacks, ascending.
    pub shards: Arc<Vec<u32>>,
    /// The dictionaries.
    pub harvesters: Arc<Vec<Harvester>>,
    /// Which learners of the job have failed.
    pub failures: Failures,
    /// Where finished shards go.
    pub save: Save,
    /// Where saving runs.
    pub runtime: Handle,
    /// Rows through all dictionaries, for progress.
    pub rows: Arc<AtomicU64>,
}

impl std::fmt::Debug for Harvest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harvest").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// Adds rows to their shard; holds a shard's time until all its partials are committed.
pub(crate) fn accumulate<'s>(
    rows: Stream<'s, u64, HarvestRows>,
    harvest: Harvest,
    stop: Stop,
) -> Stream<'s, u64, Vec<()>> {
    let scope = rows.scope();
    rows.unary_frontier::<NoopBuilder<Vec<()>>, _, _, _>(Pipeline, "Accumulate", move |capability, info| {
        drop(capability);
        stop.register(scope.worker().sync_activator_for(info.address.to_vec()));
        let (saved, finished) = crossbeam_channel::unbounded::<u64>();
        let mut open: BTreeMap<u64, (Shard, Capability<u64>)> = BTreeMap::new();
        let mut saving: BTreeMap<u64, Capability<u64>> = BTreeMap::new();
        move |(input, frontier), _output| {
            input.for_each(|time, rows| {
                let rows = std::mem::take(rows);
                let shard = open.entry(*time.time());
                let (shard, _) = shard.or_insert_with(|| (Shard::default(), time.retain(0)));
                shard.add(&rows, &harvest, &stop);
            });
            if stop.is_set() {
                open.clear();
                return saving.clear();
            }
            while let Some(entry) = open.first_entry().filter(|entry| !frontier.less_equal(entry.key())) {
                let (time, (shard, capability)) = entry.remove_entry();
                saving.insert(time, capability);
                let (harvest, saved, stop) = (harvest.clone(), saved.clone(), stop.clone());
                harvest.runtime.clone().spawn(async move {
                    shard.save(&harvest, &stop).await;
                    let _gone = saved.send(time);
                    stop.wake();
                });
            }
            for time in finished.try_iter() {
                saving.remove(&time);
            }
        }
    })
}

/// A shard being read: a part for each dictionary, by its place among the harvesters.
#[derive(Default)]
struct Shard {
    parts: BTreeMap<usize, Part>,
}

impl Shard {
    fn add(&mut self, rows: &HarvestRows, harvest: &Harvest, stop: &Stop) {
        let Some(read) = rows.read.as_ref() else { return };
        let Some(share) = rows.share.as_ref() else {
            let through = read.value.as_ref().map_or(0, |(decoded, _)| decoded.rows as u64);
            harvest.rows.fetch_add(through, Ordering::Relaxed);
            return;
        };
        let harvester = &harvest.harvesters[share.harvester];
        let part = self.parts.entry(share.harvester).or_insert_with(|| Part::new(share, read.task.shard));
        let added = harvest.failures.shield(|| part.add(read, share));
        if let Err(error) = added.and_then(|added| added) {
            harvest.failures.add(harvester.learner, error, stop);
        }
    }

    /// Finishes, writes and commits beside the worker, one dictionary after the other.
    async fn save(self, harvest: &Harvest, stop: &Stop) {
        for (at, part) in self.parts {
            let Harvester { learner, card, .. } = &harvest.harvesters[at];
            let learner = *learner;
            if stop.is_set() || harvest.failures.has(learner) {
                continue;
            }
            let failures = harvest.failures.clone();
            let finish = move || failures.shield(|| part.finish()).and_then(|done| done);
            let finished = tokio::task::spawn_blocking(finish).await;
            // The last of what a card has counted comes back now.
            if let Err(error) = present(card.as_ref()) {
                return stop.fail(error);
            }
            match finished {
                Ok(Ok(done)) => {
                    if let Err(error) = (harvest.save)(learner, done).await {
                        stop.fail(error);
                    }
                }
                Ok(Err(error)) => harvest.failures.add(learner, error, stop),
                Err(panic) => stop.fail(Error::bug(format!("finishing a shard: {panic}"))),
            }
        }
    }
}

/// What one dictionary has counted of a shard.
struct Part {
    shard: u32,
    counting: Counting,
    counts: ShardCounts,
}

impl Part {
    fn new(share: &Share, shard: u32) -> Self {
        Part { shard, counting: share.counting.clone(), counts: ShardCounts::default() }
    }

    fn add(&mut self, read: &Ready<Rows>, share: &Share) -> Result<()> {
        let (decoded, verdicts) = match &read.value {
            Ok(rows) => rows,
            Err(reason) => {
                self.counts.quarantined.get_or_insert_with(|| reason.to_string());
                return Ok(());
            }
        };
        self.count(verdicts);
        let Some(coded) = &share.coded else { return Ok(()) };
        let split: Vec<RowSplit> = verdicts.iter().map(|&v| split_of(v)).collect();
        let tokens = tokens(decoded, &split, read.task);
        let block = HarvestBlock {
            tokens,
            x: coded.x.as_deref().unwrap_or(&decoded.x),
            x_hat: &coded.x_hat,
            codes: &coded.codes,
            encoded: coded.encoded.as_ref().map(|(codes, x_hat)| Encoded { codes, x_hat }),
        };
        self.counting.add(|statistics| statistics.add(&block))
    }

    fn count(&mut self, verdicts: &[Verdict]) {
        self.counts.rows += verdicts.len() as u64;
        for verdict in verdicts {
            *match verdict {
                Verdict::Train => &mut self.counts.train,
                Verdict::HeldOut => &mut self.counts.heldout,
                Verdict::DroppedPos => &mut self.counts.dropped_pos,
                Verdict::DroppedTokenId => &mut self.counts.dropped_token_id,
                Verdict::DroppedNorm => &mut self.counts.dropped_norm,
                Verdict::Bad => &mut self.counts.bad,
            } += 1;
        }
    }

    /// A shard in quarantine counts nothing.
    fn finish(self) -> Result<ShardDone> {
        let Part { shard, counting, mut counts } = self;
        if counts.quarantined.is_some() {
            counts =
                ShardCounts { rows: counts.rows, quarantined: counts.quarantined, ..ShardCounts::default() };
            return Ok(ShardDone { shard, partial: None, counts });
        }
        let partial = counting.finish()?;
        Ok(ShardDone { shard, partial: Some(partial), counts })
    }
}
