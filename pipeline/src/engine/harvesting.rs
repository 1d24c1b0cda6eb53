//! The harvest phase: encode every shard with the frozen dictionary, one committed partial per shard.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use arrow::array::RecordBatch;
use atomflow_schemas::{manifest::FileEntry, partial::Partial};
use atomflow_workers::stats::{FixedPoint, StatsSpec};

use super::{
    Engine,
    freezing::Frozen,
    state::{self, HARVEST, HarvestCommit, body},
};
use crate::{
    Error, Result,
    flow::run_workers,
    graph::harvest_graph,
    operators::{
        accumulate::{Harvest, Save, ShardCounts, ShardDone},
        encode::Harvester,
        read::Reader,
    },
    run::{Event, HarvestProgress},
    sink::{Generation, Output, commit, commits, parquet_bytes},
};

/// A shard whose partial is committed.
pub(super) struct Harvested {
    pub(super) shard: u32,
    pub(super) counts: ShardCounts,
    pub(super) files: Vec<FileEntry>,
}

impl Engine {
    /// Harvests what is not committed yet; returns for each dictionary its shards in order.
    pub(super) fn harvest(&self, frozen: &[Frozen]) -> Result<Vec<Vec<Harvested>>> {
        let harvesters: Vec<Harvester> =
            frozen.iter().map(|frozen| self.harvester(frozen)).collect::<Result<_>>()?;
        let count = u32::try_from(self.manifest.shards.len()).unwrap_or(u32::MAX);
        let missing = |shard: &u32| harvesters.iter().any(|harvester| !harvester.done.contains(shard));
        let shards: Vec<u32> = (0..count).filter(missing).collect();
        if !shards.is_empty() {
            self.harvest_shards(shards, harvesters, frozen.first().and_then(|f| f.calibration.norm_max))?;
        }
        self.commit_failures()?;
        frozen.iter().map(|frozen| self.complete(frozen.learner)).collect()
    }

    fn harvest_shards(
        &self,
        shards: Vec<u32>,
        harvesters: Vec<Harvester>,
        norm_max: Option<f32>,
    ) -> Result<()> {
        let reader = self.reader(norm_max, true);
        let harvest = Harvest {
            shards: Arc::new(shards),
            harvesters: Arc::new(harvesters),
            failures: self.failures.clone(),
            save: self.save(),
            runtime: self.tokio.handle().clone(),
            rows: Arc::default(),
        };
        let (progress, stop) = (self.watch_harvest(&harvest, &reader), reader.stop.clone());
        let ran = run_workers(self.runtime.workers, move |worker| harvest_graph(worker, &reader, &harvest));
        progress.stop();
        self.ended(&stop)?;
        ran.map(drop)
    }

    /// Every shard of a learner; none if it failed.
    fn complete(&self, learner: usize) -> Result<Vec<Harvested>> {
        if self.failures.has(learner) {
            return Ok(Vec::new());
        }
        let all = self.harvested(learner)?;
        let complete = all.len() == self.manifest.shards.len();
        if complete { Ok(all) } else { Err(Error::bug("harvest ended before every shard was committed")) }
    }

    fn harvested(&self, learner: usize) -> Result<Vec<Harvested>> {
        let commits = self.tokio.block_on(commits(&self.learners[learner].output, HARVEST))?;
        let read = |commit: &atomflow_schemas::manifest::Commit| {
            let HarvestCommit { shard, counts, .. } = body(commit)?;
            Ok(Harvested { shard, counts, files: commit.files.clone() })
        };
        let mut all: Vec<Harvested> = commits.iter().map(read).collect::<Result<_>>()?;
        all.sort_unstable_by_key(|h| h.shard);
        Ok(all)
    }

    /// Draws follow the seed of the job, so that all dictionaries look at the same contexts.
    fn harvester(&self, frozen: &Frozen) -> Result<Harvester> {
        let sight = self.learners[frozen.learner].sight.clone();
        let (made, wanted) = (frozen.dictionary.d_out(), sight.d_out());
        if made != wanted {
            return Err(Error::bug(format!(
                "a dictionary reconstructs {made} values where {wanted} are looked at"
            )));
        }
        let statistics = StatsSpec {
            shard: 0,
            n_latents: frozen.dictionary.n_latents(),
            d_in: wanted,
            fixed: FixedPoint::from_rms_norm(frozen.calibration.norm_rms),
            seed: self.job.seed,
            harvest: self.job.harvest.clone(),
            coactivation_rate: self.job.harvest.coactivation_rate(self.manifest.rows()),
        };
        let done = self.harvested(frozen.learner)?.into_iter().map(|h| h.shard).collect();
        let (dictionary, encoder) = (Arc::clone(&frozen.dictionary), frozen.encoder.clone());
        let (hold, card) =
            (self.learners[frozen.learner].hold.afresh(), self.learners[frozen.learner].card.clone());
        Ok(Harvester { learner: frozen.learner, dictionary, encoder, sight, statistics, hold, card, done })
    }

    fn save(&self) -> Save {
        let outputs: Vec<Output> = self.learners.iter().map(|learner| learner.output.clone()).collect();
        let (outputs, generation) = (Arc::new(outputs), self.generation.clone());
        let shards_total = self.manifest.shards.len() as u64;
        Arc::new(move |learner, done| {
            let (outputs, generation) = (Arc::clone(&outputs), generation.clone());
            Box::pin(async move { save(&outputs[learner], &generation, done, shards_total).await })
        })
    }

    fn watch_harvest(&self, harvest: &Harvest, reader: &Reader) -> Ticker {
        let (rows, fetched) = (Arc::clone(&harvest.rows), Arc::clone(&reader.fetched_bytes));
        let of_shard =
            |&s: &u32| self.manifest.shards[s as usize].row_groups.iter().map(|g| g.rows).sum::<u64>();
        let per_shard: Vec<u64> = harvest.shards.iter().map(of_shard).collect();
        let (watch, began) = (Arc::clone(&self.watch), Instant::now());
        let before = (self.manifest.shards.len() - per_shard.len()) as u64;
        Ticker::start(move || {
            let counts = (rows.load(Ordering::Relaxed), fetched.load(Ordering::Relaxed));
            watch.event(&Event::Harvest(progress(&per_shard, before, counts, began.elapsed())));
        })
    }
}

async fn save(output: &Output, generation: &Generation, done: ShardDone, shards_total: u64) -> Result<()> {
    let ShardDone { shard, partial, counts } = done;
    let batches = partial.into_iter().flat_map(|partial| partial.batches);
    let files = batches.map(|(kind, batch)| put_partial(output, shard, kind, batch));
    let files = futures::future::try_join_all(files).await?;
    let body = state::to_json(&HarvestCommit { shard, shards_total, counts })?;
    commit(output, generation, &format!("{HARVEST}{shard:05}"), files, body).await.map(drop)
}

/// Encoding keeps a core busy, so that the kinds are encoded side by side, away from those who wait.
async fn put_partial(output: &Output, shard: u32, kind: Partial, batch: RecordBatch) -> Result<FileEntry> {
    let encode = move || parquet_bytes(&batch, kind.row_group_rows());
    let bytes = tokio::task::spawn_blocking(encode).await;
    let bytes = bytes.map_err(|panic| Error::bug(format!("encoding a partial: {panic}")))??;
    output.put(&format!("partials/shard-{shard:05}/{}.parquet", kind.name()), bytes).await
}

fn progress(per_shard: &[u64], before: u64, (rows, bytes): (u64, u64), elapsed: Duration) -> HarvestProgress {
    let seconds = elapsed.as_secs_f64().max(1e-9);
    let rows_total: u64 = per_shard.iter().sum();
    let mut left = rows;
    let done =
        per_shard.iter().take_while(|&&shard| left.checked_sub(shard).inspect(|l| left = *l).is_some());
    let rows_per_s = rows as f64 / seconds;
    HarvestProgress {
        shard: before + done.count() as u64,
        shards: before + per_shard.len() as u64,
        rows,
        rows_total,
        rows_per_s,
        gb_per_s: bytes as f64 / seconds / 1e9,
        left_s: rows_total.saturating_sub(rows) as f64 / rows_per_s.max(1e-9),
    }
}

/// Calls back every half second until it is stopped, and once at the end.
struct Ticker {
    end: crossbeam_channel::Sender<()>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Ticker {
    fn start(tick: impl Fn() + Send + 'static) -> Ticker {
        let (end, ended) = crossbeam_channel::bounded::<()>(0);
        let run = move || {
            while ended.recv_timeout(Duration::from_millis(500))
                == Err(crossbeam_channel::RecvTimeoutError::Timeout)
            {
                tick();
            }
            tick();
        };
        Ticker { end, thread: std::thread::Builder::new().name("progress".to_owned()).spawn(run).ok() }
    }

    fn stop(self) {
        drop(self.end);
        // A progress thread that panicked has told its story already.
        self.thread.map(std::thread::JoinHandle::join);
    }
}
