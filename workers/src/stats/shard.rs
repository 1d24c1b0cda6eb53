//! One shard: rows in storage order in, partial tables out.

use arrow::{array::RecordBatch, error::ArrowError};
use atomflow_schemas::partial::Partial;

use super::{
    block::{Encoded, HarvestBlock, RowSplit, Tokens},
    collected::{Closed, Collected},
    fixed::FixedPoint,
    latents::LatentTable,
    pairs::PairCounts,
    quality::{QualityAccumulator, QualitySums},
    tables,
};
use crate::{
    card::digest::Digests,
    interp::{
        HarvestSpec,
        context::{Context, Cutter, Split},
    },
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
    pub(super) spec: StatsSpec,
    pub(super) latents: LatentTable,
    pub(super) quality: [QualityAccumulator; 3],
    /// What encodes and counts, where that is a card.
    pub(super) card: Option<Box<dyn Digests>>,
    /// Held-out rows under the learner's own encoder, where a coder finds the codes.
    encoded: Option<QualityAccumulator>,
    pub(super) pairs: PairCounts,
    pub(super) rows_sampled: [i64; 3],
    pub(super) contexts_kept: i64,
    pub(super) cutter: Cutter,
    pub(super) collected: Collected,
    next_row: u64,
}

impl ShardStatistics {
    /// No rows yet.
    pub fn new(spec: StatsSpec) -> Self {
        let quality = || QualityAccumulator::new(spec.d_in, spec.fixed);
        ShardStatistics {
            latents: LatentTable::new(spec.n_latents, spec.fixed),
            quality: [(); 3].map(|()| quality()),
            card: None,
            encoded: spec.harvest.coder.is_some().then(quality),
            pairs: PairCounts::new(spec.n_latents),
            rows_sampled: [0; 3],
            contexts_kept: 0,
            cutter: Cutter::new(spec.shard, spec.seed, spec.harvest.context_tokens),
            collected: Collected::new(spec.n_latents, &spec.harvest),
            next_row: 0,
            spec,
        }
    }

    /// No rows yet; a card encodes them and counts their codes.
    pub fn on_card(spec: StatsSpec, card: Box<dyn Digests>) -> Self {
        ShardStatistics { card: Some(card), ..ShardStatistics::new(spec) }
    }

    /// Whether a card counts the codes: then [`ShardStatistics::digest`] takes rows, otherwise
    /// [`ShardStatistics::add`] takes them with their codes.
    pub fn is_on_card(&self) -> bool {
        self.card.is_some()
    }

    /// Adds rows. Blocks come in storage order; how rows are grouped into blocks does not matter.
    pub fn add(&mut self, block: &HarvestBlock<'_>) -> Result<(), StatsError> {
        self.check(block)?;
        self.follow(&block.tokens)?;
        for at in 0..block.rows() {
            self.add_row(block, at);
        }
        if let (Some(sums), Some(encoded)) = (&mut self.encoded, &block.encoded) {
            add_encoded(sums, block, encoded, self.spec.d_in);
        }
        Ok(())
    }

    /// Notes which rows come now.
    pub(super) fn follow(&mut self, tokens: &Tokens<'_>) -> Result<(), StatsError> {
        if tokens.first_row < self.next_row {
            return Err(StatsError::Block(format!("row {} comes after {}", tokens.first_row, self.next_row)));
        }
        self.cutter.enter(tokens);
        self.next_row = tokens.first_row + tokens.rows() as u64;
        Ok(())
    }

    fn check(&self, block: &HarvestBlock<'_>) -> Result<(), StatsError> {
        if let Some(column) = block.mismatch(self.spec.d_in) {
            return Err(StatsError::Block(format!("`{column}` has another number of rows")));
        }
        if block.encoded.is_some() != self.encoded.is_some() {
            return Err(StatsError::Block("`encoded` goes with a coder".to_owned()));
        }
        match block.codes.latents.iter().find(|&&latent| latent as usize >= self.spec.n_latents) {
            Some(latent) => Err(StatsError::Block(format!("latent {latent} of {}", self.spec.n_latents))),
            None => Ok(()),
        }
    }

    fn add_row(&mut self, block: &HarvestBlock<'_>, at: usize) {
        let (tokens, split) = (&block.tokens, block.tokens.split[at]);
        if self.cutter.begins(tokens, at) {
            self.close_context();
            self.cutter.open(tokens, at);
        }
        if split != RowSplit::Bad {
            let row = at * self.spec.d_in..(at + 1) * self.spec.d_in;
            let nnz = block.codes.row(at).0.len();
            self.quality[split as usize].add_row(&block.x[row.clone()], &block.x_hat[row], nnz);
        }
        if split.kept() {
            self.count(block, at, split);
        }
        self.cutter.push(tokens, at);
    }

    fn count(&mut self, block: &HarvestBlock<'_>, at: usize, split: RowSplit) {
        let (latents, values) = block.codes.row(at);
        let sampled = self.cutter.sampled(split, self.spec.coactivation_rate);
        self.cutter.take(latents, values);
        self.latents.add_row(latents, values, sampled);
        if sampled {
            self.rows_sampled[split as usize] += 1;
            self.pairs.add_row(latents);
        }
    }

    /// Offers the open context to the samples and the pool.
    fn close_context(&mut self) {
        let Cutter { context, pairs, hash, kept, .. } = &mut self.cutter;
        if context.rows == 0 || *kept == 0 {
            return;
        }
        let closed = Closed { split: self.spec.split_of(context), context, hash: *hash };
        self.contexts_kept += 1;
        self.collected.offer(closed, pairs, &mut self.latents);
    }

    /// The partial tables.
    pub fn finish(mut self) -> Result<ShardPartial, StatsError> {
        self.close_context();
        self.collected.settle();
        if let Some(card) = self.card.take() {
            self.latents.add_all(&card.finish());
        }
        if self.latents.overflowed() {
            return Err(StatsError::OutOfRange("an activation"));
        }
        let fixed = self.spec.fixed;
        let quality = self.quality.into_iter().chain(self.encoded).map(QualityAccumulator::finish);
        let quality: Option<Vec<QualitySums>> = quality.collect();
        let quality = quality.ok_or(StatsError::OutOfRange("a sum over rows"))?;
        let (latents, pairs) = (&self.latents, self.pairs);
        let (samples, pool, contexts) = self.collected.into_parts();
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
            (Partial::Contexts, tables::contexts(contexts.iter())?),
        ];
        Ok(ShardPartial { shard: self.spec.shard, batches })
    }
}

impl StatsSpec {
    /// Which side of the explain/score border a context lies on.
    pub(super) fn split_of(&self, context: &Context) -> Split {
        Split::of(self.seed, context.seq, context.start, self.harvest.score_share)
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
