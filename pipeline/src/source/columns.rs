//! Several columns of the same shards, as one row: their vectors and labels one after the other.
//!
//! Each column is a manifest of its own, so that every layout that one column may have, any may have,
//! and only the chunks of the columns in use are fetched, each once.

use std::collections::BTreeSet;

use super::{
    Asked, Decoded, Fetched, Manifest, Quarantined, SourceSpec, Want,
    asked::Search,
    manifest::{Shard, scan_for},
};
use crate::error::{Error, Result};

/// Scans the shards for these columns, of which the first holds vectors. Rows hold them in this order;
/// tokens and documents are read with the first. A shard is left out if any of them cannot be used.
///
/// # Errors
/// As for [`scan`](super::scan), for any of the columns.
pub async fn scan_columns(spec: &SourceSpec, columns: &[Asked]) -> Result<Manifest> {
    let (first, rest) = columns.split_first().ok_or_else(|| Error::bug("no column is in use"))?;
    let search = Search { asked: first, main: &first.name, companions: None, dtype: spec.dtype };
    let mut all = scan_for(spec, &Search { companions: Some(&spec.columns), ..search }).await?;
    let mut more = Vec::new();
    for column in rest {
        more.push(scan_for(spec, &Search { asked: column, ..search }).await?);
    }
    join(&mut all, more)?;
    Ok(all)
}

fn join(all: &mut Manifest, mut more: Vec<Manifest>) -> Result<()> {
    let unusable: Vec<Quarantined> =
        more.iter_mut().flat_map(|one| std::mem::take(&mut one.quarantined)).collect();
    let usable = |shard: &Shard| unusable.iter().all(|q| q.url != shard.url);
    all.shards.retain(usable);
    let mut known: BTreeSet<String> = all.quarantined.iter().map(|q| q.url.clone()).collect();
    for one in &mut more {
        one.shards.retain(|shard| all.shards.iter().any(|s| s.url == shard.url));
        for (shard, other) in all.shards.iter_mut().zip(&one.shards) {
            add_bytes(shard, other)?;
        }
        all.d_in += one.d_in;
        all.columns.append(&mut one.columns);
    }
    if all.shards.is_empty() {
        return Err(Error::data("no shard holds all columns in use").field("source.url"));
    }
    let new = |q: &Quarantined| known.insert(q.url.clone());
    all.quarantined.extend(unusable.into_iter().filter(new));
    all.more = more;
    Ok(())
}

fn add_bytes(shard: &mut Shard, other: &Shard) -> Result<()> {
    let rows = |shard: &Shard| shard.row_groups.iter().map(|group| group.rows).collect::<Vec<_>>();
    if rows(shard) != rows(other) {
        return Err(Error::data("its columns in use hold different numbers of rows").object(&shard.url));
    }
    shard.row_groups.iter_mut().zip(&other.row_groups).for_each(|(group, other)| group.bytes += other.bytes);
    Ok(())
}

/// Bytes of one row group, of every column.
pub type AllFetched = Vec<Fetched>;

impl Manifest {
    /// Reads the columns in use of one row group.
    ///
    /// # Errors
    /// As for [`fetch`](super::fetch::fetch).
    pub async fn fetch(&self, shard: usize, row_group: usize) -> Result<AllFetched> {
        let mut all = vec![super::fetch(&self.shards[shard], row_group).await?];
        for one in &self.more {
            all.push(super::fetch(&one.shards[shard], row_group).await?);
        }
        Ok(all)
    }

    /// Decodes what was fetched into rows of all columns in use. A row is bad if it is in any column.
    ///
    /// # Errors
    /// As for [`decode`](super::decode::decode).
    pub fn decode(&self, shard: usize, row_group: usize, fetched: AllFetched, want: Want) -> Result<Decoded> {
        let mut fetched = fetched.into_iter();
        let gone = || Error::bug("a column of a row group was not fetched");
        let first = fetched.next().ok_or_else(gone)?;
        let decoded = super::decode(&self.shards[shard], row_group, first, want)?;
        if self.more.is_empty() {
            return Ok(decoded);
        }
        let mut parts = vec![decoded];
        for one in &self.more {
            let bytes = fetched.next().ok_or_else(gone)?;
            parts.push(super::decode(&one.shards[shard], row_group, bytes, want)?);
        }
        Ok(side_by_side(parts))
    }
}

/// Rows of several blocks as one, the values of each block in the order of the blocks.
fn side_by_side(mut parts: Vec<Decoded>) -> Decoded {
    let rows = parts.first().map_or(0, |part| part.rows);
    let mut x = Vec::with_capacity(parts.iter().map(|part| part.x.len()).sum());
    for row in 0..rows {
        for part in &parts {
            let width = part.x.len() / rows;
            x.extend_from_slice(&part.x[row * width..(row + 1) * width]);
        }
    }
    let mut bad: Vec<(usize, &'static str)> =
        parts.iter().flat_map(|part| part.bad.iter().copied()).collect();
    bad.sort_by_key(|(row, _)| *row);
    bad.dedup_by_key(|(row, _)| *row);
    let tokens = parts.first_mut().map(|part| std::mem::take(&mut part.tokens)).unwrap_or_default();
    Decoded { rows, x, tokens, bad }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_hold_the_columns_in_order() {
        let part = |x: &[f32], bad: &[usize]| Decoded {
            rows: 2,
            x: x.to_vec(),
            bad: bad.iter().map(|&row| (row, "null activation")).collect(),
            ..Decoded::default()
        };
        let joined = side_by_side(vec![part(&[1.0, 2.0, 3.0, 4.0], &[1]), part(&[5.0, 6.0], &[0, 1])]);
        assert_eq!(joined.x, [1.0, 2.0, 5.0, 3.0, 4.0, 6.0]);
        assert_eq!(joined.bad.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 1]);
    }
}
