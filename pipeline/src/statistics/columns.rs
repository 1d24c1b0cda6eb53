//! Typed views of record-batch columns. A column that is not there is our fault, not the user's.

use arrow::{
    array::{Array, ArrowPrimitiveType, AsArray, ListArray, PrimitiveArray, RecordBatch, StringArray},
    datatypes::{Float32Type, Int32Type, Int64Type},
};

use crate::{Error, Result};

/// The column `name`, as an array of type `T`.
pub(super) fn column<'a, T: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    let column = batch.column_by_name(name).and_then(|column| column.as_any().downcast_ref::<T>());
    column.ok_or_else(|| Error::bug(format!("a partial has no column `{name}` of the expected type")))
}

fn primitive<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> Result<&'a [T::Native]> {
    Ok(column::<PrimitiveArray<T>>(batch, name)?.values())
}

pub(super) fn int32s<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [i32]> {
    primitive::<Int32Type>(batch, name)
}

pub(super) fn int64s<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [i64]> {
    primitive::<Int64Type>(batch, name)
}

pub(super) fn float32s<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a [f32]> {
    primitive::<Float32Type>(batch, name)
}

pub(super) fn strings<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    column(batch, name)
}

/// A list column, row by row without allocation.
#[derive(Clone, Copy)]
pub(super) struct Lists<'a, T> {
    offsets: &'a [i32],
    values: &'a [T],
}

impl<'a, T> Lists<'a, T> {
    pub(super) fn row(&self, row: usize) -> &'a [T] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

pub(super) fn lists<'a, P: ArrowPrimitiveType>(
    batch: &'a RecordBatch,
    name: &str,
) -> Result<Lists<'a, P::Native>> {
    let list = column::<ListArray>(batch, name)?;
    let values = list.values().as_primitive_opt::<P>();
    let values = values.ok_or_else(|| Error::bug(format!("`{name}` holds items of another type")))?;
    Ok(Lists { offsets: list.value_offsets(), values: values.values() })
}
