//! An activation column of any layout → one dense block of f32.

use std::ops::Range;

use arrow::{
    array::{Array, AsArray, FixedSizeBinaryArray},
    datatypes::{DataType, Float16Type, Float32Type},
};

use super::{Dtype, bad_rows::BadRows, shield, values};
use crate::error::{Error, Result};

const NULL_ROW: &str = "null activation";
const NULL_VALUE: &str = "null inside the activation";
const NAN: &str = "NaN in the activation";
const INFINITY: &str = "infinity in the activation";

/// Where vectors go: rows of a block, beginning at some row.
pub(crate) struct Dense<'a> {
    /// Values per vector.
    pub(crate) d_in: usize,
    /// Vectors per row of the file, if a row is a context.
    pub(crate) ctx: Option<usize>,
    /// Element type of raw rows.
    pub(crate) raw: Option<Dtype>,
    /// Row-major `[rows, d_in]`.
    pub(crate) x: &'a mut [f32],
    /// Rows that hold no usable vector.
    pub(crate) bad: &'a mut BadRows,
}

impl Dense<'_> {
    /// Converts a column into the rows beginning at `first`; returns how many rows it gave.
    pub(crate) fn fill(&mut self, array: &dyn Array, first: usize) -> Result<usize> {
        let rows = array.len() * self.ctx.unwrap_or(1);
        if (first + rows) * self.d_in > self.x.len() {
            return Err(shield::nonsense("it holds more rows than it claims"));
        }
        let finite = match self.ctx {
            Some(ctx) => self.contexts(array, ctx, first)?,
            None => self.vectors(array, first)?,
        };
        if !finite {
            self.mark_not_finite(first..first + rows);
        }
        Ok(rows)
    }

    /// Each of these says whether all values it wrote are finite.
    fn contexts(&mut self, array: &dyn Array, ctx: usize, first: usize) -> Result<bool> {
        let (lists, mut finite) = (Lists::of(array)?, true);
        for (at, n) in lists.runs(ctx, first, ctx)? {
            let vectors = lists.items.slice(lists.start(at), n * ctx);
            finite &= self.vectors(&vectors, first + at * ctx)?;
        }
        (0..array.len()).filter(|i| array.is_null(*i)).for_each(|i| {
            self.bad.mark_all(first + i * ctx..first + (i + 1) * ctx, NULL_ROW);
        });
        Ok(finite)
    }

    fn vectors(&mut self, array: &dyn Array, first: usize) -> Result<bool> {
        let finite = match array.as_fixed_size_binary_opt() {
            Some(raw) => self.raw(raw, first),
            None => self.lists(array, first)?,
        };
        (0..array.len()).filter(|i| array.is_null(*i)).for_each(|i| self.bad.mark(first + i, NULL_ROW));
        Ok(finite)
    }

    fn raw(&mut self, array: &FixedSizeBinaryArray, first: usize) -> bool {
        let out = &mut self.x[first * self.d_in..][..array.len() * self.d_in];
        values::widen(self.raw.unwrap_or(Dtype::F32), array.value_data(), out)
    }

    /// Runs of full rows are converted at once: without nulls the whole array is one run.
    fn lists(&mut self, array: &dyn Array, first: usize) -> Result<bool> {
        let d = self.d_in;
        let (lists, mut finite) = (Lists::of(array)?, true);
        for (at, n) in lists.runs(d, first, 1)? {
            let values = lists.start(at)..lists.start(at) + n * d;
            let out = &mut self.x[(first + at) * d..][..n * d];
            finite &= floats(lists.items, values.clone(), out)?;
            self.mark_null_values(lists.items, values, first + at);
        }
        Ok(finite)
    }

    fn mark_null_values(&mut self, items: &dyn Array, values: Range<usize>, first: usize) {
        if items.null_count() == 0 {
            return;
        }
        for (i, value) in values.enumerate() {
            if items.is_null(value) {
                self.bad.mark(first + i / self.d_in, NULL_VALUE);
            }
        }
    }

    /// Finds the rows that are meant when something among `rows` was not finite.
    pub(crate) fn mark_not_finite(&mut self, rows: Range<usize>) {
        let d = self.d_in;
        for row in rows {
            let values = &self.x[row * d..(row + 1) * d];
            if !values::all_finite(values) {
                self.bad.mark(row, if values.iter().any(|v| v.is_nan()) { NAN } else { INFINITY });
            }
        }
    }
}

fn floats(items: &dyn Array, range: Range<usize>, out: &mut [f32]) -> Result<bool> {
    if let Some(items) = items.as_primitive_opt::<Float32Type>() {
        out.copy_from_slice(&items.values()[range]);
        Ok(values::all_finite(out))
    } else if let Some(items) = items.as_primitive_opt::<Float16Type>() {
        Ok(values::widen_halves(&items.values()[range], out))
    } else {
        Err(unexpected(items.data_type()))
    }
}

fn unexpected(data_type: &DataType) -> Error {
    shield::nonsense(&format!("its values are {data_type} and not what its schema says"))
}

/// A list array of any of the three kinds: its items and where each list begins.
pub(crate) struct Lists<'a> {
    array: &'a dyn Array,
    pub(crate) items: &'a dyn Array,
    offsets: Offsets<'a>,
}

enum Offsets<'a> {
    Fixed { first: usize, n: usize },
    Small(&'a [i32]),
    Large(&'a [i64]),
}

impl<'a> Lists<'a> {
    pub(crate) fn of(array: &'a dyn Array) -> Result<Lists<'a>> {
        if let Some(lists) = array.as_fixed_size_list_opt() {
            let n = lists.value_length() as usize;
            let first = lists.value_offset_at(0);
            return Ok(Lists { array, items: lists.values(), offsets: Offsets::Fixed { first, n } });
        }
        if let Some(lists) = array.as_list_opt::<i32>() {
            return Ok(Lists {
                array,
                items: lists.values(),
                offsets: Offsets::Small(lists.value_offsets()),
            });
        }
        let lists = array.as_list_opt::<i64>().ok_or_else(|| unexpected(array.data_type()))?;
        Ok(Lists { array, items: lists.values(), offsets: Offsets::Large(lists.value_offsets()) })
    }

    /// Index of the first item of list `i`.
    pub(crate) fn start(&self, i: usize) -> usize {
        match self.offsets {
            Offsets::Fixed { first, n } => first + i * n,
            Offsets::Small(o) => o[i] as usize,
            Offsets::Large(o) => o[i] as usize,
        }
    }

    /// Runs `(first list, lists)` of lists that are not null; each must hold `n` items. `row` and
    /// `rows` (of the block, per list) only serve to name the place of a list that does not.
    pub(crate) fn runs(&self, n: usize, row: usize, rows: usize) -> Result<Vec<(usize, usize)>> {
        let mut runs: Vec<(usize, usize)> = vec![];
        let nulls = self.array.null_count() > 0;
        for i in 0..self.array.len() {
            if nulls && self.array.is_null(i) {
                continue;
            }
            let held = self.start(i + 1) - self.start(i);
            if held != n {
                return Err(wrong_length(held, n).row(row + i * rows));
            }
            match runs.last_mut() {
                // Lists need not lie one after another where nulls are between them.
                Some((first, count)) if *first + *count == i => *count += 1,
                _ => runs.push((i, 1)),
            }
        }
        Ok(runs)
    }
}

fn wrong_length(held: usize, n: usize) -> Error {
    Error::data(format!("holds {held} values where {n} are expected")).hint(
        "every vector must have the same length; repair the row or quarantine the shard by a narrower url",
    )
}

/// Length of the first list that is not null; of lists of lists, of the first inner one.
pub(crate) fn first_length(array: &dyn Array) -> Option<usize> {
    let lists = Lists::of(array).ok()?;
    let i = (0..array.len()).find(|i| array.is_valid(*i) && lists.start(i + 1) > lists.start(*i))?;
    let range = lists.start(i)..lists.start(i + 1);
    match lists.items.data_type().is_list() {
        false => Some(range.len()),
        true => first_length(&lists.items.slice(range.start, range.len())),
    }
}
