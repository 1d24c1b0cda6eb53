//! The rows of a source in order: one thread fetches, one decodes, one writes.

use crossbeam_channel::{Receiver, Sender, bounded};
use futures::{FutureExt, StreamExt};
use tokio::runtime::Handle;

use super::{Checksum, LeftOut, record::Place};
use crate::{
    Result,
    error::Kind,
    source::{Decoded, Fetched, Manifest, OnBad, Want, decode, fetch},
};

/// The usable rows of one row group of the source.
#[derive(Debug)]
pub(super) struct Group {
    /// Its first row.
    pub(super) place: Place,
    pub(super) url: String,
    pub(super) decoded: Decoded,
    /// One per usable row.
    pub(super) checksums: Vec<Checksum>,
    /// The row of the row group that each usable row is, where some are not usable.
    origin: Option<Vec<usize>>,
    pub(super) left_out: Vec<LeftOut>,
    /// Rows and bytes in the source.
    pub(super) source_rows: u64,
    pub(super) bytes: u64,
}

impl Group {
    /// Usable rows.
    pub(super) fn rows(&self) -> usize {
        self.decoded.rows
    }

    /// What is kept together: documents, else sequences.
    pub(super) fn documents(&self) -> Option<&[i64]> {
        self.decoded.tokens.doc_id.as_deref().or(self.decoded.tokens.seq_id.as_deref())
    }

    /// Where a usable row stands in the row group.
    pub(super) fn origin(&self, row: usize) -> usize {
        self.origin.as_ref().map_or(row, |rows| rows[row])
    }
}

type Read = Result<(Place, Fetched)>;

/// Requests at a time; more would not make one reader faster.
const AHEAD_MAX: usize = 8;

/// What is read and how.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    pub(super) source: &'a Manifest,
    pub(super) on_bad: OnBad,
    /// The first row that is wanted.
    pub(super) from: Place,
    /// Bytes that may be on their way.
    pub(super) prefetch_bytes: u64,
}

/// Reads everything and gives it to `work`, row group by row group.
pub(super) fn groups<T>(
    reading: &Reading<'_>,
    runtime: &Handle,
    work: impl FnOnce(crossbeam_channel::IntoIter<Result<Group>>) -> Result<T>,
) -> Result<T> {
    let Reading { source, on_bad, from, prefetch_bytes } = *reading;
    let ahead = ahead(source, prefetch_bytes);
    std::thread::scope(|scope| {
        // A row group on its way between two threads is enough to keep both busy.
        let (to_decode, fetched) = bounded(1);
        let (to_write, decoded) = bounded(1);
        scope.spawn(move || fetch_all(source, from, ahead, runtime, &to_decode));
        scope.spawn(move || decode_all(source, on_bad, &fetched, &to_write));
        work(decoded.into_iter())
    })
}

/// Ends early when nobody takes what it reads: the one who writes has failed.
fn fetch_all(source: &Manifest, from: Place, ahead: usize, runtime: &Handle, to: &Sender<Read>) {
    let read = |place: Place| {
        let fetched = fetch(&source.shards[place.shard], place.row_group);
        fetched.map(move |fetched| fetched.map(|fetched| (place, fetched)))
    };
    let mut reads = futures::stream::iter(places(source, from)).map(read).buffered(ahead).boxed();
    while let Some(read) = runtime.block_on(reads.next()) {
        let failed = read.is_err();
        if to.send(read).is_err() || failed {
            return;
        }
    }
}

/// The row groups from `from` on.
fn places(source: &Manifest, from: Place) -> impl Iterator<Item = Place> {
    let shards = source.shards.iter().enumerate().skip(from.shard);
    shards.flat_map(move |(number, shard)| {
        let first = if number == from.shard { from.row_group } else { 0 };
        (first..shard.row_groups.len()).map(move |row_group| Place { shard: number, row_group, row: 0 })
    })
}

/// Row groups that may be on their way at a time: as many as fit into `prefetch_bytes`.
fn ahead(source: &Manifest, prefetch_bytes: u64) -> usize {
    let largest = source.shards.iter().flat_map(|shard| &shard.row_groups).map(|group| group.bytes).max();
    usize::try_from(prefetch_bytes / largest.unwrap_or(1).max(1)).unwrap_or(1).clamp(1, AHEAD_MAX)
}

fn decode_all(source: &Manifest, on_bad: OnBad, from: &Receiver<Read>, to: &Sender<Result<Group>>) {
    for read in from {
        let group = read.and_then(|(place, fetched)| group(source, on_bad, place, fetched));
        let failed = group.is_err();
        if to.send(group).is_err() || failed {
            return;
        }
    }
}

fn group(source: &Manifest, on_bad: OnBad, place: Place, fetched: Fetched) -> Result<Group> {
    let shard = &source.shards[place.shard];
    let (url, bytes) = (shard.url.clone(), fetched.bytes());
    let source_rows = shard.row_groups[place.row_group].rows;
    let left_out = |rows, reason: &str| LeftOut {
        url: shard.url.clone(),
        row_group: Some(place.row_group),
        rows: Some(rows),
        reason: reason.to_owned(),
    };
    let (mut decoded, mut reasons) =
        match decode(shard, place.row_group, fetched, Want { token_text: true, on_bad }) {
            Ok(decoded) => (decoded, vec![]),
            Err(e) if e.kind == Kind::Data && on_bad == OnBad::Quarantine => {
                (Decoded::default(), vec![left_out(source_rows, e.message())])
            }
            Err(e) => return Err(e),
        };
    let origin = drop_bad(&mut decoded, source.d_in, |rows, reason| reasons.push(left_out(rows, reason)));
    let checksums = Checksum::of_rows(&decoded.x, source.d_in);
    Ok(Group { place, url, decoded, checksums, origin, left_out: reasons, source_rows, bytes })
}

/// Leaves the bad rows out; tells each reason with its number of rows, in the order they are met.
fn drop_bad(
    decoded: &mut Decoded,
    d_in: usize,
    mut tell: impl FnMut(u64, &'static str),
) -> Option<Vec<usize>> {
    if decoded.bad.is_empty() {
        return None;
    }
    let bad = std::mem::take(&mut decoded.bad);
    let mut reasons: Vec<(&'static str, u64)> = vec![];
    for (_, reason) in &bad {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, rows)) => *rows += 1,
            None => reasons.push((reason, 1)),
        }
    }
    reasons.into_iter().for_each(|(reason, rows)| tell(rows, reason));
    let usable = |row: &usize| bad.binary_search_by_key(row, |(row, _)| *row).is_err();
    let rows: Vec<usize> = (0..decoded.rows).filter(usable).collect();
    decoded.x = rows.iter().flat_map(|row| &decoded.x[row * d_in..(row + 1) * d_in]).copied().collect();
    decoded.tokens = decoded.tokens.take(&rows);
    decoded.rows = rows.len();
    Some(rows)
}
