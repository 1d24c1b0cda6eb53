//! One shard: rows in storage order in, partial tables out.

use std::collections::BTreeMap;

use arrow::{array::RecordBatch, error::ArrowError};
use atomflow_schemas::partial::Partial;

use super::{
    block::{Encoded, HarvestBlock, RowSplit},
    fixed::FixedPoint,
    latents::LatentTable,
    pairs::PairCounts,
    quality::{QualityAccumulator, QualitySums},
    tables,
};
use crate::interp::{
    HarvestSpec,
    context::{Context, Cutter, Split},
    pool::Pool,
    samples::Samples,
};

/// What goes wrong while statistics are taken.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// A value or a sum does not fit into fixed point.
    #[error(
        "{0} is out of range: some value is more than 2^23 times the calibrated norm, or a sum needs more than 64 bits"
    )]
    OutOfRange(&'static str),
    /// The caller broke the contract of [`ShardStatistics::add`].
    #[error("a harvest block does not fit: {0}")]
    Block(String),
    /// The tables cannot be built.
    #[error("a partial table cannot be built: {0}")]
    Arrow(#[from] ArrowError),
}

/// What the statistics of a shard depend on besides its rows.
#[derive(Debug, Clone)]
pub struct StatsSpec {
    /// Number of the shard in the plan. Enters content keys only where the data has no `seq_id`.
    pub shard: u32,
    /// Latents of the dictionary.
    pub n_latents: usize,
    /// Width of what is reconstructed.
    pub d_in: usize,
    /// Scales, the same for every shard of a run.
    pub fixed: FixedPoint,
    /// Seed of every draw.
    pub seed: u64,
    /// What to collect.
    pub harvest: HarvestSpec,
    /// Share of rows on which co-firing is counted ([`HarvestSpec::coactivation_rate`]).
    pub coactivation_rate: f64,
}

/// Statistics of one shard in the making.
///
/// Memory: about 220 bytes and [`HarvestSpec::entries_per_latent`] short lists per latent,
/// `pool_contexts` contexts with their codes, 12 bytes per distinct co-firing pair (or 4 per pair of
/// latents, where those are few), and the tokens of
/// the contexts that these refer to. None of it grows with the number of rows once the samples are full.
#[derive(Debug)]
pub struct ShardStatistics {
    spec: StatsSpec,
    latents: LatentTable,
    quality: [QualityAccumulator; 3],
    /// Held-out rows under the learner's own encoder, where a coder finds the codes.
    encoded: Option<QualityAccumulator>,
    pairs: PairCounts,
    rows_sampled: [i64; 3],
    contexts_kept: i64,
    cutter: Cutter,
    samples: Samples,
    pool: Pool,
    kept: KeptContexts,
    next_row: u64,
}

impl ShardStatistics {
    /// No rows yet.
    pub fn new(spec: StatsSpec) -> Self {
        let quality = || QualityAccumulator::new(spec.d_in, spec.fixed);
        ShardStatistics {
            latents: LatentTable::new(spec.n_latents, spec.fixed),
            quality: [(); 3].map(|()| quality()),
            encoded: spec.harvest.coder.is_some().then(quality),
            pairs: PairCounts::new(spec.n_latents),
            rows_sampled: [0; 3],
            contexts_kept: 0,
            cutter: Cutter::new(spec.shard, spec.seed, spec.harvest.context_tokens),
            samples: Samples::new(spec.n_latents, &spec.harvest),
            pool: Pool::new(&spec.harvest),
            kept: KeptContexts::default(),
            next_row: 0,
            spec,
        }
    }

    /// Adds rows. Blocks come in storage order; how rows are grouped into blocks does not matter.
    pub fn add(&mut self, block: &HarvestBlock<'_>) -> Result<(), StatsError> {
        self.check(block)?;
        self.cutter.enter(block);
        for at in 0..block.rows() {
            self.add_row(block, at);
        }
        if let (Some(sums), Some(encoded)) = (&mut self.encoded, &block.encoded) {
            add_encoded(sums, block, encoded, self.spec.d_in);
        }
        self.next_row = block.first_row + block.rows() as u64;
        Ok(())
    }

    fn check(&self, block: &HarvestBlock<'_>) -> Result<(), StatsError> {
        if let Some(column) = block.mismatch(self.spec.d_in) {
            return Err(StatsError::Block(format!("`{column}` has another number of rows")));
        }
        if block.encoded.is_some() != self.encoded.is_some() {
            return Err(StatsError::Block("`encoded` goes with a coder".to_owned()));
        }
        if block.first_row < self.next_row {
            return Err(StatsError::Block(format!("row {} comes after {}", block.first_row, self.next_row)));
        }
        match block.codes.latents.iter().find(|&&latent| latent as usize >= self.spec.n_latents) {
            Some(latent) => Err(StatsError::Block(format!("latent {latent} of {}", self.spec.n_latents))),
            None => Ok(()),
        }
    }

    fn add_row(&mut self, block: &HarvestBlock<'_>, at: usize) {
        let split = block.split[at];
        if self.cutter.begins(block, at) {
            self.close_context();
            self.cutter.open(block, at);
        }
        if split != RowSplit::Bad {
            let row = at * self.spec.d_in..(at + 1) * self.spec.d_in;
            let nnz = block.codes.row(at).0.len();
            self.quality[split as usize].add_row(&block.x[row.clone()], &block.x_hat[row], nnz);
        }
        if split.kept() {
            self.count(block, at, split);
        }
        self.cutter.push(block, at);
    }

    fn count(&mut self, block: &HarvestBlock<'_>, at: usize, split: RowSplit) {
        let (latents, values) = block.codes.row(at);
        let sampled = self.cutter.sampled(split, self.spec.coactivation_rate);
        self.latents.add_row(latents, values, sampled);
        if sampled {
            self.rows_sampled[split as usize] += 1;
            self.pairs.add_row(latents);
        }
    }

    /// Offers the open context to the samples and the pool.
    fn close_context(&mut self) {
        if self.cutter.context.rows == 0 || self.cutter.kept == 0 {
            return;
        }
        self.contexts_kept += 1;
        self.cutter.pairs.sort_unstable_by_key(|pair| u64::from(pair.latent) << 16 | u64::from(pair.offset));
        let (context, hash, pairs) = (&self.cutter.context, self.cutter.hash, &self.cutter.pairs);
        let split = Split::of(self.spec.seed, context.seq, context.start, self.spec.harvest.score_share);
        let mut taken = self.pool.offer(context, hash, split, pairs);
        for same in pairs.chunk_by(|a, b| a.latent == b.latent) {
            self.latents.add_context(same[0].latent);
            taken |= self.samples.offer(context, hash, split, same);
        }
        if taken {
            self.kept.keep(context);
            self.kept.forget_unused(&self.samples, &self.pool);
        }
    }

    /// The partial tables.
    pub fn finish(mut self) -> Result<ShardPartial, StatsError> {
        self.close_context();
        self.samples.settle();
        self.kept.sweep(&self.samples, &self.pool);
        if self.latents.overflowed() {
            return Err(StatsError::OutOfRange("an activation"));
        }
        let fixed = self.spec.fixed;
        let quality = self.quality.into_iter().chain(self.encoded).map(QualityAccumulator::finish);
        let quality: Option<Vec<QualitySums>> = quality.collect();
        let quality = quality.ok_or(StatsError::OutOfRange("a sum over rows"))?;
        let (latents, kept) = (&self.latents, &self.kept.contexts);
        let (pairs, samples, pool) = (self.pairs, self.samples, self.pool);
        // The large ones side by side: nothing else runs while the last shard is finished.
        let ((pairs, samples), pool) = rayon::join(
            || rayon::join(|| tables::pairs(pairs), || tables::samples(samples)),
            || tables::pool(pool),
        );
        let batches = vec![
            (Partial::Latents, tables::latents(latents, fixed)?),
            (Partial::Quality, tables::quality(&quality, self.rows_sampled, self.contexts_kept, fixed)?),
            (Partial::Pairs, pairs?),
            (Partial::Samples, samples?),
            (Partial::Pool, pool?),
            (Partial::Contexts, tables::contexts(kept.values())?),
        ];
        Ok(ShardPartial { shard: self.spec.shard, batches })
    }
}

fn add_encoded(sums: &mut QualityAccumulator, block: &HarvestBlock<'_>, encoded: &Encoded<'_>, d_in: usize) {
    for (nth, (at, x_hat)) in block.held_out().zip(encoded.x_hat.chunks_exact(d_in)).enumerate() {
        sums.add_row(&block.x[at * d_in..][..d_in], x_hat, encoded.codes.row(nth).0.len());
    }
}

/// The contribution of one shard: one record batch per kind of partial, schemas of `Partial::schema`.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardPartial {
    /// Number of the shard in the plan.
    pub shard: u32,
    /// The tables, in the order of [`Partial::ALL`].
    pub batches: Vec<(Partial, RecordBatch)>,
}

impl ShardPartial {
    /// The table of one kind.
    pub fn batch(&self, partial: Partial) -> Option<&RecordBatch> {
        self.batches.iter().find(|(kind, _)| *kind == partial).map(|(_, batch)| batch)
    }
}

/// Tokens of the contexts that some sample refers to.
#[derive(Debug, Default)]
struct KeptContexts {
    contexts: BTreeMap<u64, Context>,
    sweep_at: usize,
}

impl KeptContexts {
    fn keep(&mut self, context: &Context) {
        self.contexts.insert(context.first_row, context.clone());
    }

    /// Sweeps whenever the store has doubled since the last sweep: the cost per context stays constant,
    /// and the store stays within twice of what is used.
    fn forget_unused(&mut self, samples: &Samples, pool: &Pool) {
        if self.contexts.len() >= self.sweep_at.max(4096) {
            self.sweep(samples, pool);
            self.sweep_at = 2 * self.contexts.len();
        }
    }

    fn sweep(&mut self, samples: &Samples, pool: &Pool) {
        let mut used: Vec<u64> = samples.contexts().chain(pool.contexts()).collect();
        used.sort_unstable();
        self.contexts.retain(|row, _| used.binary_search(row).is_ok());
    }
}
