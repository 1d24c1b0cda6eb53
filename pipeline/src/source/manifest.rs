//! Which shards there are: listing, footers, row counts. Read once, before the plan.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    Dtype, OnBad, SourceSpec,
    asked::{Asked, Search, ValueKind},
    listing,
    reader::Reader,
    shield, width,
};
use crate::error::{Error, Kind, Result};

/// Shards whose footers are read at the same time.
const OPEN_AT_ONCE: usize = 16;

/// One object of the activation dataset that will be read.
#[derive(Debug, Clone)]
pub struct Shard {
    /// Full URL, for people and for provenance columns; a relative path stays relative.
    pub url: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// ETag as first read; every read asks for exactly this version where the store has ETags.
    pub etag: Option<String>,
    /// Row groups (Parquet) or record batches (Arrow) in storage order; one may hold no rows.
    pub row_groups: Vec<RowGroup>,
    /// Values per vector.
    pub(crate) d_in: usize,
    /// How to read it.
    pub(crate) reader: Arc<Reader>,
}

/// The unit of progress and retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowGroup {
    /// Activations in it.
    pub rows: u64,
    /// Bytes to fetch for the columns that are read.
    pub bytes: u64,
}

/// A shard or part of one that was left out, and why. Becomes a row of the `shards` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// Full URL of the object.
    pub url: String,
    /// Why, in one sentence.
    pub reason: String,
}

/// Everything that is known before the first activation is read.
#[derive(Debug, Clone)]
pub struct Manifest {
    /// Shards in the order of their URLs.
    pub shards: Vec<Shard>,
    /// Values per row: the widths of all columns in use, one after the other.
    pub d_in: usize,
    /// Columns in use. The norm rule is about the first.
    pub columns: Vec<ReadColumn>,
    /// The same shards as the further columns see them.
    pub(crate) more: Vec<Manifest>,
    /// Shards that could not be used (only with `on_bad = "quarantine"`).
    pub quarantined: Vec<Quarantined>,
    /// Which optional columns every shard has: `token_id`, `token`, `doc_id`, `seq_id`, `pos`.
    pub has: Has,
    /// Things worth saying before a start, such as columns of an unusable type.
    pub notes: Vec<String>,
}

/// A column in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadColumn {
    /// Its name.
    pub name: String,
    /// How its values are taken.
    pub kind: ValueKind,
    /// Values per row.
    pub width: usize,
}

/// Which optional columns are present in every shard (and of a usable type).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "named after the columns")]
pub struct Has {
    pub token_id: bool,
    pub token: bool,
    pub doc_id: bool,
    pub seq_id: bool,
    pub pos: bool,
}

/// What tells one version of a shard from another; stored with a run and compared on resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIdentity {
    /// URL as in [`Shard::url`].
    pub url: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// ETag, where the store has one.
    pub etag: Option<String>,
}

/// Lists the objects, reads their footers and agrees on one width and one set of columns.
///
/// Under [`OnBad::Quarantine`] shards with data errors are listed instead of reported; faults of the
/// store are errors under either policy, because trying again may find the shard in order.
pub async fn scan(spec: &SourceSpec) -> Result<Manifest> {
    let (asked, main) = (Asked::activation(&spec.columns), spec.columns.activation.as_str());
    let search = Search { asked: &asked, main, companions: Some(&spec.columns), dtype: spec.dtype };
    scan_for(spec, &search).await
}

/// [`scan`] for a column of any kind.
pub(crate) async fn scan_for(spec: &SourceSpec, search: &Search<'_>) -> Result<Manifest> {
    let objects = listing::list(&spec.url).await?;
    let urls: Vec<String> = objects.iter().map(|o| o.url.clone()).collect();
    let opened = stream::iter(objects).map(|object| open(object, search)).buffered(OPEN_AT_ONCE);
    let mut triage = Triage { on_bad: spec.on_bad, quarantined: vec![] };
    let mut readers = Vec::with_capacity(urls.len());
    futures::pin_mut!(opened);
    for url in urls {
        let Some(outcome) = opened.next().await else { break };
        readers.extend(triage.keep(&url, outcome)?);
    }
    let d_in = width::agree(&mut readers, &mut triage).await?;
    finish(readers, d_in, triage, search.asked)
}

async fn open(object: super::object::Object, search: &Search<'_>) -> Result<Reader> {
    let reader = Reader::open(object, search).await?;
    let rows = reader.rows().map_err(|e| e.object(&reader.object.url))?;
    match rows.iter().any(|n| *n > 0) {
        true => Ok(reader),
        false => {
            Err(Error::data("holds no rows").object(&reader.object.url).hint("write it again, or remove it"))
        }
    }
}

impl Manifest {
    /// The values of the column `name` among those of a row.
    pub fn column(&self, name: &str, kind: ValueKind) -> Option<Range<usize>> {
        let at =
            self.columns.iter().position(|column| (column.name.as_str(), column.kind) == (name, kind))?;
        let before: usize = self.columns.iter().take(at).map(|column| column.width).sum();
        Some(before..before + self.columns[at].width)
    }

    /// The values of the first column.
    pub fn main_column(&self) -> Range<usize> {
        0..self.columns.first().map_or(self.d_in, |column| column.width)
    }
}

/// The policy for shards that cannot be used.
pub(crate) struct Triage {
    on_bad: OnBad,
    quarantined: Vec<Quarantined>,
}

impl Triage {
    pub(crate) fn keep<T>(&mut self, url: &str, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Ok(kept) => Ok(Some(kept)),
            Err(e) if self.on_bad == OnBad::Quarantine && e.kind == Kind::Data => {
                let field = e.place().field.as_ref().map(|f| format!("field `{f}`: ")).unwrap_or_default();
                let reason = format!("{field}{}", e.message());
                self.quarantined.push(Quarantined { url: url.to_owned(), reason });
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// The error for a dataset of which nothing is left.
    pub(crate) fn nothing_left(&self) -> Error {
        let first =
            self.quarantined.first().map(|q| format!(": {}: {}", q.url, q.reason)).unwrap_or_default();
        Error::data(format!("every shard was left out{first}"))
            .field("source.url")
            .hint("set on_bad = \"fail\" to see the first reason in full")
    }
}

fn finish(mut readers: Vec<Reader>, d_in: usize, mut triage: Triage, asked: &Asked) -> Result<Manifest> {
    let has = readers.iter().map(|r| r.layout.has()).reduce(Has::and).unwrap_or_default();
    let notes: BTreeSet<String> = readers.iter().flat_map(|r| r.layout.notes.clone()).collect();
    readers.iter_mut().for_each(|r| r.layout.restrict(has));
    let mut shards = Vec::with_capacity(readers.len());
    for reader in readers {
        let url = reader.object.url.clone();
        shards.extend(triage.keep(&url, Shard::new(reader, d_in).map_err(|e| e.object(&url)))?);
    }
    if shards.is_empty() {
        return Err(triage.nothing_left());
    }
    let quarantined = triage.quarantined;
    check_sequences(&shards)?;
    let column = ReadColumn { name: asked.name.clone(), kind: asked.kind, width: d_in };
    let (columns, notes) = (vec![column], notes.into_iter().collect());
    Ok(Manifest { shards, d_in, columns, more: Vec::new(), quarantined, has, notes })
}

/// The sequence numbers of contexts come from a hash of the shard's URL.
fn check_sequences(shards: &[Shard]) -> Result<()> {
    let contexts = shards.iter().filter(|s| s.reader.layout.ctx.is_some());
    let mut seen = BTreeSet::new();
    match contexts.map(Shard::sequence_base).find(|base| !seen.insert(*base)) {
        None => Ok(()),
        Some(_) => Err(Error::data("two shards of contexts hash to the same sequence numbers")
            .hint("rename one of them, or add a seq_id column")),
    }
}

impl Has {
    fn and(self, other: Has) -> Has {
        Has {
            token_id: self.token_id && other.token_id,
            token: self.token && other.token,
            doc_id: self.doc_id && other.doc_id,
            seq_id: self.seq_id && other.seq_id,
            pos: self.pos && other.pos,
        }
    }
}

/// Contexts per shard that can be numbered apart; the other 39 bits tell shards apart.
const CONTEXT_BITS: u32 = 24;

impl Shard {
    pub(crate) fn new(reader: Reader, d_in: usize) -> Result<Shard> {
        let rows = reader.rows()?;
        let groups =
            rows.iter().enumerate().map(|(i, rows)| Ok(RowGroup { rows: *rows, bytes: reader.bytes(i)? }));
        let row_groups: Vec<RowGroup> = groups.collect::<Result<_>>()?;
        believable(&row_groups, d_in, reader.object.size)?;
        let contexts = reader.layout.ctx.map_or(0, |ctx| rows.iter().sum::<u64>() / ctx as u64);
        if contexts >> CONTEXT_BITS != 0 {
            return Err(Error::data(format!(
                "holds {contexts} contexts; at most 2^{CONTEXT_BITS} can be numbered"
            )));
        }
        let object = &reader.object;
        let (url, size_bytes, etag) = (object.url.clone(), object.size, object.etag.clone());
        Ok(Shard { url, size_bytes, etag, row_groups, d_in, reader: Arc::new(reader) })
    }

    /// Activations in the shard.
    pub fn rows(&self) -> u64 {
        self.row_groups.iter().map(|g| g.rows).sum()
    }

    /// Element type of its vectors as they are stored.
    pub fn dtype(&self) -> Dtype {
        self.reader.layout.dtype
    }

    /// Bytes to fetch to read all of it.
    pub fn bytes(&self) -> u64 {
        self.row_groups.iter().map(|g| g.bytes).sum()
    }

    /// Where the numbers of this shard's contexts begin. A function of the URL alone, so that they
    /// stay the same when other shards come and go.
    fn sequence_base(&self) -> i64 {
        let digest = Sha256::digest(self.url.as_bytes());
        let word = digest.iter().take(8).fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        ((word >> (CONTEXT_BITS + 1)) << CONTEXT_BITS) as i64
    }

    /// The first sequence number of the shard and the number of contexts before a row group.
    pub(crate) fn contexts_before(&self, row_group: usize) -> (i64, u64) {
        let rows: u64 = self.row_groups[..row_group].iter().map(|g| g.rows).sum();
        (self.sequence_base(), rows / self.reader.layout.vectors_per_row() as u64)
    }
}

/// A footer may claim anything; the object's real size bounds what can be in it.
fn believable(row_groups: &[RowGroup], d_in: usize, size: u64) -> Result<()> {
    let bytes = row_groups.iter().try_fold(0_u64, |sum, g| sum.checked_add(g.bytes));
    if bytes.is_none_or(|bytes| bytes > size) {
        return Err(shield::nonsense("its row groups claim more bytes than it has"));
    }
    row_groups.iter().try_for_each(|g| shield::believable(g.rows.saturating_mul(4 * d_in as u64), g.bytes))
}

impl Manifest {
    /// Activations in all shards.
    pub fn rows(&self) -> u64 {
        self.shards.iter().map(Shard::rows).sum()
    }

    /// Bytes to fetch to read all of them once.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// SHA-256 over URL, size and row counts of every shard. ETags are left out: a copy of the data
    /// at the same place is the same data.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for shard in &self.shards {
            digest.update((shard.url.len() as u64).to_le_bytes());
            digest.update(shard.url.as_bytes());
            digest.update(shard.size_bytes.to_le_bytes());
            digest.update((shard.row_groups.len() as u64).to_le_bytes());
            shard.row_groups.iter().for_each(|g| digest.update(g.rows.to_le_bytes()));
        }
        digest.finalize().into()
    }

    /// Which version of every shard this is; differs after a shard was written again.
    pub fn identity(&self) -> Vec<ShardIdentity> {
        let one =
            |s: &Shard| ShardIdentity { url: s.url.clone(), size_bytes: s.size_bytes, etag: s.etag.clone() };
        self.shards.iter().map(one).collect()
    }
}
