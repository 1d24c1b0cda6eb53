//! Arrow IPC files: the footer lists the record batches, their messages tell the row counts.

use std::ops::Range;

use arrow::ipc;
use bytes::Bytes;

use super::{
    asked::Search,
    ipc::{Index, damaged},
    layout::Layout,
    object::{GAP_BYTES, Object},
    shield,
};
use crate::error::{Error, Result};

pub(crate) const MAGIC: &[u8] = b"ARROW1";
/// Footer length and magic at the end of the file.
const TRAILER: usize = 10;
/// Messages are small and bodies are not: joining reads across a body would fetch the bodies.
const MESSAGE_GAP: u64 = 16 << 10;
/// Messages read at a time.
const MESSAGES: usize = 256;

/// Reads the footer and every batch's message. `tail` is the end of the object, read already.
pub(crate) async fn open(object: &Object, tail: Bytes, search: &Search<'_>) -> Result<(Layout, Index)> {
    let footer = footer_bytes(object, &tail).await?;
    let (layout, mut index, blocks) = shield::run(|| read_footer(&footer, search))?;
    for block in &blocks {
        object.inside(&block.message)?;
        object.inside(&block.body)?;
    }
    for some in blocks.chunks(MESSAGES) {
        let ranges: Vec<Range<u64>> = some.iter().map(|b| b.message.clone()).collect();
        let messages = object.read(&ranges, MESSAGE_GAP).await?;
        shield::run(|| {
            some.iter().zip(&messages).try_for_each(|(block, bytes)| {
                index.add(&layout, bytes, block.message.clone(), block.body.clone())
            })
        })?;
    }
    index.share_dictionaries();
    Ok((layout, index))
}

async fn footer_bytes(object: &Object, tail: &Bytes) -> Result<Vec<u8>> {
    let trailer =
        tail.len().checked_sub(TRAILER).ok_or_else(|| shield::nonsense("too short for an Arrow file"))?;
    let mut word = [0; TRAILER];
    word.copy_from_slice(&tail[trailer..]);
    let len = ipc::reader::read_footer_length(word).map_err(damaged)?;
    // Copied in order to be aligned.
    if let Some(start) = trailer.checked_sub(len) {
        return Ok(tail[start..trailer].to_vec());
    }
    let end = object.size - TRAILER as u64;
    let start =
        end.checked_sub(len as u64).ok_or_else(|| shield::nonsense("the footer is longer than the file"))?;
    let read = object.read(std::slice::from_ref(&(start..end)), GAP_BYTES).await?;
    Ok(read.into_iter().flatten().collect())
}

struct Block {
    message: Range<u64>,
    body: Range<u64>,
}

fn read_footer(bytes: &[u8], search: &Search<'_>) -> Result<(Layout, Index, Vec<Block>)> {
    let footer = ipc::root_as_footer(bytes).map_err(|e| shield::nonsense(&e.to_string()))?;
    let schema = footer.schema().ok_or_else(|| shield::nonsense("the footer has no schema"))?;
    let schema = ipc::convert::try_fb_to_schema(schema).map_err(damaged)?;
    let layout = Layout::search(&schema, search)?;
    let listed =
        footer.dictionaries().into_iter().flatten().chain(footer.recordBatches().into_iter().flatten());
    let blocks = listed.map(block).collect::<Result<_>>()?;
    Ok((layout, Index::new(schema), blocks))
}

fn block(at: &ipc::Block) -> Result<Block> {
    let claim = |n: i64| u64::try_from(n).map_err(|_| negative());
    let (start, message, body) =
        (claim(at.offset())?, claim(at.metaDataLength().into())?, claim(at.bodyLength())?);
    let middle = start.checked_add(message).ok_or_else(negative)?;
    let end = middle.checked_add(body).ok_or_else(negative)?;
    Ok(Block { message: start..middle, body: middle..end })
}

fn negative() -> Error {
    shield::nonsense("the footer claims a negative or endless length")
}
