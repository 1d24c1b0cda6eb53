//! Statistics in memory → partial tables. Only layout: no figure is computed here.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, Float32Array, Float32Builder, Int32Array, Int32Builder, Int64Array, Int64Builder,
        ListBuilder, RecordBatch, StringArray, StringBuilder,
    },
    datatypes::{DataType, Field},
    error::ArrowError,
};
use atomflow_schemas::partial::Partial;

use super::{
    block::RowSplit, fixed::FixedPoint, latents::LatentTable, pairs::PairCounts, quality::QualitySums,
};
use crate::interp::{context::Context, pool::Pool, samples::Samples};

type Table = Result<RecordBatch, ArrowError>;

fn table(partial: Partial, columns: Vec<ArrayRef>) -> Table {
    RecordBatch::try_new(Arc::new(partial.schema()), columns)
}

fn element(item: DataType) -> Arc<Field> {
    Arc::new(Field::new("element", item, false))
}

fn int32_lists() -> ListBuilder<Int32Builder> {
    ListBuilder::new(Int32Builder::new()).with_field(element(DataType::Int32))
}

fn int64_lists() -> ListBuilder<Int64Builder> {
    ListBuilder::new(Int64Builder::new()).with_field(element(DataType::Int64))
}

fn float32_lists() -> ListBuilder<Float32Builder> {
    ListBuilder::new(Float32Builder::new()).with_field(element(DataType::Float32))
}

fn string_lists() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(element(DataType::Utf8))
}

fn int32s(values: impl Iterator<Item = i32>) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(values))
}

fn int64s(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values))
}

fn exponents(value_log2: i32, square_log2: i32, rows: usize) -> [ArrayRef; 2] {
    [value_log2, square_log2].map(|exponent| int32s(std::iter::repeat_n(exponent, rows)))
}

pub(super) fn latents(latents: &LatentTable, fixed: FixedPoint) -> Table {
    let mut histogram = int64_lists();
    for (_, sums) in latents.fired() {
        histogram.values().extend(sums.histogram.iter().map(|&count| Some(i64::from(count))));
        histogram.append(true);
    }
    let fired = || latents.fired();
    let mut columns: Vec<ArrayRef> = vec![
        int32s(fired().map(|(latent, _)| latent as i32)),
        int64s(fired().map(|(_, sums)| sums.fires)),
        int64s(fired().map(|(_, sums)| sums.contexts_with_fire)),
        int64s(fired().map(|(_, sums)| sums.sum)),
        int64s(fired().map(|(_, sums)| sums.sum_sq)),
        Arc::new(Float32Array::from_iter_values(fired().map(|(_, sums)| sums.max))),
        Arc::new(histogram.finish()),
        int64s(fired().map(|(_, sums)| sums.fires_sampled)),
    ];
    columns.extend(exponents(fixed.value_log2, fixed.code_square_log2(), fired().count()));
    table(Partial::Latents, columns)
}

/// The measured splits, then perhaps held-out rows under the learner's own encoder. What is counted once
/// stands on one row.
pub(super) fn quality(
    splits: &[QualitySums],
    rows_sampled: [i64; 3],
    contexts: i64,
    fixed: FixedPoint,
) -> Table {
    let names = RowSplit::MEASURED.map(RowSplit::name).into_iter().chain([RowSplit::HELD_OUT_ENCODED]);
    let padded = |counts: &[i64]| int64s((0..splits.len()).map(|at| counts.get(at).copied().unwrap_or(0)));
    let mut sum_x = int64_lists();
    for split in splits {
        sum_x.values().append_slice(&split.sum_x);
        sum_x.append(true);
    }
    let sums = |get: fn(&QualitySums) -> i64| int64s(splits.iter().map(get));
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(names.take(splits.len()))),
        sums(|s| s.rows),
        sums(|s| s.nnz),
        sums(|s| s.sum_error_sq),
        sums(|s| s.sum_x_sq),
        sums(|s| s.sum_x_dot_x_hat),
        sums(|s| s.sum_x_hat_sq),
        sums(|s| s.sum_cosine),
        Arc::new(sum_x.finish()),
        padded(&rows_sampled),
        padded(&[contexts]),
    ];
    columns.extend(exponents(fixed.value_log2, fixed.row_square_log2(), splits.len()));
    table(Partial::Quality, columns)
}

pub(super) fn pairs(pairs: PairCounts) -> Table {
    let (mut latent, mut neighbour) = (Int32Builder::new(), Int32Builder::new());
    let mut n_both = Int64Builder::new();
    pairs.drain(|i, j, count| {
        latent.append_value(i as i32);
        neighbour.append_value(j as i32);
        n_both.append_value(i64::from(count));
    });
    let columns: Vec<ArrayRef> =
        vec![Arc::new(latent.finish()), Arc::new(neighbour.finish()), Arc::new(n_both.finish())];
    table(Partial::Pairs, columns)
}

/// The columns that name a context, being filled.
#[derive(Default)]
struct Keys {
    order: Int64Builder,
    context: Int64Builder,
    seq: Int64Builder,
    start: Int64Builder,
}

impl Keys {
    fn append(&mut self, order: u64, context: u64, seq: i64, start: i64) {
        self.order.append_value(order as i64);
        self.context.append_value(context as i64);
        self.seq.append_value(seq);
        self.start.append_value(start);
    }

    fn finish(mut self) -> [ArrayRef; 4] {
        [&mut self.order, &mut self.context, &mut self.seq, &mut self.start]
            .map(|column| Arc::new(column.finish()) as ArrayRef)
    }
}

pub(super) fn samples(samples: Samples) -> Table {
    let (mut latents, mut keys) = (Int32Builder::new(), Keys::default());
    let (mut lists, mut splits) = (StringBuilder::new(), StringBuilder::new());
    let (mut offsets, mut values) = (int32_lists(), float32_lists());
    samples.drain(|latent, list, split, entry, activations| {
        latents.append_value(latent as i32);
        lists.append_value(list.name());
        splits.append_value(split.name());
        keys.append(entry.order, entry.context, entry.seq, entry.start);
        for &(offset, value) in activations {
            offsets.values().append_value(i32::from(offset));
            values.values().append_value(value);
        }
        offsets.append(true);
        values.append(true);
    });
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(latents.finish()), Arc::new(lists.finish()), Arc::new(splits.finish())];
    columns.extend(keys.finish());
    columns.push(Arc::new(offsets.finish()));
    columns.push(Arc::new(values.finish()));
    table(Partial::Samples, columns)
}

pub(super) fn pool(pool: Pool) -> Table {
    let (mut splits, mut keys) = (StringBuilder::new(), Keys::default());
    let (mut latents, mut offsets, mut values) = (int32_lists(), int32_lists(), float32_lists());
    pool.drain(|split, pooled| {
        splits.append_value(split.name());
        keys.append(pooled.order, pooled.context, pooled.seq, pooled.start);
        for pair in pooled.pairs {
            latents.values().append_value(pair.latent as i32);
            offsets.values().append_value(i32::from(pair.offset));
            values.values().append_value(pair.value);
        }
        latents.append(true);
        offsets.append(true);
        values.append(true);
    });
    let mut columns: Vec<ArrayRef> = vec![Arc::new(splits.finish())];
    columns.extend(keys.finish());
    columns.extend([latents.finish(), offsets.finish()].map(|list| Arc::new(list) as ArrayRef));
    columns.push(Arc::new(values.finish()));
    table(Partial::Pool, columns)
}

pub(super) fn contexts<'a>(contexts: impl Iterator<Item = &'a Context> + Clone) -> Table {
    let all = || contexts.clone();
    let (mut token_ids, mut str_tokens, mut dropped) = (int32_lists(), string_lists(), int32_lists());
    for context in all() {
        context.token_ids.iter().for_each(|&id| token_ids.values().append_value(id));
        token_ids.append(context.has_ids);
        let mut from = 0;
        for &end in &context.text_ends {
            str_tokens.values().append_value(&context.text[from..end as usize]);
            from = end as usize;
        }
        str_tokens.append(context.has_text);
        context.dropped.iter().for_each(|&at| dropped.values().append_value(at as i32));
        dropped.append(true);
    }
    let columns: Vec<ArrayRef> = vec![
        int64s(all().map(|c| c.first_row as i64)),
        int64s(all().map(|c| c.seq)),
        int64s(all().map(|c| c.start)),
        int32s(all().map(|c| c.rows as i32)),
        int32s(all().map(|c| c.row_group as i32)),
        int64s(all().map(|c| c.row_in_group as i64)),
        Arc::new(all().map(|c| c.seq_id).collect::<Int64Array>()),
        Arc::new(all().map(|c| c.doc_id).collect::<Int64Array>()),
        Arc::new(all().map(|c| c.pos).collect::<Int32Array>()),
        Arc::new(token_ids.finish()),
        Arc::new(str_tokens.finish()),
        Arc::new(dropped.finish()),
    ];
    table(Partial::Contexts, columns)
}
