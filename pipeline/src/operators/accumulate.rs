//! Codes of a shard into its statistics; when the shard is complete, its partial is written and committed.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use atomflow_workers::stats::{HarvestBlock, RowSplit, ShardPartial, ShardStatistics, StatsSpec};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::encode::{HarvestRows, split_of};
use crate::{
    Error, Result,
    flow::{Capability, NoopBuilder, Operator, Pipeline, Stream},
    source::{Decoded, Verdict},
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

/// Writes and commits a finished shard.
pub type Save = Arc<dyn Fn(ShardDone) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// What harvest needs on every worker.
#[derive(Clone)]
pub struct Harvest {
    /// Shards that are not done yet, ascending.
    pub shards: Arc<Vec<u32>>,
    /// What is counted.
    pub statistics: Arc<StatsSpec>,
    /// Where finished shards go.
    pub save: Save,
    /// Where saving runs.
    pub runtime: Handle,
    /// Rows encoded, for progress.
    pub rows: Arc<AtomicU64>,
}

impl std::fmt::Debug for Harvest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Harvest").field("shards", &self.shards).finish_non_exhaustive()
    }
}

/// Adds rows to their shard; holds a shard's time until its partial is committed.
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
                let (shard, _) =
                    shard.or_insert_with(|| (Shard::new(&harvest, *time.time()), time.retain(0)));
                if let Err(error) = shard.add(&rows, &harvest) {
                    stop.fail(error);
                }
            });
            if stop.is_set() {
                open.clear();
                return saving.clear();
            }
            while let Some(entry) = open.first_entry().filter(|entry| !frontier.less_equal(entry.key())) {
                let (time, (shard, capability)) = entry.remove_entry();
                saving.insert(time, capability);
                shard.save(time, &harvest, saved.clone(), stop.clone());
            }
            for time in finished.try_iter() {
                saving.remove(&time);
            }
        }
    })
}

/// A shard being read.
struct Shard {
    statistics: ShardStatistics,
    counts: ShardCounts,
}

impl Shard {
    fn new(harvest: &Harvest, time: u64) -> Self {
        let shard = u32::try_from(time).unwrap_or(u32::MAX);
        Shard {
            statistics: ShardStatistics::new(StatsSpec { shard, ..(*harvest.statistics).clone() }),
            counts: ShardCounts::default(),
        }
    }

    fn add(&mut self, rows: &HarvestRows, harvest: &Harvest) -> Result<()> {
        let Some(read) = rows.read.as_ref() else { return Ok(()) };
        let (decoded, verdicts) = match &read.value {
            Ok(rows) => rows,
            Err(reason) => {
                self.counts.quarantined.get_or_insert_with(|| reason.to_string());
                return Ok(());
            }
        };
        self.count(verdicts);
        harvest.rows.fetch_add(decoded.rows as u64, Ordering::Relaxed);
        let split: Vec<RowSplit> = verdicts.iter().map(|&v| split_of(v)).collect();
        let block = block(rows, decoded, &split, read.task.row_group, read.task.first_row);
        self.statistics.add(&block).map_err(|e| Error::bug(e.to_string()))
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

    /// Finishes, writes and commits beside the worker; a shard in quarantine counts nothing.
    fn save(self, time: u64, harvest: &Harvest, saved: crossbeam_channel::Sender<u64>, stop: Stop) {
        let save = Arc::clone(&harvest.save);
        harvest.runtime.spawn(async move {
            let finish = tokio::task::spawn_blocking(move || self.finish(time));
            let done = match finish.await {
                Ok(Ok(done)) => save(done).await,
                Ok(Err(error)) => Err(error),
                Err(panic) => Err(Error::bug(format!("finishing shard {time}: {panic}"))),
            };
            match done {
                Ok(()) => {
                    let _gone = saved.send(time);
                    stop.wake();
                }
                Err(error) => stop.fail(error),
            }
        });
    }

    fn finish(self, time: u64) -> Result<ShardDone> {
        let shard = u32::try_from(time).unwrap_or(u32::MAX);
        let mut counts = self.counts;
        if counts.quarantined.is_some() {
            counts =
                ShardCounts { rows: counts.rows, quarantined: counts.quarantined, ..ShardCounts::default() };
            return Ok(ShardDone { shard, partial: None, counts });
        }
        let partial = self.statistics.finish().map_err(|e| Error::bug(e.to_string()))?;
        Ok(ShardDone { shard, partial: Some(partial), counts })
    }
}

fn block<'a>(
    rows: &'a HarvestRows,
    decoded: &'a Decoded,
    split: &'a [RowSplit],
    row_group: u32,
    first_row: u64,
) -> HarvestBlock<'a> {
    let tokens = &decoded.tokens;
    HarvestBlock {
        row_group,
        first_row,
        x: &decoded.x,
        x_hat: &rows.x_hat,
        codes: &rows.codes,
        split,
        token_id: tokens.token_id.as_deref(),
        token: tokens.token.as_ref(),
        doc_id: tokens.doc_id.as_deref(),
        seq_id: tokens.seq_id.as_deref(),
        pos: tokens.pos.as_deref(),
    }
}
