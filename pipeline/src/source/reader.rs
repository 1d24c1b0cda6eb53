//! One shard, opened: its format, its layout, and how to get at a row group of it.

use std::sync::Arc;

use ::parquet::arrow::arrow_reader::ArrowReaderMetadata;
use arrow::array::RecordBatch;

use super::{
    Fetched, arrow_file, arrow_stream,
    asked::Search,
    dense,
    fetch::Parts,
    ipc::Index,
    layout::Layout,
    object::{GAP_BYTES, Object},
    parquet, shield,
};
use crate::error::{Error, Result};

/// The end of an object that is read first; most footers fit.
const TAIL_BYTES: u64 = 64 << 10;
/// The beginning, if the end does not tell the format.
const HEAD_BYTES: u64 = 4 << 10;
/// Decoded bytes of one Parquet batch: small enough to be converted while still in cache.
const BATCH_BYTES: usize = 2 << 20;

/// The three formats.
#[derive(Debug)]
pub(crate) enum Format {
    Parquet(Arc<ArrowReaderMetadata>),
    Ipc(Arc<Index>),
}

/// Everything needed to read a shard; metadata is shared and holds no statistics.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) object: Object,
    pub(crate) layout: Layout,
    pub(crate) format: Format,
}

/// Batches of one row group, in order.
pub(crate) type Batches = Box<dyn Iterator<Item = Result<RecordBatch>>>;

impl Reader {
    /// Reads what there is to know about a shard.
    pub(crate) async fn open(mut object: Object, search: &Search<'_>) -> Result<Reader> {
        let url = object.url.clone();
        if object.size == 0 {
            return Err(Error::data("is empty (0 bytes)").object(url).hint("write it again, or remove it"));
        }
        let tail = object.pin(TAIL_BYTES).await?;
        let opened = match Kind::of(&object, &tail).await {
            Ok(kind) => Reader::open_as(kind, &object, tail, search).await,
            Err(e) => Err(e),
        };
        let (layout, format) = opened.map_err(|e| e.object(&url))?;
        Ok(Reader { object, layout, format })
    }

    pub(crate) async fn open_as(
        kind: Kind,
        object: &Object,
        tail: bytes::Bytes,
        search: &Search<'_>,
    ) -> Result<(Layout, Format)> {
        match kind {
            Kind::Parquet => {
                let meta = parquet::open(object, tail).await?;
                let layout = Layout::search(meta.schema(), search)?;
                Ok((layout, Format::Parquet(Arc::new(meta))))
            }
            Kind::ArrowFile => {
                arrow_file::open(object, tail, search).await.map(|(l, i)| (l, Format::Ipc(Arc::new(i))))
            }
            Kind::ArrowStream => {
                arrow_stream::open(object, search).await.map(|(l, i)| (l, Format::Ipc(Arc::new(i))))
            }
        }
    }

    /// Activations in each row group.
    pub(crate) fn rows(&self) -> Result<Vec<u64>> {
        let rows = match &self.format {
            Format::Parquet(meta) => parquet::rows(meta)?,
            Format::Ipc(index) => index.batches.iter().map(|b| b.rows).collect(),
        };
        let each = self.layout.vectors_per_row() as u64;
        let rows = rows.into_iter().map(|n| n.checked_mul(each));
        rows.collect::<Option<_>>().ok_or_else(|| shield::nonsense("it claims more rows than can be counted"))
    }

    /// Bytes to fetch for a row group.
    pub(crate) fn bytes(&self, row_group: usize) -> Result<u64> {
        let wanted = self.layout.wanted(true);
        let ranges = match &self.format {
            Format::Parquet(meta) => parquet::ranges(meta, row_group, &wanted)?,
            Format::Ipc(index) => index.ranges(row_group, &wanted),
        };
        ranges.iter().try_for_each(|r| self.object.inside(r))?;
        Ok(ranges.iter().map(|r| r.end - r.start).sum())
    }

    /// Values per vector as far as schema and counts tell; the flag says whether it is certain.
    pub(crate) fn d_in(&self) -> Option<(usize, bool)> {
        if let Some(d_in) = self.layout.d_in {
            return Some((d_in, true));
        }
        let plain = self.layout.ctx.is_none();
        let hint = match &self.format {
            Format::Parquet(meta) => parquet::list_length(meta, self.layout.activation),
            Format::Ipc(index) => index.list_length,
        };
        hint.filter(|_| plain).filter(|d| *d > 0).map(|d| (d, false))
    }

    /// Values per vector, from the first vector itself.
    pub(crate) async fn probe(&self, row_group: usize) -> Result<usize> {
        let fetched = self.fetch(row_group).await?;
        let found = shield::run(|| {
            let mut batches = self.batches(row_group, fetched, &[self.layout.activation], 1)?;
            let length = |batch: Result<RecordBatch>| Ok(dense::first_length(batch?.column(0)));
            batches.find_map(|batch| length(batch).transpose()).transpose()
        });
        let found = found.map_err(|e| e.object(&self.object.url).row_group(row_group))?;
        found.filter(|d| *d > 0).ok_or_else(|| self.without_vectors(row_group))
    }

    fn without_vectors(&self, row_group: usize) -> Error {
        Error::data("no row holds a vector")
            .object(&self.object.url)
            .row_group(row_group)
            .field(&self.layout.name)
    }

    /// Ranged reads of the wanted columns of one row group.
    pub(crate) async fn fetch(&self, row_group: usize) -> Result<Fetched> {
        let wanted = self.layout.wanted(true);
        let parts = match &self.format {
            Format::Parquet(meta) => {
                let ranges = parquet::ranges(meta, row_group, &wanted)?;
                let data = self.object.read(&ranges, GAP_BYTES).await?;
                Parts::Parquet(parquet::Chunks { ranges, data })
            }
            Format::Ipc(index) => Parts::Ipc(index.fetch(&self.object, row_group, &wanted).await?),
        };
        Ok(Fetched::new(parts))
    }

    /// Decodes fetched bytes, `d_in` wide vectors, into record batches of the wanted columns, which
    /// must be ascending.
    pub(crate) fn batches(
        &self,
        row_group: usize,
        fetched: Fetched,
        wanted: &[usize],
        d_in: usize,
    ) -> Result<Batches> {
        match (&self.format, fetched.parts) {
            (Format::Parquet(meta), Parts::Parquet(chunks)) => {
                let row_bytes = 4 * d_in * self.layout.vectors_per_row();
                let batch_rows = (BATCH_BYTES / row_bytes.max(1)).clamp(16, 8192);
                Ok(Box::new(parquet::batches(meta, row_group, wanted, batch_rows, chunks)?))
            }
            (Format::Ipc(index), Parts::Ipc(parts)) => {
                Ok(Box::new(std::iter::once(index.decode(row_group, wanted, parts))))
            }
            _ => Err(Error::bug("bytes of one format were handed to the reader of another")),
        }
    }
}

/// Which format an object is in, by its magic bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Parquet,
    ArrowFile,
    ArrowStream,
}

impl Kind {
    async fn of(object: &Object, tail: &[u8]) -> Result<Kind> {
        if tail.ends_with(parquet::MAGIC) {
            return Ok(Kind::Parquet);
        }
        if tail.ends_with(parquet::MAGIC_ENCRYPTED) {
            return Err(Error::data("is an encrypted Parquet file").hint("write it without encryption"));
        }
        if tail.ends_with(arrow_file::MAGIC) {
            return Ok(Kind::ArrowFile);
        }
        let head = 0..object.size.min(HEAD_BYTES);
        let head = object.read(std::slice::from_ref(&head), GAP_BYTES).await?;
        Kind::by_head(head.first().map_or(&[], |h| &h[..]))
    }

    fn by_head(head: &[u8]) -> Result<Kind> {
        let again = "the end is missing: write the object again";
        if head.starts_with(parquet::MAGIC) {
            return Err(Error::data("is a Parquet file that was cut short").hint(again));
        }
        if head.starts_with(arrow_file::MAGIC) {
            return Err(Error::data("is an Arrow file that was cut short").hint(again));
        }
        if arrow_stream::looks_like(head) {
            return Ok(Kind::ArrowStream);
        }
        Err(Error::data("is neither Parquet nor an Arrow IPC file or stream")
            .hint("narrow source.url to the shards, or convert this object"))
    }
}
