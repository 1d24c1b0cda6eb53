//! The columns beside the activations: collected batch by batch, joined once.

use arrow::{
    array::{Array, ArrayRef, AsArray, StringArray, UInt64Array},
    compute::{cast, concat, take},
    datatypes::{DataType, Int64Type},
};

use super::{bad_rows::BadRows, decode::Tokens, dense::Lists, ipc::damaged, layout::Role};
use crate::error::Result;

/// Parts of one optional column, as 64-bit integers or text.
#[derive(Debug)]
pub(crate) struct Companion {
    role: Role,
    parts: Vec<ArrayRef>,
}

impl Companion {
    pub(crate) fn new(role: Role) -> Companion {
        Companion { role, parts: vec![] }
    }

    /// Adds a batch whose first row is row `first` of the block.
    pub(crate) fn push(&mut self, array: &ArrayRef, ctx: Option<usize>, first: usize) -> Result<()> {
        let array = match ctx {
            Some(ctx) => per_token(array, ctx, first)?,
            None => array.clone(),
        };
        let target = if self.role == Role::Token { DataType::Utf8 } else { DataType::Int64 };
        // A value that does not fit becomes null, and nulls are reported with their row.
        self.parts.push(cast(&array, &target).map_err(damaged)?);
        Ok(())
    }

    /// Joins the parts and puts them where they belong.
    pub(crate) fn finish(self, tokens: &mut Tokens, bad: &mut BadRows) -> Result<()> {
        let parts: Vec<&dyn Array> = self.parts.iter().map(|p| p.as_ref()).collect();
        if parts.is_empty() {
            return Ok(());
        }
        let whole = concat(&parts).map_err(damaged)?;
        match self.role {
            Role::Token => tokens.token = Some(text(&whole)),
            Role::TokenId => tokens.token_id = Some(narrow(&whole, "token_id is null or out of range", bad)),
            Role::Pos => tokens.pos = Some(narrow(&whole, "pos is null or out of range", bad)),
            Role::DocId => tokens.doc_id = Some(wide(&whole, "doc_id is null or out of range", bad)),
            Role::SeqId => tokens.seq_id = Some(wide(&whole, "seq_id is null or out of range", bad)),
        }
        Ok(())
    }
}

/// A token without text is written as the empty string.
fn text(array: &ArrayRef) -> StringArray {
    let strings = array.as_string::<i32>();
    if strings.null_count() == 0 {
        strings.clone()
    } else {
        strings.iter().map(|s| Some(s.unwrap_or(""))).collect()
    }
}

fn wide(array: &ArrayRef, reason: &'static str, bad: &mut BadRows) -> Vec<i64> {
    let values = array.as_primitive::<Int64Type>();
    (0..values.len()).filter(|i| values.is_null(*i)).for_each(|i| bad.mark(i, reason));
    values.iter().map(|v| v.unwrap_or(0)).collect()
}

fn narrow(array: &ArrayRef, reason: &'static str, bad: &mut BadRows) -> Vec<i32> {
    let values = wide(array, reason, bad).into_iter().enumerate();
    let narrowed = values.map(|(row, value)| {
        i32::try_from(value).unwrap_or_else(|_| {
            bad.mark(row, reason);
            0
        })
    });
    narrowed.collect()
}

/// In a layout of contexts, a list of one value per token, or one value for the whole context.
fn per_token(array: &ArrayRef, ctx: usize, first: usize) -> Result<ArrayRef> {
    if !array.data_type().is_list() {
        let index = (0..array.len() as u64).flat_map(|row| std::iter::repeat_n(row, ctx));
        return take(array, &UInt64Array::from_iter_values(index), None).map_err(damaged);
    }
    let lists = Lists::of(array)?;
    let mut index: Vec<Option<u64>> = vec![None; array.len() * ctx];
    for (at, n) in lists.runs(ctx, first, ctx)? {
        let start = lists.start(at) as u64;
        (0..n * ctx).for_each(|i| index[at * ctx + i] = Some(start + i as u64));
    }
    let items = lists.items.slice(0, lists.items.len());
    take(&items, &UInt64Array::from(index), None).map_err(damaged)
}

/// The positions and sequence numbers of `rows` tokens in contexts of `ctx`, the first of which is
/// context number `context` of the sequences that begin at `base`.
pub(crate) fn context_ids(rows: usize, ctx: usize, base: i64, context: u64) -> (Vec<i32>, Vec<i64>) {
    let pos = (0..rows).map(|row| (row % ctx) as i32).collect();
    let seq = (0..rows).map(|row| base + (context + (row / ctx) as u64) as i64).collect();
    (pos, seq)
}
