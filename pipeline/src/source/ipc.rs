//! What the two Arrow IPC formats share: an index of messages, so that one record batch can be
//! fetched by itself, and the way from a message's bytes to a record batch.

use std::{collections::HashMap, ops::Range};

use arrow::{
    array::{ArrayRef, RecordBatch},
    buffer::{Buffer, MutableBuffer},
    datatypes::{DataType, Schema, SchemaRef},
    error::ArrowError,
    ipc,
};
use bytes::Bytes;

use super::{
    layout::Layout,
    object::{GAP_BYTES, Object},
    shield,
};
use crate::error::{Error, Result};

const CONTINUATION: [u8; 4] = [0xff; 4];
/// Pieces of a body closer than this are fetched as one.
const PIECE_GAP: u64 = 64 << 10;

/// Where the messages of one shard are.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<BatchAt>,
    dictionaries: Vec<DictionaryAt>,
    /// Values per row of a plain list column, where the first batch says so.
    pub(crate) list_length: Option<usize>,
}

/// A record batch: its message, its body, and where in the body each wanted column lies.
#[derive(Debug)]
pub(crate) struct BatchAt {
    message: Range<u64>,
    body: Range<u64>,
    pub(crate) rows: u64,
    columns: Box<[(usize, Range<u64>)]>,
    /// How many dictionary messages came before it (all of them, in a file).
    dictionaries: usize,
}

#[derive(Debug)]
struct DictionaryAt {
    id: i64,
    delta: bool,
    message: Range<u64>,
    body: Range<u64>,
}

impl Index {
    pub(crate) fn new(schema: Schema) -> Index {
        Index { schema: schema.into(), batches: vec![], dictionaries: vec![], list_length: None }
    }

    /// Notes one message. Returns whether it was a batch or dictionary.
    pub(crate) fn add(
        &mut self,
        layout: &Layout,
        bytes: &[u8],
        message: Range<u64>,
        body: Range<u64>,
    ) -> Result<()> {
        let header = parse(bytes)?;
        if let Some(batch) = header.header_as_record_batch() {
            let at = self.locate(layout, batch, message, body)?;
            self.batches.push(at);
        } else if let Some(dictionary) = header.header_as_dictionary_batch() {
            let (id, delta) = (dictionary.id(), dictionary.isDelta());
            self.dictionaries.push(DictionaryAt { id, delta, message, body });
        }
        Ok(())
    }

    /// In a file, dictionaries come from the footer and hold for every batch.
    pub(crate) fn share_dictionaries(&mut self) {
        let all = self.dictionaries.len();
        self.batches.iter_mut().for_each(|b| b.dictionaries = all);
    }

    fn locate(
        &mut self,
        layout: &Layout,
        batch: ipc::RecordBatch<'_>,
        message: Range<u64>,
        body: Range<u64>,
    ) -> Result<BatchAt> {
        let rows = u64::try_from(batch.length())
            .map_err(|_| shield::nonsense("a batch claims a negative length"))?;
        let parts = column_parts(&self.schema, batch);
        if self.list_length.is_none() {
            self.list_length = parts.as_ref().and_then(|p| list_length(batch, p.get(layout.activation)?));
        }
        let columns = layout.wanted(true).into_iter().map(|column| {
            let part = parts.as_ref().and_then(|p| p.get(column));
            let span = part.and_then(|part| span(batch, part, &body)).unwrap_or(body.clone());
            (column, span)
        });
        let columns = columns.collect();
        Ok(BatchAt { message, body, rows, columns, dictionaries: self.dictionaries.len() })
    }

    /// Where the bytes of the wanted columns of a batch lie, message first.
    pub(crate) fn ranges(&self, batch: usize, wanted: &[usize]) -> Vec<Range<u64>> {
        let at = &self.batches[batch];
        let mut ranges = vec![at.message.clone()];
        ranges.extend(at.pieces(wanted));
        ranges
    }

    pub(crate) async fn fetch(&self, object: &Object, batch: usize, wanted: &[usize]) -> Result<Parts> {
        let ranges = self.ranges(batch, wanted);
        let dictionaries = self.dictionaries_of(batch, wanted);
        let mut all = ranges.clone();
        all.extend(dictionaries.iter().flat_map(|d| [d.message.clone(), d.body.clone()]));
        let mut data = object.read(&all, GAP_BYTES).await?.into_iter();
        let message = data.next().unwrap_or_default();
        let start = self.batches[batch].body.start;
        let pieces = ranges[1..].iter().zip(&mut data).map(|(r, bytes)| (r.start - start, bytes)).collect();
        let mut pair = || Some((data.next()?, data.next()?));
        let dictionaries = std::iter::from_fn(&mut pair).collect();
        Ok(Parts { message, pieces, dictionaries })
    }

    /// The dictionary messages a batch needs: per id the last full one before it and its deltas.
    fn dictionaries_of(&self, batch: usize, wanted: &[usize]) -> Vec<&DictionaryAt> {
        if !wanted.iter().any(|c| has_dictionary(self.schema.field(*c).data_type())) {
            return vec![];
        }
        let before = &self.dictionaries[..self.batches[batch].dictionaries];
        let full: HashMap<i64, usize> =
            before.iter().enumerate().filter(|(_, d)| !d.delta).map(|(i, d)| (d.id, i)).collect();
        let needed = |(i, d): &(usize, &DictionaryAt)| full.get(&d.id).is_none_or(|last| i >= last);
        before.iter().enumerate().filter(needed).map(|(_, d)| d).collect()
    }

    /// Bytes of one batch → record batch of the wanted columns (ascending indices).
    pub(crate) fn decode(&self, batch: usize, wanted: &[usize], parts: Parts) -> Result<RecordBatch> {
        let dictionaries = self.dictionaries(&parts)?;
        let header = parse(&parts.message)?;
        let record = header.header_as_record_batch().ok_or_else(|| shield::nonsense("not a record batch"))?;
        let at = &self.batches[batch];
        let body = parts.body(at.body.end - at.body.start)?;
        self.check_compressed(record, wanted, &body)?;
        let version = header.version();
        ipc::reader::read_record_batch(
            &body,
            record,
            self.schema.clone(),
            &dictionaries,
            Some(wanted),
            &version,
        )
        .map_err(damaged)
    }

    fn dictionaries(&self, parts: &Parts) -> Result<HashMap<i64, ArrayRef>> {
        let mut dictionaries = HashMap::new();
        for (message, body) in &parts.dictionaries {
            let header = parse(message)?;
            let batch =
                header.header_as_dictionary_batch().ok_or_else(|| shield::nonsense("not a dictionary"))?;
            let body = Buffer::from(body.clone());
            if let Some(data) = batch.data() {
                check_lengths(data, 0..usize::MAX, &body)?;
            }
            ipc::reader::read_dictionary(&body, batch, &self.schema, &mut dictionaries, &header.version())
                .map_err(damaged)?;
        }
        Ok(dictionaries)
    }

    fn check_compressed(&self, batch: ipc::RecordBatch<'_>, wanted: &[usize], body: &Buffer) -> Result<()> {
        match column_parts(&self.schema, batch) {
            Some(parts) => {
                wanted.iter().try_for_each(|c| check_lengths(batch, parts[*c].buffers.clone(), body))
            }
            None => check_lengths(batch, 0..usize::MAX, body),
        }
    }
}

impl BatchAt {
    /// The pieces of the body to fetch; most of it is all of it, because a whole body needs no copy.
    fn pieces(&self, wanted: &[usize]) -> Vec<Range<u64>> {
        let spans = self.columns.iter().filter(|(c, r)| wanted.contains(c) && !r.is_empty());
        let merged = merge(spans.map(|(_, r)| r.clone()).collect());
        let needed: u64 = merged.iter().map(|r| r.end - r.start).sum();
        let all = self.body.end - self.body.start;
        if needed * 4 >= all * 3 && all > 0 { vec![self.body.clone()] } else { merged }
    }
}

fn merge(mut spans: Vec<Range<u64>>) -> Vec<Range<u64>> {
    spans.sort_by_key(|r| r.start);
    let mut merged: Vec<Range<u64>> = vec![];
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.start <= last.end.saturating_add(PIECE_GAP) => {
                last.end = last.end.max(span.end)
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// The bytes of one batch: message, pieces of the body with their offsets, dictionaries.
#[derive(Debug, Clone)]
pub(crate) struct Parts {
    message: Bytes,
    pieces: Vec<(u64, Bytes)>,
    dictionaries: Vec<(Bytes, Bytes)>,
}

impl Parts {
    pub(crate) fn bytes(&self) -> u64 {
        let pieces = self.pieces.iter().map(|(_, b)| b.len());
        let dictionaries = self.dictionaries.iter().map(|(m, b)| m.len() + b.len());
        (self.message.len() + pieces.chain(dictionaries).sum::<usize>()) as u64
    }

    /// The body; what was not fetched stays zero and is never looked at.
    fn body(&self, len: u64) -> Result<Buffer> {
        if let [(0, bytes)] = self.pieces.as_slice()
            && bytes.len() as u64 == len
        {
            return Ok(Buffer::from(bytes.clone()));
        }
        let len = usize::try_from(len).map_err(|_| shield::nonsense("a batch larger than memory"))?;
        let mut body = MutableBuffer::from_len_zeroed(len);
        for (at, bytes) in &self.pieces {
            let at = *at as usize;
            body.as_slice_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Ok(body.into())
    }
}

/// The length of the prefix (marker and size) and of the message after it.
pub(crate) fn frame(bytes: &[u8]) -> Option<(usize, i32)> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|w| w.try_into().ok());
    match word(0)? {
        CONTINUATION => Some((8, i32::from_le_bytes(word(4)?))),
        legacy => Some((4, i32::from_le_bytes(legacy))),
    }
}

/// Reads a message with its prefix.
pub(crate) fn parse(bytes: &[u8]) -> Result<ipc::Message<'_>> {
    let (prefix, _) = frame(bytes).ok_or_else(|| shield::nonsense("a message without a length"))?;
    ipc::root_as_message(bytes.get(prefix..).unwrap_or_default())
        .map_err(|e| shield::nonsense(&e.to_string()))
}

pub(crate) fn damaged(e: ArrowError) -> Error {
    shield::nonsense(&e.to_string())
}

/// Which nodes and buffers of a batch belong to one top-level column.
struct Part {
    first_node: usize,
    buffers: Range<usize>,
}

/// The parts of all columns in order, or nothing if the schema holds a type whose buffers are not
/// counted here (unions, run-end encoding): then the whole body is fetched.
fn column_parts(schema: &Schema, batch: ipc::RecordBatch<'_>) -> Option<Vec<Part>> {
    let (mut node, mut buffer) = (0, 0);
    let mut variadic = batch.variadicBufferCounts().into_iter().flatten();
    let mut parts = Vec::with_capacity(schema.fields().len());
    for field in schema.fields() {
        let (nodes, buffers) = footprint(field.data_type(), &mut variadic)?;
        parts.push(Part { first_node: node, buffers: buffer..buffer + buffers });
        (node, buffer) = (node + nodes, buffer + buffers);
    }
    let counts = (batch.nodes()?.len(), batch.buffers()?.len());
    (counts == (node, buffer)).then_some(parts)
}

/// How many nodes and buffers a column of this type takes in a message.
fn footprint(data_type: &DataType, variadic: &mut impl Iterator<Item = i64>) -> Option<(usize, usize)> {
    use DataType as T;
    let (own, children): (usize, Vec<&DataType>) = match data_type {
        T::Null => (0, vec![]),
        T::Utf8 | T::Binary | T::LargeUtf8 | T::LargeBinary => (3, vec![]),
        T::Utf8View | T::BinaryView => (usize::try_from(variadic.next()?).ok()?.checked_add(2)?, vec![]),
        T::List(item) | T::LargeList(item) | T::Map(item, _) => (2, vec![item.data_type()]),
        T::ListView(item) | T::LargeListView(item) => (3, vec![item.data_type()]),
        T::FixedSizeList(item, _) => (1, vec![item.data_type()]),
        T::Struct(fields) => (1, fields.iter().map(|f| f.data_type()).collect()),
        T::RunEndEncoded(..) | T::Union(..) => return None,
        _ => (2, vec![]),
    };
    children.into_iter().try_fold((1, own), |(nodes, buffers), child| {
        let (n, b) = footprint(child, variadic)?;
        Some((nodes + n, buffers + b))
    })
}

/// Where a column lies in the object, if its buffers lie inside the body.
fn span(batch: ipc::RecordBatch<'_>, part: &Part, body: &Range<u64>) -> Option<Range<u64>> {
    let buffers = batch.buffers()?;
    let mut span: Option<Range<u64>> = None;
    for i in part.buffers.clone() {
        let buffer = buffers.get(i);
        let (start, len) = (u64::try_from(buffer.offset()).ok()?, u64::try_from(buffer.length()).ok()?);
        let at = body.start.checked_add(start)?;
        let end = at.checked_add(len).filter(|end| *end <= body.end)?;
        if len > 0 {
            span = Some(span.map_or(at..end, |s| s.start.min(at)..s.end.max(end)));
        }
    }
    Some(span.unwrap_or(body.start..body.start))
}

/// Values per row of a list column without nulls: nodes tell the lengths of parent and child.
fn list_length(batch: ipc::RecordBatch<'_>, part: &Part) -> Option<usize> {
    let nodes = batch.nodes()?;
    if nodes.len() < part.first_node + 2 {
        return None;
    }
    let (list, items) = (nodes.get(part.first_node), nodes.get(part.first_node + 1));
    let even = list.null_count() == 0 && list.length() > 0 && items.length() % list.length() == 0;
    even.then(|| usize::try_from(items.length() / list.length()).ok()).flatten()
}

fn has_dictionary(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) => true,
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            has_dictionary(item.data_type())
        }
        _ => false,
    }
}

/// A compressed buffer says how long it will be; a claim that cannot be true must not be allocated.
fn check_lengths(batch: ipc::RecordBatch<'_>, buffers: Range<usize>, body: &Buffer) -> Result<()> {
    if batch.compression().is_none() {
        return Ok(());
    }
    let all = batch.buffers().into_iter().flatten().enumerate().filter(|(i, _)| buffers.contains(i));
    for (_, buffer) in all {
        let (at, stored) = (buffer.offset() as usize, buffer.length() as usize);
        let claim = at.checked_add(8).and_then(|end| body.get(at..end)).and_then(|word| word.try_into().ok());
        if let Some(claim) = claim.map(i64::from_le_bytes).filter(|n| *n > 0) {
            shield::plausible(claim as u64, stored as u64)?;
        }
    }
    Ok(())
}
