//! The last phase: totals from the committed partials, rows from the totals, tables, one manifest.

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::RecordBatch;
use atomflow_schemas::{
    manifest::{FORMAT, FileEntry, RunManifest, TableEntry},
    partial::Partial,
    table::{self, Table},
};
use atomflow_workers::coders::CoderSpec;
use bytes::Bytes;

use super::{
    Engine,
    freezing::Frozen,
    harvesting::Harvested,
    learner::Learner,
    parts::{Rows, Tables},
    state::{WindowMetrics, to_json},
};
use crate::{
    Error, Result,
    error::Kind,
    run::{Amortisation, Event, Metrics},
    sink::{Output, Part, TableWrite, TableWriter, commit},
    statistics::{
        About, ParquetPartials, Publisher, RunTotals, Statistics,
        records::{self, OperatorRecord, ShardRecord, TrainRecord},
    },
    stop::Stop,
};

impl Engine {
    /// Publishes the tables of every dictionary: as many at a time as there are threads, and each on its
    /// share of them.
    pub(super) fn publish(&self, frozen: Vec<Frozen>, harvested: &[Vec<Harvested>]) -> Result<()> {
        let all: Vec<(&Frozen, &Vec<Harvested>)> = frozen.iter().zip(harvested).collect();
        for some in all.chunks(self.threads.count().max(1)) {
            let threads = self.threads.count() / some.len();
            std::thread::scope(|scope| {
                let mut running = Vec::new();
                for &(frozen, harvested) in some {
                    running.push(scope.spawn(move || self.publish_shielded(frozen, harvested, threads)));
                }
                for thread in running {
                    thread.join().map_err(|_| Error::bug("a publishing thread panicked"))??;
                }
                Ok::<(), Error>(())
            })?;
        }
        self.commit_failures()
    }

    /// Publishes one that is not published and has not failed; what is wrong with it alone is its failure.
    fn publish_shielded(&self, frozen: &Frozen, harvested: &[Harvested], threads: usize) -> Result<()> {
        let output = &self.learners[frozen.learner].output;
        let through = self.failures.has(frozen.learner)
            || self.tokio.block_on(commit::read_manifest(output))?.is_some();
        if through {
            return Ok(());
        }
        match self.failures.shield(|| self.publish_one(frozen, harvested, threads)).and_then(|done| done) {
            // Anything else is the store's or everybody's.
            Err(error) if error.kind == Kind::Bug => {
                self.failures.add(frozen.learner, error, &Stop::default());
                Ok(())
            }
            done => done,
        }
    }

    fn publish_one(&self, frozen: &Frozen, harvested: &[Harvested], threads: usize) -> Result<()> {
        let learner = &self.learners[frozen.learner];
        let statistics = self.statistics(learner, harvested, frozen.dictionary.n_latents());
        let publisher = Publisher::new(self.about(learner), &statistics, &*frozen.dictionary)?;
        let run = &learner.run;
        let whole: [(&Table, RecordBatch); 4] = [
            (&table::QUALITY, publisher.quality()?),
            (&table::SHARDS, records::shards(run, &self.shard_records(harvested))?),
            (&table::TRAIN_METRICS, records::train_metrics(run, &train_records(&frozen.metrics))?),
            (
                &table::OPERATOR_STATS,
                records::operator_stats(run, &self.operator_records(frozen, harvested))?,
            ),
        ];
        // The largest first: a thread that is left alone at the end then has little to do.
        let by_latent: [(&Table, Rows); 5] = [
            (&table::AUTOINTERP_CANDIDATES, &|latents| publisher.autointerp_candidates(latents)),
            (&table::FEATURES, &|latents| publisher.features(latents)),
            (&table::ACTIVATION_STATS, &|latents| publisher.activation_stats(latents)),
            (&table::COACTIVATIONS, &|latents| publisher.coactivations(latents)),
            (&table::FEATURE_LINEAGE, &|latents| publisher.feature_lineage(latents)),
        ];
        let mut tables = BTreeMap::new();
        for (table, batch) in whole {
            let mut writer = self.writer(learner, table, None)?;
            self.tokio.block_on(writer.part(Part { first_key: 0, batch }))?;
            tables.insert(table.name.to_owned(), self.committed(learner, writer, table)?);
        }
        let writers = by_latent.map(|(table, _)| self.writer(learner, table, Some("latent")));
        let parts = Tables {
            writers: writers.into_iter().collect::<Result<Vec<_>>>()?,
            rows: by_latent.map(|(_, rows)| rows).to_vec(),
            failures: &self.failures,
            tokio: self.tokio.handle(),
        };
        let writers = parts.write(frozen.dictionary.n_latents(), threads)?;
        for (writer, (table, _)) in writers.into_iter().zip(by_latent) {
            tables.insert(table.name.to_owned(), self.committed(learner, writer, table)?);
        }
        let manifest = RunManifest {
            format: FORMAT,
            run: run.clone(),
            tables,
            dictionary: frozen.files.clone(),
            metrics: to_json(&self.metrics(&publisher, frozen)?)?,
            learners: BTreeMap::new(),
        };
        self.tokio.block_on(commit::publish(&learner.output, &self.generation, &manifest)).map(drop)
    }

    fn writer<'a>(&self, learner: &'a Learner, table: &Table, key: Option<&str>) -> Result<TableWriter<'a>> {
        let write = TableWrite {
            name: table.name.to_owned(),
            run: learner.run.clone(),
            version: 0,
            schema: Arc::new(table.schema()),
            key: key.map(str::to_owned),
        };
        TableWriter::new(&learner.output, write)
    }

    fn committed(&self, learner: &Learner, writer: TableWriter<'_>, table: &Table) -> Result<TableEntry> {
        let entry = self.tokio.block_on(writer.commit(&self.generation))?;
        let name = self.several().then(|| learner.is.name.clone());
        self.watch.event(&Event::Publish { learner: name, table: table.name.to_owned(), rows: entry.rows });
        Ok(entry)
    }

    fn statistics(&self, learner: &Learner, harvested: &[Harvested], n_latents: usize) -> Statistics {
        let files: BTreeMap<u32, Vec<FileEntry>> =
            harvested.iter().filter(|h| !h.files.is_empty()).map(|h| (h.shard, h.files.clone())).collect();
        let shards: Vec<u32> = files.keys().copied().collect();
        let (output, tokio) = (learner.output.clone(), self.tokio.handle().clone());
        let fetch = move |shard, partial| tokio.block_on(fetch(&output, &files, shard, partial));
        let source = Arc::new(ParquetPartials::new(fetch));
        Statistics::new(source, shards, n_latents, self.job.harvest.clone(), self.runtime.workers)
    }

    fn about(&self, learner: &Learner) -> About {
        let coder = self.job.harvest.coder.as_ref();
        let k = coder.map_or(learner.is.spec.k(), CoderSpec::k);
        About {
            run_id: learner.run.clone(),
            hookpoint: self.job.source.hookpoint.clone(),
            k: k.and_then(|k| i32::try_from(k).ok()),
            seed: self.job.seed,
            shard_urls: self.manifest.shards.iter().map(|s| s.url.clone()).collect(),
        }
    }

    /// What was read and what was left out; rows of both add up to the rows of the input.
    fn shard_records(&self, harvested: &[Harvested]) -> Vec<ShardRecord> {
        let read = harvested.iter().map(|Harvested { shard, counts, .. }| {
            let shard = &self.manifest.shards[*shard as usize];
            ShardRecord {
                url: shard.url.clone(),
                size_bytes: shard.size_bytes,
                rows: shard.row_groups.iter().map(|g| g.rows).sum(),
                row_groups: shard.row_groups.len() as u64,
                kept_train: counts.train,
                heldout: counts.heldout,
                dropped_pos: counts.dropped_pos,
                dropped_token_id: counts.dropped_token_id,
                dropped_norm: counts.dropped_norm,
                bad_rows: counts.bad,
                quarantined: counts.quarantined.clone(),
            }
        });
        let unread = self.manifest.quarantined.iter().map(|q| ShardRecord {
            url: q.url.clone(),
            quarantined: Some(q.reason.clone()),
            ..ShardRecord::default()
        });
        read.chain(unread).collect()
    }

    /// Counts by operator. All follow from the plan and the commits, so a resumed run has the same.
    fn operator_records(&self, frozen: &Frozen, harvested: &[Harvested]) -> Vec<OperatorRecord> {
        let row_bytes = self.learners[frozen.learner].sight.values() as u64 * 4;
        let record = |operator: &str, phase: &str, rows: u64, bytes: u64, blocks: u64| OperatorRecord {
            operator: operator.to_owned(),
            phase: phase.to_owned(),
            rows,
            bytes,
            blocks,
        };
        let groups = || self.plan.windows.iter().flat_map(|w| &w.groups);
        let group_bytes = |g: &crate::plan::Group| {
            self.manifest.shards[g.shard as usize].row_groups[g.row_group as usize].bytes
        };
        let planned: u64 = self.plan.windows.iter().map(|w| w.rows).sum();
        let learned: u64 = frozen.metrics.iter().map(|m| m.rows).sum();
        let lanes = (self.plan.windows.len() * self.plan.lanes) as u64;
        let harvested_rows: u64 = harvested.iter().map(|h| h.counts.rows).sum();
        let kept: u64 = harvested.iter().map(|h| h.counts.train + h.counts.heldout).sum();
        let harvest_groups: u64 = self.manifest.shards.iter().map(|s| s.row_groups.len() as u64).sum();
        vec![
            record("read", "train", planned, groups().map(group_bytes).sum(), groups().count() as u64),
            record("shuffle", "train", learned, learned * row_bytes, lanes),
            record("train", "train", learned, learned * row_bytes, self.plan.steps),
            record("read", "harvest", self.manifest.rows(), self.manifest.bytes(), harvest_groups),
            record("encode", "harvest", harvested_rows, harvested_rows * row_bytes, harvest_groups),
            record("accumulate", "harvest", kept, kept * row_bytes, harvested.len() as u64),
        ]
    }

    fn metrics(&self, publisher: &Publisher, frozen: &Frozen) -> Result<Metrics> {
        let totals = publisher.totals();
        let figures = |sums: &atomflow_workers::stats::QualitySums| sums.figures(totals.fixed);
        let heldout = figures(&totals.quality[1]);
        let kept = figures(&totals.kept()?);
        Ok(Metrics {
            heldout_fvu: heldout.fvu,
            train_fvu: figures(&totals.quality[0]).fvu,
            all_fvu: figures(&totals.all()?).fvu,
            l0: heldout.l0.or(kept.l0),
            amortisation: self.amortisation(totals, heldout.fvu),
            bits_per_token: Some(totals.bits_per_token()),
            dead: totals.dead(),
            tokens: frozen.metrics.iter().map(|m| m.rows).sum(),
            seconds: self.began.elapsed().as_secs_f64(),
            encoder: self.encoder(frozen.learner),
        })
    }

    /// How the encoder of training ran in the end.
    fn encoder(&self, learner: usize) -> String {
        match self.learners[learner].card {
            None => self.learners[learner].hold.encoder().to_owned(),
            Some(_) => self.arithmetic.clone(),
        }
    }

    /// What the learner's own encoder leaves to the coder, if one found the codes.
    fn amortisation(&self, totals: &RunTotals, coder_fvu: Option<f64>) -> Option<Amortisation> {
        let (coder, encoded) = (self.job.harvest.coder.as_ref()?, totals.encoded.as_ref()?);
        let encoder = encoded.figures(totals.fixed);
        let gap = encoder.fvu.zip(coder_fvu).map(|(encoder, coder)| encoder - coder);
        let coder = coder.kind().to_owned();
        Some(Amortisation { coder, encoder_fvu: encoder.fvu, encoder_l0: encoder.l0, gap })
    }
}

async fn fetch(
    output: &Output,
    files: &BTreeMap<u32, Vec<FileEntry>>,
    shard: u32,
    partial: Partial,
) -> Result<Bytes> {
    let name = format!("/{}.parquet", partial.name());
    let file = files.get(&shard).and_then(|files| files.iter().find(|f| f.path.ends_with(&name)));
    let missing = || Error::bug(format!("no partial `{}` of shard {shard} is committed", partial.name()));
    output.get_verified(file.ok_or_else(missing)?).await
}

fn train_records(metrics: &[WindowMetrics]) -> Vec<TrainRecord> {
    let mut tokens = 0;
    let record = |m: &WindowMetrics| {
        tokens += m.rows;
        TrainRecord {
            step: m.step,
            window: m.window,
            tokens,
            fvu: m.fvu(),
            l0: m.l0(),
            dead: m.dead,
            loss: m.loss,
            aux_loss: m.aux_loss,
            lr: m.lr,
        }
    };
    metrics.iter().map(record).collect()
}
