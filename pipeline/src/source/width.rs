//! How wide the vectors are. Fixed-size types say it; a plain list says it only in its rows.

use std::collections::BTreeMap;

use super::{manifest::Triage, reader::Reader};
use crate::error::{Error, Result};

/// Agrees on one width: that of most shards. Shards of another width are bad shards.
pub(crate) async fn agree(readers: &mut Vec<Reader>, triage: &mut Triage) -> Result<usize> {
    let hints: Vec<Option<(usize, bool)>> = readers.iter().map(Reader::d_in).collect();
    let most = majority(hints.iter().flatten().map(|(d, _)| *d));
    let mut kept = vec![];
    for (reader, hint) in std::mem::take(readers).into_iter().zip(hints) {
        let url = reader.object.url.clone();
        let d_in = settle(&reader, hint, most).await;
        kept.extend(triage.keep(&url, d_in)?.map(|d| (reader, d)));
    }
    let most = majority(kept.iter().map(|(_, d)| *d)).ok_or_else(|| triage.nothing_left())?;
    let (n, all) = (kept.iter().filter(|(_, d)| *d == most.0).count(), kept.len());
    for (reader, d_in) in kept {
        let url = reader.object.url.clone();
        let same = if d_in == most.0 { Ok(reader) } else { Err(differs(&reader, d_in, most.0, n, all)) };
        readers.extend(triage.keep(&url, same)?);
    }
    Ok(most.0)
}

/// Counts in a footer are a hint: null rows distort them. A hint is believed if another shard says
/// the same; a shard without a hint is taken to be like the others, and its rows are checked as
/// they are read; any other is asked by reading its first row group.
async fn settle(reader: &Reader, hint: Option<(usize, bool)>, most: Option<(usize, usize)>) -> Result<usize> {
    match (hint, most) {
        (Some((d_in, true)), _) => Ok(d_in),
        (Some((d_in, false)), Some((most, votes))) if d_in == most && votes > 1 => Ok(d_in),
        (None, Some((most, _))) => Ok(most),
        _ => {
            let rows = reader.rows()?;
            let first = rows.iter().position(|n| *n > 0).unwrap_or(0);
            reader.probe(first).await
        }
    }
}

/// The most frequent width and how often it occurs; of several, the smallest.
fn majority(widths: impl Iterator<Item = usize>) -> Option<(usize, usize)> {
    let mut votes: BTreeMap<usize, usize> = BTreeMap::new();
    widths.for_each(|d| *votes.entry(d).or_default() += 1);
    votes.into_iter().max_by_key(|(d, n)| (*n, std::cmp::Reverse(*d)))
}

fn differs(reader: &Reader, d_in: usize, most: usize, n: usize, all: usize) -> Error {
    Error::data(format!("holds vectors of {d_in} values; {n} of {all} shards hold {most}"))
        .object(&reader.object.url)
        .field(&reader.layout.name)
        .hint("all shards of a job come from one hookpoint: remove this one, or narrow source.url")
}
