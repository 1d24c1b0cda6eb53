//! Totals and dictionary → rows of the published tables, a range of latents at a time.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float32Array, Float32Builder, Float64Array, Int32Array, Int32Builder,
        Int64Array, Int64Builder, ListBuilder, RecordBatch, StringArray, StringBuilder, StructBuilder,
    },
    datatypes::{DataType, Field},
};
use atomflow_schemas::table::{self, Table};
use atomflow_workers::{
    interp::select::PoolIndex,
    learner::{Dictionary, LinearEncoder},
    random::hash,
    stats::{QualitySums, RowSplit, fixed::real, histogram},
};

use super::{
    candidates,
    nearest::nearest,
    totals::{LatentTotal, Neighbour, RunTotals, Statistics},
};
use crate::{Error, Result};

/// What every table says about its run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// Run id.
    pub run_id: String,
    /// Site in the model, if the spec names one.
    pub hookpoint: Option<String>,
    /// Latents per row by construction, if the learner fixes it.
    pub k: Option<i32>,
    /// Seed of the job.
    pub seed: u64,
    /// URL of each shard, by its number in the plan.
    pub shard_urls: Vec<String>,
}

/// Makes the rows of the published tables.
pub struct Publisher<'a> {
    pub(super) about: About,
    pub(super) statistics: &'a Statistics,
    pub(super) totals: RunTotals,
    pub(super) pools: [PoolIndex; 2],
    /// Co-firing neighbours of every latent, best first.
    pub(super) neighbours: Vec<Vec<Neighbour>>,
    dictionary: &'a dyn Dictionary,
}

impl<'a> Publisher<'a> {
    /// Computes the totals that all tables share.
    pub fn new(about: About, statistics: &'a Statistics, dictionary: &'a dyn Dictionary) -> Result<Self> {
        let totals = || {
            let totals = statistics.run_totals()?;
            if totals.latents.len() != dictionary.n_latents() {
                return Err(Error::bug("statistics and dictionary have different numbers of latents"));
            }
            let neighbours = statistics.neighbours(&totals)?;
            Ok((totals, neighbours))
        };
        let (totals, pools) = rayon::join(totals, || statistics.pools());
        let ((totals, neighbours), pools) = (totals?, pools?);
        Ok(Publisher { about, statistics, totals, pools, neighbours, dictionary })
    }

    /// The totals.
    pub fn totals(&self) -> &RunTotals {
        &self.totals
    }

    /// Rows of `features`.
    pub fn features(&self, latents: Range<u32>) -> Result<RecordBatch> {
        let (d_out, rows) = (self.dictionary.d_out(), self.rows(&latents));
        let (atoms, linear) = (self.dictionary.atoms(), self.dictionary.linear_encoder());
        let span = latents.start as usize..latents.end as usize;
        let near = nearest(atoms, d_out, span.clone(), self.statistics.harvest().neighbours);
        let norm = |row: &[f32]| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt() as f32;
        let d_in = self.dictionary.d_in();
        let direction = |latent: usize, linear: &LinearEncoder| norm(&linear.rows[latent * d_in..][..d_in]);
        let norms = span.clone().map(|latent| linear.as_ref().map(|linear| direction(latent, linear)));
        let bias = span.clone().map(|latent| linear.as_ref().map(|linear| linear.bias[latent]));
        let columns: Vec<ArrayRef> = vec![
            self.run_ids(rows),
            Arc::new(Int64Array::from_iter_values(
                latents.clone().map(|l| feature_id(&self.about.run_id, l)),
            )),
            numbers(&latents),
            Arc::new(StringArray::from(vec![self.about.hookpoint.as_deref(); rows])),
            Arc::new(Int32Array::from(vec![self.about.k; rows])),
            self.per_latent_f64(&latents, |t| ratio(t.fires, self.totals.rows_kept())),
            Arc::new(norms.collect::<Float32Array>()),
            Arc::new(bias.collect::<Float32Array>()),
            decoder_lists(&atoms[span.start * d_out..span.end * d_out], d_out),
            self.per_latent_f32(&latents, |t| t.max),
            nearest_lists(&near),
            Arc::new(self.of(&latents).map(|t| Some(t.fires == 0)).collect::<BooleanArray>()),
        ];
        batch(&table::FEATURES, columns)
    }

    /// Rows of `activation_stats`.
    pub fn activation_stats(&self, latents: Range<u32>) -> Result<RecordBatch> {
        let (rows, fixed) = (self.rows(&latents), self.totals.fixed);
        let (kept, contexts) = (self.totals.rows_kept(), self.totals.contexts);
        let constant = |value: i32| Arc::new(Int32Array::from(vec![value; rows])) as ArrayRef;
        let low = Float64Array::from(vec![histogram::low_edge(fixed); rows]);
        let columns: Vec<ArrayRef> = vec![
            self.run_ids(rows),
            numbers(&latents),
            self.per_latent(&latents, |t| t.fires),
            Arc::new(Int64Array::from(vec![kept; rows])),
            self.per_latent(&latents, |t| t.contexts_with_fire),
            Arc::new(Int64Array::from(vec![contexts; rows])),
            self.per_latent_f64(&latents, |t| ratio(t.fires, kept)),
            self.per_latent_f64(&latents, |t| ratio(t.contexts_with_fire, contexts)),
            self.per_latent(&latents, |t| t.sum),
            self.per_latent(&latents, |t| t.sum_sq),
            constant(fixed.value_log2),
            constant(fixed.code_square_log2()),
            Arc::new(self.of(&latents).map(|t| self.mean(t)).collect::<Float64Array>()),
            Arc::new(self.of(&latents).map(|t| self.std(t)).collect::<Float64Array>()),
            self.per_latent_f32(&latents, |t| t.max),
            histogram_lists(self.of(&latents)),
            Arc::new(low),
            self.per_latent(&latents, |t| t.fires_sampled),
            self.shard_names(self.of(&latents).map(|t| t.shards.map(|s| s.0))),
            self.shard_names(self.of(&latents).map(|t| t.shards.map(|s| s.1))),
        ];
        batch(&table::ACTIVATION_STATS, columns)
    }

    /// Rows of `coactivations`.
    pub fn coactivations(&self, latents: Range<u32>) -> Result<RecordBatch> {
        let ranked = |latent: u32| {
            self.neighbours[latent as usize].iter().zip(0..).map(move |(&n, rank)| (latent, rank, n))
        };
        let rows: Vec<(u32, i32, Neighbour)> = latents.flat_map(ranked).collect();
        let sampled = |latent: u32| self.totals.latents[latent as usize].fires_sampled;
        let jaccard =
            |(i, _, n): &(u32, i32, Neighbour)| ratio(n.n_both, sampled(*i) + sampled(n.latent) - n.n_both);
        let columns: Vec<ArrayRef> = vec![
            self.run_ids(rows.len()),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.0 as i32))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.2.latent as i32))),
            Arc::new(Int32Array::from_iter_values(rows.iter().map(|r| r.1))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.2.n_both))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| sampled(r.0)))),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| sampled(r.2.latent)))),
            Arc::new(Float64Array::from_iter_values(rows.iter().map(jaccard))),
            Arc::new(Int64Array::from(vec![self.totals.rows_sampled; rows.len()])),
        ];
        batch(&table::COACTIVATIONS, columns)
    }

    /// Rows of `autointerp_candidates`. Memory follows the range: about 1 KB per
    /// example of 32 tokens, 120 examples per latent by default, so 1024 latents are some 120 MB.
    pub fn autointerp_candidates(&self, latents: Range<u32>) -> Result<RecordBatch> {
        candidates::rows(self, latents)
    }

    /// Rows of `feature_lineage`: in a first run every feature is born.
    pub fn feature_lineage(&self, latents: Range<u32>) -> Result<RecordBatch> {
        let rows = self.rows(&latents);
        let none = || Arc::new(Float64Array::from(vec![None; rows])) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from_iter_values(
                latents.clone().map(|l| feature_id(&self.about.run_id, l)),
            )),
            self.run_ids(rows),
            numbers(&latents),
            Arc::new(Int64Array::from(vec![None; rows])),
            none(),
            none(),
            Arc::new(StringArray::from(vec!["born"; rows])),
        ];
        batch(&table::FEATURE_LINEAGE, columns)
    }

    /// Rows of `quality`: train, heldout, dropped, kept, all; with a coder, heldout_encoder.
    pub fn quality(&self) -> Result<RecordBatch> {
        let [train, heldout, dropped] = self.totals.quality.clone();
        let mut splits = vec![
            ("train", train),
            ("heldout", heldout),
            ("dropped", dropped),
            ("kept", self.totals.kept()?),
            ("all", self.totals.all()?),
        ];
        splits.extend(self.totals.encoded.clone().map(|sums| (RowSplit::HELD_OUT_ENCODED, sums)));
        self.quality_of(&splits)
    }

    fn quality_of(&self, splits: &[(&str, QualitySums)]) -> Result<RecordBatch> {
        let fixed = self.totals.fixed;
        let figures: Vec<_> = splits.iter().map(|(_, sums)| sums.figures(fixed)).collect();
        let sums = |get: fn(&QualitySums) -> i64| {
            Arc::new(Int64Array::from_iter_values(splits.iter().map(|(_, s)| get(s)))) as ArrayRef
        };
        let constant = |value: i32| Arc::new(Int32Array::from(vec![value; splits.len()])) as ArrayRef;
        let columns: Vec<ArrayRef> = vec![
            self.run_ids(splits.len()),
            Arc::new(StringArray::from_iter_values(splits.iter().map(|(name, _)| name))),
            sums(|s| s.rows),
            Arc::new(figures.iter().map(|f| f.fvu).collect::<Float64Array>()),
            Arc::new(figures.iter().map(|f| f.l0).collect::<Float64Array>()),
            Arc::new(figures.iter().map(|f| f.cosine).collect::<Float64Array>()),
            Arc::new(figures.iter().map(|f| f.relative_reconstruction_bias).collect::<Float64Array>()),
            sums(|s| s.nnz),
            sums(|s| s.sum_error_sq),
            sums(|s| s.sum_x_sq),
            sums(|s| s.sum_x_dot_x_hat),
            sums(|s| s.sum_x_hat_sq),
            sums(|s| s.sum_cosine),
            int64_lists(splits.iter().map(|(_, s)| s.sum_x.as_slice())),
            constant(fixed.value_log2),
            constant(fixed.row_square_log2()),
        ];
        batch(&table::QUALITY, columns)
    }

    fn mean(&self, total: &LatentTotal) -> Option<f64> {
        (total.fires > 0).then(|| real(total.sum, self.totals.fixed.value_log2) / total.fires as f64)
    }

    fn std(&self, total: &LatentTotal) -> Option<f64> {
        let mean = self.mean(total)?;
        let square = real(total.sum_sq, self.totals.fixed.code_square_log2()) / total.fires as f64;
        Some((square - mean * mean).max(0.0).sqrt())
    }

    fn rows(&self, latents: &Range<u32>) -> usize {
        (latents.end - latents.start) as usize
    }

    pub(super) fn of(&self, latents: &Range<u32>) -> impl Iterator<Item = &LatentTotal> {
        self.totals.latents[latents.start as usize..latents.end as usize].iter()
    }

    pub(super) fn run_ids(&self, rows: usize) -> ArrayRef {
        Arc::new(StringArray::from(vec![self.about.run_id.as_str(); rows]))
    }

    fn per_latent(&self, latents: &Range<u32>, get: impl Fn(&LatentTotal) -> i64) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(self.of(latents).map(get)))
    }

    fn per_latent_f64(&self, latents: &Range<u32>, get: impl Fn(&LatentTotal) -> f64) -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(self.of(latents).map(get)))
    }

    fn per_latent_f32(&self, latents: &Range<u32>, get: impl Fn(&LatentTotal) -> f32) -> ArrayRef {
        Arc::new(Float32Array::from_iter_values(self.of(latents).map(get)))
    }

    fn shard_names(&self, shards: impl Iterator<Item = Option<u32>>) -> ArrayRef {
        let name = |shard: Option<u32>| shard.map(|shard| self.shard_url(shard).to_owned());
        Arc::new(shards.map(name).collect::<StringArray>())
    }

    pub(super) fn shard_url(&self, shard: u32) -> &str {
        self.about.shard_urls.get(shard as usize).map_or("", String::as_str)
    }
}

/// Identity of a latent that was born in a run: a hash of both, non-negative.
pub fn feature_id(run_id: &str, latent: u32) -> i64 {
    let mut words = vec![run_id.len() as u64, u64::from(latent)];
    words.extend(
        run_id
            .as_bytes()
            .chunks(8)
            .map(|chunk| chunk.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte))),
    );
    (hash(&words) >> 1) as i64
}

/// `a / b`, 0 where there is nothing to divide by.
fn ratio(a: i64, b: i64) -> f64 {
    if b > 0 { a as f64 / b as f64 } else { 0.0 }
}

fn numbers(latents: &Range<u32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(latents.clone().map(|latent| latent as i32)))
}

pub(super) fn batch(table: &Table, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(Arc::new(table.schema()), columns)
        .map_err(|e| Error::bug(format!("rows of `{}` do not fit its schema: {e}", table.name)))
}

pub(super) fn element(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", item, false))
}

fn int64_lists<'a>(rows: impl Iterator<Item = &'a [i64]>) -> ArrayRef {
    let mut lists = ListBuilder::new(Int64Builder::new()).with_field(element(DataType::Int64));
    for row in rows {
        lists.values().append_slice(row);
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn histogram_lists<'a>(totals: impl Iterator<Item = &'a LatentTotal>) -> ArrayRef {
    const EMPTY: [i64; atomflow_schemas::partial::HISTOGRAM_BINS] =
        [0; atomflow_schemas::partial::HISTOGRAM_BINS];
    int64_lists(totals.map(|t| if t.histogram.is_empty() { &EMPTY[..] } else { &t.histogram }))
}

fn decoder_lists(atoms: &[f32], d_in: usize) -> ArrayRef {
    let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element(DataType::Float32));
    for atom in atoms.chunks_exact(d_in) {
        lists.values().append_slice(atom);
        lists.append(true);
    }
    Arc::new(lists.finish())
}

fn nearest_lists(near: &[Vec<(u32, f32)>]) -> ArrayRef {
    let fields = table::nearest_fields();
    let item = element(DataType::Struct(fields.clone()));
    let columns: Vec<Box<dyn arrow::array::ArrayBuilder>> =
        vec![Box::new(Int32Builder::new()), Box::new(Float32Builder::new())];
    let mut lists = ListBuilder::new(StructBuilder::new(fields, columns)).with_field(item);
    for list in near {
        for &(latent, cosine) in list {
            let row = lists.values();
            if let Some(column) = row.field_builder::<Int32Builder>(0) {
                column.append_value(latent as i32);
            }
            if let Some(column) = row.field_builder::<Float32Builder>(1) {
                column.append_value(cosine);
            }
            row.append(true);
        }
        lists.append(true);
    }
    Arc::new(lists.finish())
}

/// A nullable text column of one value.
pub(super) fn repeated(value: Option<&str>, rows: usize) -> ArrayRef {
    let mut column = StringBuilder::new();
    (0..rows).for_each(|_| column.append_option(value));
    Arc::new(column.finish())
}
