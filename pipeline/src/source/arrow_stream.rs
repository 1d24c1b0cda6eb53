//! Arrow IPC streams (what Hugging Face `datasets` and SAELens write): there is no footer, so the
//! message headers are walked once by ranged reads, and batches can then be fetched singly.

use std::ops::Range;

use arrow::ipc;
use bytes::Bytes;

use super::{
    asked::Search,
    ipc::{Index, damaged, frame, parse},
    layout::Layout,
    object::{GAP_BYTES, Object},
    shield,
};
use crate::error::{Error, Result};

/// Read ahead of the walk: small batches are walked many at a time, large bodies are skipped.
const CHUNK_BYTES: u64 = 64 << 10;

/// Whether an object that begins like this can be a stream: a marker, or in the old form the length
/// of a message, and a message that says schema.
pub(crate) fn looks_like(head: &[u8]) -> bool {
    head.starts_with(&[0xff; 4]) || matches!(frame(head), Some((4, n)) if n > 0 && first_is_schema(head))
}

fn first_is_schema(head: &[u8]) -> bool {
    shield::run(|| Ok(parse(head)?.header_as_schema().is_some())).unwrap_or(false)
}

/// Walks all messages.
pub(crate) async fn open(object: &Object, search: &Search<'_>) -> Result<(Layout, Index)> {
    let mut walk = Walk { object, start: 0, window: Bytes::new() };
    let mut at = 0;
    let mut found: Option<(Layout, Index)> = None;
    while let Some((message, bytes)) = walk.message(at).await? {
        let body = shield::run(|| body_of(&message, &bytes))?;
        at = body.end;
        if body.end > object.size {
            let n = found.as_ref().map_or(0, |(_, index)| index.batches.len());
            return Err(cut(object, &format!("inside record batch {n}")));
        }
        match &mut found {
            Some((layout, index)) => shield::run(|| index.add(layout, &bytes, message, body))?,
            None => found = Some(shield::run(|| schema(&bytes, search))?),
        }
    }
    found.ok_or_else(|| shield::nonsense("the stream has no schema"))
}

fn schema(message: &[u8], search: &Search<'_>) -> Result<(Layout, Index)> {
    let header = parse(message)?;
    let schema = header
        .header_as_schema()
        .ok_or_else(|| shield::nonsense("the stream does not begin with a schema"))?;
    let schema = ipc::convert::try_fb_to_schema(schema).map_err(damaged)?;
    Ok((Layout::search(&schema, search)?, Index::new(schema)))
}

fn body_of(message: &Range<u64>, bytes: &[u8]) -> Result<Range<u64>> {
    let endless = || shield::nonsense("a message claims a negative or endless body");
    let len = u64::try_from(parse(bytes)?.bodyLength()).map_err(|_| endless())?;
    Ok(message.end..message.end.checked_add(len).ok_or_else(endless)?)
}

fn cut(object: &Object, place: &str) -> Error {
    Error::data(format!("was cut off {place}")).object(&object.url).hint("write the object again")
}

/// A window over the object that moves forward.
struct Walk<'a> {
    object: &'a Object,
    start: u64,
    window: Bytes,
}

impl Walk<'_> {
    /// The message that begins at `at`, with its prefix; none at the end of the stream.
    async fn message(&mut self, at: u64) -> Result<Option<(Range<u64>, Bytes)>> {
        let left = self.object.size - at;
        if left == 0 {
            return Ok(None);
        }
        let head = self.bytes(at..at + left.min(8)).await?;
        let (prefix, len) = frame(&head).ok_or_else(|| cut(self.object, "inside a message"))?;
        let len = u64::try_from(len).map_err(|_| shield::nonsense("a message claims a negative length"))?;
        if len == 0 {
            return Ok(None);
        }
        let range = at..at + prefix as u64 + len;
        if range.end > self.object.size {
            return Err(cut(self.object, "inside a message"));
        }
        Ok(Some((range.clone(), self.bytes(range).await?)))
    }

    async fn bytes(&mut self, range: Range<u64>) -> Result<Bytes> {
        let held = self.start..self.start + self.window.len() as u64;
        if range.start < held.start || range.end > held.end {
            let end = range.end.max((range.start + CHUNK_BYTES).min(self.object.size));
            let wanted = range.start..end;
            let read = self.object.read(std::slice::from_ref(&wanted), GAP_BYTES).await?;
            (self.start, self.window) = (range.start, read.into_iter().next().unwrap_or_default());
        }
        let at = (range.start - self.start) as usize;
        Ok(self.window.slice(at..at + (range.end - range.start) as usize))
    }
}
