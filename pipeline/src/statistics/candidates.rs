//! Rows of `autointerp_candidates`: chosen examples joined with the tokens of their contexts.

use std::{ops::Range, sync::Arc};

use arrow::{
    array::{
        ArrayRef, Float32Array, Float32Builder, Int32Array, Int64Array, ListBuilder, RecordBatch,
        StringArray, UInt64Array,
    },
    compute::{concat_batches, take_record_batch},
    datatypes::DataType,
};
use atomflow_schemas::{partial::Partial, table::AUTOINTERP_CANDIDATES};
use atomflow_workers::interp::{
    List, Split,
    select::{self, ContextRef, Example, Sample, peak},
};

use rayon::prelude::*;

use super::{
    columns::{column, int64s},
    publish::{Publisher, batch, element, repeated},
};
use crate::{Error, Result};

/// One example and the latent it is for.
type Chosen = (u32, Example);

/// The rows for `latents`, by latent, then split, then kind.
pub(super) fn rows(publisher: &Publisher<'_>, latents: Range<u32>) -> Result<RecordBatch> {
    let chosen = choose(publisher, latents)?;
    let contexts = contexts_of(publisher, &chosen)?;
    layout(publisher, &chosen, &contexts)
}

fn choose(publisher: &Publisher<'_>, latents: Range<u32>) -> Result<Vec<Chosen>> {
    let (statistics, spec) = (publisher.statistics, publisher.statistics.harvest());
    let samples = statistics.samples(latents.clone())?;
    let of = |latent: u32| {
        // A latent that never fired has nothing to explain.
        if publisher.totals.latents[latent as usize].fires == 0 {
            return Vec::new();
        }
        let near: Vec<u32> = publisher.neighbours[latent as usize].iter().map(|n| n.latent).collect();
        let mut chosen = Vec::new();
        for split in Split::ALL {
            let list = |list| samples.get(&(latent, list, split)).map_or(&[] as &[Sample], Vec::as_slice);
            let (top, uniform, importance) = (list(List::Top), list(List::Uniform), list(List::Importance));
            let mut examples = select::active(spec, split, top, uniform, importance);
            let pool = &publisher.pools[split as usize];
            examples.extend(select::inactive(spec, split, latent, &near, pool));
            chosen.extend(examples.into_iter().map(|example| (latent, example)));
        }
        chosen
    };
    let per_latent: Vec<Vec<Chosen>> = latents.into_par_iter().map(of).collect();
    Ok(per_latent.into_iter().flatten().collect())
}

/// The contexts that examples lie in, one row each, ascending.
struct Contexts {
    keys: Vec<ContextRef>,
    rows: RecordBatch,
}

/// Reads the contexts of each shard once and keeps the rows that are needed.
fn contexts_of(publisher: &Publisher<'_>, chosen: &[Chosen]) -> Result<Contexts> {
    let mut wanted: Vec<ContextRef> = chosen.iter().map(|(_, example)| example.context).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let (mut batches, mut keys) = (Vec::new(), Vec::new());
    for of_shard in wanted.chunk_by(|a, b| a.shard == b.shard) {
        let shard = of_shard[0].shard;
        let all = publisher.statistics.contexts(shard)?;
        let mut picked = Vec::new();
        for (&context, row) in int64s(&all, "context")?.iter().zip(0..) {
            let key = ContextRef { shard, row: context as u64 };
            if of_shard.binary_search(&key).is_ok() {
                keys.push(key);
                picked.push(row);
            }
        }
        batches.push(take_record_batch(&all, &UInt64Array::from(picked)).map_err(bug)?);
    }
    let rows = concat_batches(&Arc::new(Partial::Contexts.schema()), &batches).map_err(bug)?;
    Ok(Contexts { keys, rows })
}

fn bug(error: arrow::error::ArrowError) -> Error {
    Error::bug(format!("candidates: {error}"))
}

fn layout(publisher: &Publisher<'_>, chosen: &[Chosen], contexts: &Contexts) -> Result<RecordBatch> {
    let examples = || chosen.iter().map(|(_, example)| example);
    let find = |example: &Example| contexts.keys.binary_search(&example.context).ok().map(|at| at as u64);
    let at: Option<UInt64Array> = examples().map(find).collect::<Option<Vec<u64>>>().map(UInt64Array::from);
    let at = at.ok_or_else(|| Error::bug("a sample refers to a context that its shard did not keep"))?;
    let joined = take_record_batch(&contexts.rows, &at).map_err(bug)?;
    let tokens = column::<Int32Array>(&joined, "rows")?.values();
    let text = |get: fn(&Example) -> &'static str| {
        Arc::new(StringArray::from_iter_values(examples().map(get))) as ArrayRef
    };
    let taken =
        |name: &str| joined.column_by_name(name).cloned().ok_or_else(|| Error::bug(format!("no `{name}`")));
    let max = |latent: u32| publisher.totals.latents[latent as usize].max;
    let columns: Vec<ArrayRef> = vec![
        publisher.run_ids(chosen.len()),
        Arc::new(Int32Array::from_iter_values(chosen.iter().map(|(latent, _)| *latent as i32))),
        repeated(publisher.about.hookpoint.as_deref(), chosen.len()),
        text(|e| e.split.name()),
        text(|e| e.kind.name()),
        Arc::new(examples().map(|e| e.slice_index.map(|s| s as i32)).collect::<Int32Array>()),
        Arc::new(Int32Array::from_iter_values(examples().map(|e| e.rank as i32))),
        taken("seq_id")?,
        taken("doc_id")?,
        taken("start")?,
        taken("pos")?,
        taken("rows")?,
        taken("token_ids")?,
        taken("str_tokens")?,
        dense(examples().map(|e| Some(e.activations.as_slice())), tokens),
        Arc::new(Float32Array::from_iter_values(examples().map(|e| peak(&e.activations).1))),
        Arc::new(examples().map(peak_pos).collect::<Int32Array>()),
        Arc::new(Float32Array::from_iter_values(chosen.iter().map(|(latent, _)| max(*latent)))),
        taken("dropped")?,
        Arc::new(examples().map(|e| e.neighbour.as_ref().map(|n| n.0 as i32)).collect::<Int32Array>()),
        dense(examples().map(|e| e.neighbour.as_ref().map(|n| n.1.as_slice())), tokens),
        Arc::new(StringArray::from_iter_values(examples().map(|e| publisher.shard_url(e.context.shard)))),
        taken("row_group")?,
        taken("row_in_group")?,
        taken("context")?,
        Arc::new(Int64Array::from(vec![publisher.about.seed as i64; chosen.len()])),
    ];
    batch(&AUTOINTERP_CANDIDATES, columns)
}

fn peak_pos(example: &Example) -> Option<i32> {
    (!example.activations.is_empty()).then(|| peak(&example.activations).0 as i32)
}

/// (token, activation) pairs spread over all tokens of their context.
fn dense<'a>(rows: impl Iterator<Item = Option<&'a [(u32, f32)]>>, tokens: &[i32]) -> ArrayRef {
    let mut lists = ListBuilder::new(Float32Builder::new()).with_field(element(DataType::Float32));
    let mut row = Vec::new();
    for (activations, &tokens) in rows.zip(tokens) {
        row.clear();
        row.resize(if activations.is_some() { tokens as usize } else { 0 }, 0.0);
        for &(token, value) in activations.unwrap_or_default() {
            row[token as usize] = value;
        }
        lists.values().append_slice(&row);
        lists.append(activations.is_some());
    }
    Arc::new(lists.finish())
}
