//! Columns of labels: numbers or truth values as f32, one or a list per row, NaN where there is none.

use arrow::{
    array::{Array, ArrayRef, AsArray, Float32Array},
    compute::cast,
    datatypes::{DataType, Float32Type},
};

use super::{dense::Lists, ipc::damaged, shield};
use crate::error::{Error, Result};

/// Values per row that the type of a label column tells; `None` for lists of no fixed length.
///
/// Where a row of the file is a context of `ctx` tokens, a value belongs to all of them, and a list
/// holds one value (or one list) per token.
///
/// # Errors
/// It holds neither numbers nor truth values.
pub(super) fn width(data_type: &DataType, ctx: Option<usize>) -> Result<Option<usize>> {
    let per_token = match (ctx, item(data_type)) {
        (Some(_), Some((item, _))) => item,
        _ => data_type,
    };
    match item(per_token) {
        None if is_label(per_token) => Ok(Some(1)),
        Some((item, n)) if is_label(item) && n != Some(0) => Ok(n),
        _ => Err(Error::data(format!("holds {data_type}, not labels")).hint(
            "labels are integers, floats or booleans, one per row or a list of the same length in every row",
        )),
    }
}

/// The item of a list type, with the length if the type fixes it.
fn item(data_type: &DataType) -> Option<(&DataType, Option<usize>)> {
    match data_type {
        DataType::FixedSizeList(item, n) => Some((item.data_type(), usize::try_from(*n).ok())),
        DataType::List(item) | DataType::LargeList(item) => Some((item.data_type(), None)),
        _ => None,
    }
}

fn is_label(data_type: &DataType) -> bool {
    let float = matches!(data_type, DataType::Float16 | DataType::Float32 | DataType::Float64);
    float || data_type.is_integer() || *data_type == DataType::Boolean
}

/// Where labels go: rows of a block.
pub(super) struct Labels<'a> {
    /// Values per row.
    pub(super) width: usize,
    /// Rows per row of the file, if that is a context.
    pub(super) ctx: Option<usize>,
    /// Row-major `[rows, width]`.
    pub(super) out: &'a mut [f32],
}

impl Labels<'_> {
    /// Writes the labels of a batch into the rows beginning at `first`; returns how many rows it gave.
    pub(super) fn fill(&mut self, array: &ArrayRef, first: usize) -> Result<usize> {
        let rows = array.len() * self.ctx.unwrap_or(1);
        let out = self.out.get_mut(first * self.width..(first + rows) * self.width);
        let out = out.ok_or_else(|| shield::nonsense("it holds more rows than it claims"))?;
        out.fill(f32::NAN);
        match self.ctx {
            Some(ctx) => contexts(array, (ctx, self.width), first, out)?,
            None => plain(array, self.width, first, out)?,
        }
        Ok(rows)
    }
}

/// One value or one list of `width` values per row.
fn plain(array: &ArrayRef, width: usize, first: usize, out: &mut [f32]) -> Result<()> {
    if !array.data_type().is_list() {
        return numbers(array, out);
    }
    let lists = Lists::of(array)?;
    for (at, n) in lists.runs(width, first, 1)? {
        numbers(&lists.items.slice(lists.start(at), n * width), &mut out[at * width..(at + n) * width])?;
    }
    Ok(())
}

/// One value per context, or a list with the values of each of its tokens.
fn contexts(array: &ArrayRef, (ctx, width): (usize, usize), first: usize, out: &mut [f32]) -> Result<()> {
    if !array.data_type().is_list() {
        let mut values = vec![f32::NAN; array.len()];
        numbers(array, &mut values)?;
        out.chunks_mut(ctx).zip(values).for_each(|(tokens, value)| tokens.fill(value));
        return Ok(());
    }
    let lists = Lists::of(array)?;
    for (at, n) in lists.runs(ctx, first, ctx)? {
        let tokens = lists.items.slice(lists.start(at), n * ctx);
        let out = &mut out[at * ctx * width..(at + n) * ctx * width];
        plain(&tokens, width, first + at * ctx, out)?;
    }
    Ok(())
}

/// Integers beyond 2^24 and doubles are rounded to the nearest f32.
fn numbers(array: &ArrayRef, out: &mut [f32]) -> Result<()> {
    let array = cast(array, &DataType::Float32).map_err(damaged)?;
    let values: &Float32Array = array
        .as_primitive_opt::<Float32Type>()
        .filter(|values| values.len() == out.len())
        .ok_or_else(|| shield::nonsense("its labels are not what its schema says"))?;
    out.iter_mut().zip(values).for_each(|(out, value)| *out = value.unwrap_or(f32::NAN));
    Ok(())
}
