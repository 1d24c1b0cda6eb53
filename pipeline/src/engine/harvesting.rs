//! The harvest phase: encode every shard with the frozen dictionary, one committed partial per shard.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use atomflow_schemas::manifest::FileEntry;
use atomflow_workers::stats::{FixedPoint, StatsSpec};

use super::{
    Engine,
    state::{self, HARVEST, HarvestCommit, body},
    training::Frozen,
};
use crate::{
    Error, Result,
    flow::run_workers,
    graph::harvest_graph,
    operators::{
        accumulate::{Harvest, Save, ShardCounts, ShardDone},
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
    /// Harvests the shards that are not committed yet; returns all of them in shard order.
    pub(super) fn harvest(&self, frozen: &Frozen) -> Result<Vec<Harvested>> {
        let done = self.harvested()?;
        let missing = |shard: &u32| done.binary_search_by_key(shard, |h| h.shard).is_err();
        let count = u32::try_from(self.manifest.shards.len()).unwrap_or(u32::MAX);
        let shards: Vec<u32> = (0..count).filter(missing).collect();
        if shards.is_empty() {
            return Ok(done);
        }
        let reader = self.reader(frozen.calibration.norm_max, true);
        let harvest = self.harvest_of(shards, frozen);
        let progress = self.watch_harvest(&harvest, &reader);
        let (stop, dictionary) = (reader.stop.clone(), Arc::clone(&frozen.dictionary));
        let ran = run_workers(self.runtime.workers, move |worker| {
            harvest_graph(worker, &reader, &dictionary, &harvest);
        });
        progress.stop();
        stop.check()?;
        ran?;
        let all = self.harvested()?;
        let complete = all.len() == self.manifest.shards.len();
        if complete { Ok(all) } else { Err(Error::bug("harvest ended before every shard was committed")) }
    }

    fn harvested(&self) -> Result<Vec<Harvested>> {
        let commits = self.tokio.block_on(commits(&self.output, HARVEST))?;
        let read = |commit: &atomflow_schemas::manifest::Commit| {
            let HarvestCommit { shard, counts, .. } = body(commit)?;
            Ok(Harvested { shard, counts, files: commit.files.clone() })
        };
        let mut all: Vec<Harvested> = commits.iter().map(read).collect::<Result<_>>()?;
        all.sort_unstable_by_key(|h| h.shard);
        Ok(all)
    }

    fn harvest_of(&self, shards: Vec<u32>, frozen: &Frozen) -> Harvest {
        let statistics = StatsSpec {
            shard: 0,
            n_latents: frozen.dictionary.n_latents(),
            d_in: self.manifest.d_in,
            fixed: self.fixed_point(frozen),
            seed: self.job.seed,
            harvest: self.job.harvest.clone(),
            coactivation_rate: self.job.harvest.coactivation_rate(self.manifest.rows()),
        };
        Harvest {
            shards: Arc::new(shards),
            statistics: Arc::new(statistics),
            save: self.save(),
            runtime: self.tokio.handle().clone(),
            rows: Arc::default(),
        }
    }

    pub(super) fn fixed_point(&self, frozen: &Frozen) -> FixedPoint {
        FixedPoint::from_rms_norm(frozen.calibration.norm_rms)
    }

    fn save(&self) -> Save {
        let (output, generation) = (self.output.clone(), self.generation.clone());
        let shards_total = self.manifest.shards.len() as u64;
        Arc::new(move |done| {
            let (output, generation) = (output.clone(), generation.clone());
            Box::pin(async move { save(&output, &generation, done, shards_total).await })
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
    let mut files = Vec::new();
    for (kind, batch) in partial.into_iter().flat_map(|partial| partial.batches) {
        let path = format!("partials/shard-{shard:05}/{}.parquet", kind.name());
        files.push(output.put(&path, parquet_bytes(&batch, kind.row_group_rows())?).await?);
    }
    let body = state::to_json(&HarvestCommit { shard, shards_total, counts })?;
    commit(output, generation, &format!("{HARVEST}{shard:05}"), files, body).await.map(drop)
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
