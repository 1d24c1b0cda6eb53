//! Totals over shards: what the partials of a set of shards say together.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use arrow::{
    array::RecordBatch,
    datatypes::{Float32Type, Int32Type, Int64Type},
};
use atomflow_schemas::partial::{HISTOGRAM_BINS, Partial};
use atomflow_workers::{
    interp::{
        HarvestSpec, List, Split,
        select::{ContextRef, PoolContext, PoolIndex, Sample},
    },
    stats::{FixedPoint, QualitySums, description},
};

use rayon::prelude::*;

use super::{
    columns::{float32s, int32s, int64s, lists, strings},
    flow::{self, Epochs, Feed},
    neighbours,
    partials::PartialSource,
};
use crate::{Error, Result};

/// Rows that one dataflow may hold at a time; ranges of latents are cut so that about so many come in.
const ROWS_PER_FLOW: usize = 1 << 18;

/// Latents whose sums are totalled in one dataflow: about 700 bytes each.
const LATENTS_PER_SUM: u32 = 4096;

/// Ranges of pairs that are merged side by side at most: some 60 MB each.
const RANGES_AT_A_TIME: usize = 4;

/// One shard joins or leaves the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Number of the shard.
    pub shard: u32,
    /// Joins (true) or leaves.
    pub add: bool,
}

/// Totals of one latent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatentTotal {
    /// Kept rows on which it fired.
    pub fires: i64,
    /// Contexts with such a row.
    pub contexts_with_fire: i64,
    /// Fixed-point sum of activations.
    pub sum: i64,
    /// Fixed-point sum of squares.
    pub sum_sq: i64,
    /// Fires on the co-activation sample.
    pub fires_sampled: i64,
    /// Fires per bin of magnitude; empty if it never fired.
    pub histogram: Vec<i64>,
    /// Largest magnitude.
    pub max: f32,
    /// First and last shard, by number, in which it fired.
    pub shards: Option<(u32, u32)>,
}

/// Totals of a run that fit into memory: sums per latent and sums over rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RunTotals {
    /// Scales of the sums.
    pub fixed: FixedPoint,
    /// One per latent of the dictionary.
    pub latents: Vec<LatentTotal>,
    /// Train, held-out, dropped.
    pub quality: [QualitySums; 3],
    /// Held-out under the learner's own encoder, where a coder found the codes.
    pub encoded: Option<QualitySums>,
    /// Rows of the co-activation sample.
    pub rows_sampled: i64,
    /// Contexts with a kept row.
    pub contexts: i64,
}

impl RunTotals {
    /// Rows on which latents were counted.
    pub fn rows_kept(&self) -> i64 {
        self.quality[0].rows + self.quality[1].rows
    }

    /// Latents that never fired.
    pub fn dead(&self) -> u64 {
        self.latents.iter().filter(|latent| latent.fires == 0).count() as u64
    }

    /// Description length of the codes of a kept row.
    pub fn bits_per_token(&self) -> f64 {
        let histograms = self.latents.iter().map(|latent| &latent.histogram[..]);
        description::bits_per_row(histograms, self.rows_kept())
    }

    /// Sums over kept rows.
    pub fn kept(&self) -> Result<QualitySums> {
        self.quality[0].checked_add(&self.quality[1]).ok_or_else(out_of_range)
    }

    /// Sums over all rows that hold a vector.
    pub fn all(&self) -> Result<QualitySums> {
        self.kept()?.checked_add(&self.quality[2]).ok_or_else(out_of_range)
    }
}

/// A latent that fires together with another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// The other latent.
    pub latent: u32,
    /// Sampled rows on which both fired.
    pub n_both: i64,
}

/// Reads one partial of one shard.
type Read = fn(&dyn PartialSource, u32, Partial, Range<u32>) -> Result<RecordBatch>;

/// All columns.
const WHOLE: Read = |source, shard, partial, latents| source.read(shard, partial, latents);
/// The columns that are not lists.
const KEYS: Read = |source, shard, partial, latents| source.keys(shard, partial, latents);

/// (order, seq, start, shard, row): the total order of a list, over all shards.
type Ranked = (u64, i64, i64, u32, u64);

/// Totals of a set of shards, computed from their partials when asked for, a range of latents at a time.
pub struct Statistics {
    source: Arc<dyn PartialSource>,
    epochs: Epochs,
    n_latents: u32,
    harvest: HarvestSpec,
    workers: usize,
}

impl Statistics {
    /// Of these shards, on `workers` timely workers. The result does not depend on `workers`.
    pub fn new(
        source: Arc<dyn PartialSource>,
        shards: impl IntoIterator<Item = u32>,
        n_latents: usize,
        harvest: HarvestSpec,
        workers: usize,
    ) -> Self {
        let all = shards.into_iter().map(|shard| Change { shard, add: true }).collect();
        Statistics { source, epochs: Arc::new(vec![all]), n_latents: n_latents as u32, harvest, workers }
    }

    /// After one more set of changes; the partials of shards that leave must still be readable.
    pub fn changed(mut self, changes: Vec<Change>) -> Self {
        let mut epochs = self.epochs.to_vec();
        epochs.push(changes);
        self.epochs = Arc::new(epochs);
        self
    }

    /// What was asked for in the harvest.
    pub fn harvest(&self) -> &HarvestSpec {
        &self.harvest
    }

    /// Reads the contexts of one shard.
    pub(super) fn contexts(&self, shard: u32) -> Result<RecordBatch> {
        self.source.read(shard, Partial::Contexts, 0..self.n_latents)
    }

    /// Shards in the set now, ascending.
    pub fn shards(&self) -> Vec<u32> {
        self.multiplicities().into_iter().map(|(shard, _)| shard).collect()
    }

    /// How often each shard is in the set: joins less leaves, those that are 0 left out.
    fn multiplicities(&self) -> Vec<(u32, i64)> {
        let mut present = BTreeMap::<u32, i64>::new();
        for change in self.epochs.iter().flatten() {
            *present.entry(change.shard).or_default() += if change.add { 1 } else { -1 };
        }
        present.into_iter().filter(|(_, count)| *count != 0).collect()
    }

    /// Cuts `latents` so that a dataflow of about `rows_per_latent` rows per latent and shard stays small.
    fn steps(&self, latents: Range<u32>, rows_per_latent: usize) -> impl Iterator<Item = Range<u32>> + use<> {
        let per_latent = rows_per_latent.max(1) * self.shards().len().max(1);
        let step = (ROWS_PER_FLOW / per_latent).clamp(16, LATENTS_PER_SUM as usize);
        latents.clone().step_by(step).map(move |from| from..latents.end.min(from + step as u32))
    }

    /// What shards put into a view, by one of the ways of reading a [`PartialSource`].
    fn feed<D, R>(
        &self,
        read: Read,
        partial: Partial,
        latents: Range<u32>,
        rows: impl Fn(u32, &RecordBatch) -> Result<Vec<(D, R)>> + Send + Sync + 'static,
    ) -> Feed<D, R> {
        let source = self.source.clone();
        Arc::new(move |shard| rows(shard, &read(&*source, shard, partial, latents.clone())?))
    }

    /// Sums per latent and over rows.
    pub fn run_totals(&self) -> Result<RunTotals> {
        let (splits, rows_sampled, contexts, fixed) = self.quality()?;
        let [train, heldout, dropped, encoded] = splits;
        let quality = [train, heldout, dropped];
        let encoded = self.harvest.coder.as_ref().map(|_| encoded);
        let mut latents = Vec::with_capacity(self.n_latents as usize);
        for range in self.steps(0..self.n_latents, 1) {
            latents.extend(self.latents(range, fixed)?);
        }
        Ok(RunTotals { fixed, latents, quality, encoded, rows_sampled, contexts })
    }

    fn latents(&self, range: Range<u32>, fixed: FixedPoint) -> Result<Vec<LatentTotal>> {
        let feed =
            self.feed(WHOLE, Partial::Latents, range.clone(), move |_, batch| latent_sums(batch, fixed));
        let mut sums = flow::sums(self.workers, &self.epochs, feed)?;
        let feed = self.feed(KEYS, Partial::Latents, range.clone(), latent_extremes);
        let mut extremes = flow::extremes(self.workers, &self.epochs, feed)?;
        range.map(|latent| latent_total(sums.remove(&latent), extremes.remove(&latent))).collect()
    }

    /// Sums over rows per line of the partial (the last is there where a coder found the codes), sampled
    /// rows, contexts, and the scale that all shards share.
    fn quality(&self) -> Result<([QualitySums; 4], i64, i64, FixedPoint)> {
        let (mut fixed, mut d_in) = (None, 0);
        for shard in self.shards() {
            let batch = self.source.read(shard, Partial::Quality, 0..0)?;
            d_in = lists::<Int64Type>(&batch, "sum_x")?.row(0).len();
            let here = int32s(&batch, "value_log2")?.first().copied();
            if fixed.is_some() && fixed != here {
                return Err(Error::bug("partials of one run have different fixed-point scales"));
            }
            fixed = here;
        }
        let feed = self.feed(WHOLE, Partial::Quality, 0..0, |_, batch| quality_sums(batch));
        let sums = flow::sums(self.workers, &self.epochs, feed)?;
        let sums = [0, 1, 2, 3].map(|line| sums.get(&line).cloned().unwrap_or_default());
        let total = |at: usize| narrow(sums.iter().map(|s| s.get(at).copied().unwrap_or(0)).sum());
        let [train, heldout, dropped, encoded] = sums.each_ref().map(|sums| quality_total(sums, d_in));
        let fixed = FixedPoint { value_log2: fixed.unwrap_or(20) };
        Ok(([train?, heldout?, dropped?, encoded?], total(7)?, total(8)?, fixed))
    }

    /// The strongest co-firing neighbours of every latent, best first. Ranked by Jaccard on the sample.
    pub fn neighbours(&self, totals: &RunTotals) -> Result<Vec<Vec<Neighbour>>> {
        let fires: Vec<i64> = totals.latents.iter().map(|latent| latent.fires_sampled).collect();
        let mut best = neighbours::Best::new(&fires, self.harvest.neighbours);
        let ranges: Vec<Range<u32>> = neighbours::ranges(self.n_latents, self.pairs()?).collect();
        for some in ranges.chunks(rayon::current_num_threads().min(RANGES_AT_A_TIME)) {
            let counts: Result<Vec<_>> = some.par_iter().map(|range| self.pair_counts(range)).collect();
            counts?.into_iter().flatten().for_each(|pair| best.offer(pair));
        }
        Ok(best.finish())
    }

    /// Pairs in the partials of all shards.
    fn pairs(&self) -> Result<u64> {
        let rows = |(shard, _): &(u32, i64)| self.source.rows(*shard, Partial::Pairs);
        self.multiplicities().iter().map(rows).sum()
    }

    /// Counts of the pairs whose smaller latent is in the range, over all shards.
    fn pair_counts(&self, range: &Range<u32>) -> Result<Vec<neighbours::Pair>> {
        let mut total = Vec::new();
        for (shard, times) in self.multiplicities() {
            let batch = self.source.read(shard, Partial::Pairs, range.clone())?;
            total = neighbours::add(total, &pair_counts(&batch)?, times)?;
        }
        Ok(total)
    }

    /// The merged lists of the latents of a range, in list order.
    pub fn samples(&self, latents: Range<u32>) -> Result<BTreeMap<(u32, List, Split), Vec<Sample>>> {
        let mut all = BTreeMap::new();
        for range in self.steps(latents, self.harvest.entries_per_latent()) {
            all.extend(self.merged_samples(range)?);
        }
        Ok(all)
    }

    fn merged_samples(&self, range: Range<u32>) -> Result<BTreeMap<(u32, List, Split), Vec<Sample>>> {
        let feed = self.feed(KEYS, Partial::Samples, range.clone(), sample_keys);
        let harvest = self.harvest.clone();
        let limit = move |key: &(u32, u8)| {
            let (list, split) = from_slot(key.1);
            harvest.capacity(list, split)
        };
        let merged = flow::smallest(self.workers, &self.epochs, feed, |value: &Ranked| value.3, limit)?;
        self.with_activations(range, merged)
    }

    /// Looks up what the chosen entries hold: dataflows carry only their keys.
    fn with_activations(
        &self,
        range: Range<u32>,
        merged: BTreeMap<(u32, u8), Vec<Ranked>>,
    ) -> Result<BTreeMap<(u32, List, Split), Vec<Sample>>> {
        let sample = |&(_, seq, start, shard, row): &Ranked| Sample {
            seq,
            start,
            context: ContextRef { shard, row },
            activations: Vec::new(),
        };
        let mut samples: BTreeMap<(u32, u8), Vec<Sample>> =
            merged.iter().map(|(key, entries)| (*key, entries.iter().map(sample).collect())).collect();
        for shard in self.shards() {
            let batch = self.source.read(shard, Partial::Samples, range.clone())?;
            let (offsets, values) =
                (lists::<Int32Type>(&batch, "offsets")?, lists::<Float32Type>(&batch, "values")?);
            let keys = sample_keys_in_order(shard, &batch)?;
            let mut row = 0;
            for same in keys.chunk_by(|a, b| a.0 == b.0) {
                let key = same[0].0;
                // What a dataflow merged is in order, so that an entry is found by halving.
                if let (Some(entries), Some(samples)) = (merged.get(&key), samples.get_mut(&key)) {
                    for (at, (_, entry)) in same.iter().enumerate() {
                        if let Ok(found) = entries.binary_search(entry) {
                            let at = row + at;
                            samples[found].activations = activations(offsets.row(at), values.row(at));
                        }
                    }
                }
                row += same.len();
            }
        }
        let named = |((latent, slot), samples)| {
            let (list, split) = from_slot(slot);
            ((latent, list, split), samples)
        };
        Ok(samples.into_iter().map(named).collect())
    }

    /// The merged pools: explain, score.
    pub fn pools(&self) -> Result<[PoolIndex; 2]> {
        let feed = self.feed(KEYS, Partial::Pool, 0..0, pool_keys);
        let harvest = self.harvest.clone();
        let limit = move |split: &u8| harvest.part(Split::ALL[usize::from(*split)], harvest.pool_contexts);
        let merged = flow::smallest(self.workers, &self.epochs, feed, |value: &Ranked| value.3, limit)?;
        let mut contexts = self.pool_contexts(&merged)?;
        let mut pool = |split: u8| {
            let keys = merged.get(&split).into_iter().flatten();
            PoolIndex::new(keys.filter_map(|key| contexts.remove(&(key.3, key.4))).collect())
        };
        Ok([pool(0), pool(1)])
    }

    fn pool_contexts(&self, merged: &BTreeMap<u8, Vec<Ranked>>) -> Result<BTreeMap<(u32, u64), PoolContext>> {
        let mut contexts: BTreeMap<(u32, u64), PoolContext> =
            merged.values().flatten().map(|key| ((key.3, key.4), PoolContext::default())).collect();
        for shard in self.shards() {
            let batch = self.source.read(shard, Partial::Pool, 0..0)?;
            fill_pool(shard, &batch, &mut contexts)?;
        }
        Ok(contexts)
    }
}

fn out_of_range() -> Error {
    Error::bug("a total needs more than 64 bits")
}

fn narrow(wide: i128) -> Result<i64> {
    i64::try_from(wide).map_err(|_| out_of_range())
}

fn latent_sums(batch: &RecordBatch, fixed: FixedPoint) -> Result<Vec<(u32, Vec<i128>)>> {
    if int32s(batch, "value_log2")?.iter().any(|&e| e != fixed.value_log2) {
        return Err(Error::bug("partials of one run have different fixed-point scales"));
    }
    let names = ["fires", "contexts_with_fire", "sum", "sum_sq", "fires_sampled"];
    let columns = names.map(|name| int64s(batch, name));
    let [a, b, c, d, e] = columns;
    let columns = [a?, b?, c?, d?, e?];
    let histogram = lists::<Int64Type>(batch, "histogram")?;
    let sums = |row: usize| {
        columns.iter().map(|c| &c[row]).chain(histogram.row(row)).map(|&q| i128::from(q)).collect()
    };
    Ok(int32s(batch, "latent")?.iter().enumerate().map(|(row, &latent)| (latent as u32, sums(row))).collect())
}

/// A maximum is not a group element, so it goes through a reduction: (bits of max, shard, shard).
#[allow(clippy::type_complexity, reason = "the input type of `flow::extremes`")]
fn latent_extremes(shard: u32, batch: &RecordBatch) -> Result<Vec<((u32, (u32, u32, u32)), isize)>> {
    let max = float32s(batch, "max")?;
    let row = |(latent, max): (&i32, &f32)| ((*latent as u32, (max.to_bits(), shard, shard)), 1);
    Ok(int32s(batch, "latent")?.iter().zip(max).map(row).collect())
}

fn latent_total(sums: Option<Vec<i128>>, extremes: Option<(u32, u32, u32)>) -> Result<LatentTotal> {
    let Some(sums) = sums else { return Ok(LatentTotal::default()) };
    if sums.len() != 5 + HISTOGRAM_BINS {
        return Err(Error::bug("a partial has another number of histogram bins"));
    }
    let sums = sums.into_iter().map(narrow).collect::<Result<Vec<i64>>>()?;
    let (max, first, last) = extremes.unwrap_or_default();
    Ok(LatentTotal {
        fires: sums[0],
        contexts_with_fire: sums[1],
        sum: sums[2],
        sum_sq: sums[3],
        fires_sampled: sums[4],
        histogram: sums[5..].to_vec(),
        max: f32::from_bits(max),
        shards: Some((first, last)),
    })
}

const QUALITY_COLUMNS: [&str; 9] = [
    "rows",
    "nnz",
    "sum_error_sq",
    "sum_x_sq",
    "sum_x_dot_x_hat",
    "sum_x_hat_sq",
    "sum_cosine",
    "rows_sampled",
    "contexts",
];

fn quality_sums(batch: &RecordBatch) -> Result<Vec<(u32, Vec<i128>)>> {
    let columns = QUALITY_COLUMNS.iter().map(|name| int64s(batch, name)).collect::<Result<Vec<_>>>()?;
    let sum_x = lists::<Int64Type>(batch, "sum_x")?;
    let sums =
        |row: usize| columns.iter().map(|c| &c[row]).chain(sum_x.row(row)).map(|&q| i128::from(q)).collect();
    Ok((0..batch.num_rows()).map(|row| (row as u32, sums(row))).collect())
}

/// A split whose sums are all zero has left the dataflow, so missing integers are zeros.
fn quality_total(sums: &[i128], d_in: usize) -> Result<QualitySums> {
    let mut sums = sums.iter().map(|&q| narrow(q)).collect::<Result<Vec<i64>>>()?;
    sums.resize(QUALITY_COLUMNS.len() + d_in, 0);
    let at = |index: usize| sums[index];
    Ok(QualitySums {
        rows: at(0),
        nnz: at(1),
        sum_error_sq: at(2),
        sum_x_sq: at(3),
        sum_x_dot_x_hat: at(4),
        sum_x_hat_sq: at(5),
        sum_cosine: at(6),
        sum_x: sums[QUALITY_COLUMNS.len()..].to_vec(),
    })
}

fn pair_counts(batch: &RecordBatch) -> Result<Vec<neighbours::Pair>> {
    let (latents, others) = (int32s(batch, "latent")?, int32s(batch, "neighbour")?);
    let pairs = latents.iter().zip(others).map(|(&i, &j)| (i as u64) << 32 | j as u64);
    Ok(pairs.zip(int64s(batch, "n_both")?.iter().copied()).collect())
}

/// List and split as one small number.
fn slot(list: List, split: Split) -> u8 {
    list as u8 * 2 + split as u8
}

fn from_slot(slot: u8) -> (List, Split) {
    (List::ALL[usize::from(slot / 2)], Split::ALL[usize::from(slot % 2)])
}

fn unknown(word: &str) -> Error {
    Error::bug(format!("a partial holds the unknown word `{word}`"))
}

fn ranked(shard: u32, batch: &RecordBatch) -> Result<Vec<Ranked>> {
    let (order, context) = (int64s(batch, "order")?, int64s(batch, "context")?);
    let (seq, start) = (int64s(batch, "seq")?, int64s(batch, "start")?);
    let row = |at: usize| (order[at] as u64, seq[at], start[at], shard, context[at] as u64);
    Ok((0..batch.num_rows()).map(row).collect())
}

fn sample_keys_in_order(shard: u32, batch: &RecordBatch) -> Result<Vec<((u32, u8), Ranked)>> {
    let (list, split) = (strings(batch, "list")?, strings(batch, "split")?);
    let latents = int32s(batch, "latent")?;
    let key = |(row, ranked): (usize, Ranked)| {
        let list = List::from_name(list.value(row)).ok_or_else(|| unknown(list.value(row)))?;
        let split = Split::from_name(split.value(row)).ok_or_else(|| unknown(split.value(row)))?;
        Ok(((latents[row] as u32, slot(list, split)), ranked))
    };
    ranked(shard, batch)?.into_iter().enumerate().map(key).collect()
}

#[allow(clippy::type_complexity, reason = "the input type of `flow::smallest`")]
fn sample_keys(shard: u32, batch: &RecordBatch) -> Result<Vec<(((u32, u8), Ranked), isize)>> {
    Ok(sample_keys_in_order(shard, batch)?.into_iter().map(|row| (row, 1)).collect())
}

#[allow(clippy::type_complexity, reason = "the input type of `flow::smallest`")]
fn pool_keys(shard: u32, batch: &RecordBatch) -> Result<Vec<((u8, Ranked), isize)>> {
    let split = strings(batch, "split")?;
    let key = |(row, ranked): (usize, Ranked)| {
        let split = Split::from_name(split.value(row)).ok_or_else(|| unknown(split.value(row)))?;
        Ok(((split as u8, ranked), 1))
    };
    ranked(shard, batch)?.into_iter().enumerate().map(key).collect()
}

fn activations(offsets: &[i32], values: &[f32]) -> Vec<(u32, f32)> {
    offsets.iter().map(|&offset| offset as u32).zip(values.iter().copied()).collect()
}

fn fill_pool(
    shard: u32,
    batch: &RecordBatch,
    contexts: &mut BTreeMap<(u32, u64), PoolContext>,
) -> Result<()> {
    let (latents, offsets) = (lists::<Int32Type>(batch, "latents")?, lists::<Int32Type>(batch, "offsets")?);
    let values = lists::<Float32Type>(batch, "values")?;
    let unsigned = |list: &[i32]| list.iter().map(|&v| v as u32).collect();
    for (at, key) in ranked(shard, batch)?.into_iter().enumerate() {
        if let Some(context) = contexts.get_mut(&(shard, key.4)) {
            *context = PoolContext {
                order: key.0,
                shard,
                row: key.4,
                latents: unsigned(latents.row(at)),
                offsets: unsigned(offsets.row(at)),
                values: values.row(at).to_vec(),
            };
        }
    }
    Ok(())
}
