//! The activation column of a Parquet row group, taken page by page as blocks of values.
//!
//! A dense row has no nulls and one length, so its levels say nothing; the ordinary reader decodes
//! and compares two of them per value nevertheless. Here levels are checked in runs and the values
//! of a PLAIN page are widened straight into the block. Whatever is not of this kind (nulls, other
//! lengths or encodings, a dictionary, damage) is refused, and the ordinary reader has the word: it
//! gives the same rows or says what is wrong.

use std::ops::Range;

use arrow::datatypes::{DataType, Field};
use bytes::{Buf, Bytes, buf::Reader};
use parquet::{
    arrow::arrow_reader::ArrowReaderMetadata,
    basic::{Encoding, Type},
    column::page::{Page, PageReader},
    errors::{ParquetError, Result as ParquetResult},
    file::{
        reader::{ChunkReader, Length},
        serialized_reader::SerializedPageReader,
    },
    schema::types::ColumnDescriptor,
};

use super::{
    Dtype,
    asked::ValueKind,
    layout::Layout,
    levels,
    parquet::{self as file, Chunks},
    values,
};

/// A column whose pages may be taken as blocks, as far as its type tells.
#[derive(Debug)]
pub(super) struct PlainColumn {
    leaf: usize,
    dtype: Dtype,
    /// Values of a row.
    d_in: usize,
    /// Values per entry of the column: one in a list, a whole row in raw bytes.
    per_entry: usize,
    is_list: bool,
    max_def: i16,
}

impl PlainColumn {
    /// The activation column, if it holds one row of `d_in` values per row of the file.
    pub(super) fn of(meta: &ArrowReaderMetadata, layout: &Layout, d_in: usize) -> Option<PlainColumn> {
        let leaf = file::only_leaf(meta, layout.activation)
            .filter(|_| layout.ctx.is_none() && layout.kind == ValueKind::Vectors)?;
        let column = meta.parquet_schema().column(leaf);
        let (dtype, per_entry) = match layout.raw {
            Some(dtype) => (raw(&column, dtype, d_in)?, d_in),
            None => (listed(&column, meta.schema().field(layout.activation))?, 1),
        };
        let is_list = layout.raw.is_none();
        Some(PlainColumn { leaf, dtype, d_in, per_entry, is_list, max_def: column.max_def_level() })
    }

    /// Widens the whole column chunk into `x`, which has room for every row; `None` if it is not of
    /// this kind. Says whether all values are finite.
    pub(super) fn read(
        &self,
        meta: &ArrowReaderMetadata,
        row_group: usize,
        chunks: &Chunks,
        x: &mut [f32],
    ) -> Option<bool> {
        let mut pages = pages(meta, row_group, self.leaf, chunks)?;
        let (mut done, mut finite) = (0, true);
        while let Some(page) = pages.get_next_page().ok()? {
            let page = self.page(&page, done % self.d_in)?;
            let n = page.entries * self.per_entry;
            let out = x.get_mut(done..)?.get_mut(..n)?;
            finite &= values::widen(self.dtype, page.values, out);
            done += n;
        }
        (done == x.len()).then_some(finite)
    }

    /// The values of a page whose first value is number `at` of its row.
    fn page<'a>(&self, page: &'a Page, at: usize) -> Option<Values<'a>> {
        let (levels, values) = split(page, self.is_list, self.max_def > 0)?;
        let entries = page.num_values() as usize;
        let wide = self.per_entry * self.dtype.bytes();
        // The ordinary reader stops at an empty page.
        let whole = entries > 0 && entries.checked_mul(wide) == Some(values.len());
        (whole && self.level(levels, at, entries)).then_some(Values { entries, values })
    }

    fn level(&self, levels: Levels<'_>, at: usize, n: usize) -> bool {
        let rows = levels.repetition.is_none_or(|bytes| levels::are_rows(bytes, self.d_in, at, n));
        let level = u64::from(self.max_def.unsigned_abs());
        let bits = (u64::BITS - level.leading_zeros()) as usize;
        rows && levels.definition.is_none_or(|bytes| levels::are_all(bytes, bits, level, n))
    }
}

/// Raw rows of the right width.
fn raw(column: &ColumnDescriptor, dtype: Dtype, d_in: usize) -> Option<Dtype> {
    let width = usize::try_from(column.type_length()).ok()?;
    let fits = column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY && column.max_rep_level() == 0;
    (fits && d_in.checked_mul(dtype.bytes()) == Some(width)).then_some(dtype)
}

/// Lists whose values are stored as what they are read as.
fn listed(column: &ColumnDescriptor, field: &Field) -> Option<Dtype> {
    let (DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _)) =
        field.data_type()
    else {
        return None;
    };
    // Three optional things may be around a value: itself, its list, its row.
    let simple = column.max_rep_level() == 1 && (1..=3).contains(&column.max_def_level());
    match (item.data_type(), column.physical_type()) {
        (DataType::Float32, Type::FLOAT) => Some(Dtype::F32),
        (DataType::Float16, Type::FIXED_LEN_BYTE_ARRAY) if column.type_length() == 2 => Some(Dtype::F16),
        _ => None,
    }
    .filter(|_| simple)
}

struct Values<'a> {
    entries: usize,
    values: &'a [u8],
}

/// The levels of a page, as far as its column has any.
struct Levels<'a> {
    repetition: Option<&'a [u8]>,
    definition: Option<&'a [u8]>,
}

/// The parts of a PLAIN data page.
fn split(page: &Page, repeated: bool, defined: bool) -> Option<(Levels<'_>, &[u8])> {
    match page {
        Page::DataPage { buf, encoding, def_level_encoding, rep_level_encoding, .. } => {
            let plain = *encoding == Encoding::PLAIN
                && (!repeated || *rep_level_encoding == Encoding::RLE)
                && (!defined || *def_level_encoding == Encoding::RLE);
            let mut rest: &[u8] = Some(buf).filter(|_| plain)?;
            let repetition = if repeated { Some(sized(&mut rest)?) } else { None };
            let definition = if defined { Some(sized(&mut rest)?) } else { None };
            Some((Levels { repetition, definition }, rest))
        }
        Page::DataPageV2 { buf, encoding, num_nulls, def_levels_byte_len, rep_levels_byte_len, .. } => {
            let mut rest: &[u8] = Some(buf).filter(|_| *encoding == Encoding::PLAIN && *num_nulls == 0)?;
            let repetition = rest.split_off(..*rep_levels_byte_len as usize)?;
            let definition = rest.split_off(..*def_levels_byte_len as usize)?;
            let repetition = Some(repetition).filter(|_| repeated);
            Some((Levels { repetition, definition: Some(definition).filter(|_| defined) }, rest))
        }
        Page::DictionaryPage { .. } => None,
    }
}

/// Bytes behind their length, as levels stand in pages of the first version.
fn sized<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, _) = rest.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length) as usize;
    *rest = &rest[4..];
    rest.split_off(..length)
}

fn pages(
    meta: &ArrowReaderMetadata,
    row_group: usize,
    leaf: usize,
    chunks: &Chunks,
) -> Option<SerializedPageReader<Chunk>> {
    let group = meta.metadata().row_group(row_group);
    let (start, length) = group.column(leaf).byte_range();
    let wanted = start..start.checked_add(length)?;
    let at = chunks.ranges.iter().position(|range| *range == wanted)?;
    let chunk = Chunk { range: wanted, data: chunks.data.get(at)?.clone() };
    let rows = usize::try_from(group.num_rows()).ok()?;
    SerializedPageReader::new(chunk.into(), group.column(leaf), rows, None).ok()
}

/// The bytes of one column chunk, at their place in the object.
struct Chunk {
    range: Range<u64>,
    data: Bytes,
}

impl Length for Chunk {
    fn len(&self) -> u64 {
        self.range.end
    }
}

impl ChunkReader for Chunk {
    type T = Reader<Bytes>;

    fn get_read(&self, start: u64) -> ParquetResult<Reader<Bytes>> {
        let length = self.range.end.saturating_sub(start) as usize;
        self.get_bytes(start, length).map(Bytes::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        let from = start.checked_sub(self.range.start).and_then(|from| usize::try_from(from).ok());
        let to = from.and_then(|from| from.checked_add(length)).filter(|to| *to <= self.data.len());
        match (from, to) {
            (Some(from), Some(to)) => Ok(self.data.slice(from..to)),
            _ => Err(ParquetError::EOF(format!("bytes {start} and {length} more"))),
        }
    }
}
