//! Where one shard ends and the next begins: behind enough rows, and never inside a document.

use super::read::Group;
use crate::{Error, Result};

/// A document may be so many shards long; a longer one is no document but a column of one value.
const SHARDS_PER_DOCUMENT: u64 = 16;
/// But no document of so many rows is refused.
const DOCUMENT_ROWS: u64 = 1 << 20;

/// Follows the rows of a source and cuts them.
#[derive(Debug)]
pub(super) struct Cutter {
    shard_rows: u64,
    /// Rows since the last cut.
    held: u64,
    /// Document of the last row.
    last: Option<i64>,
}

impl Cutter {
    pub(super) fn new(shard_rows: u64) -> Cutter {
        Cutter { shard_rows, held: 0, last: None }
    }

    /// The first row of the group, from `at` on, that begins a new shard.
    pub(super) fn cut(&mut self, group: &Group, at: usize) -> Result<Option<usize>> {
        for row in at..group.rows() {
            let document = group.documents().map(|ids| ids[row]);
            let ends = document.is_none() || document != self.last;
            if self.held >= self.shard_rows && ends {
                self.held = 0;
                return Ok(Some(row));
            }
            self.held += 1;
            self.last = document;
            if self.held > self.shard_rows.saturating_mul(SHARDS_PER_DOCUMENT).max(DOCUMENT_ROWS) {
                return Err(self.endless(group, row));
            }
        }
        Ok(None)
    }

    fn endless(&self, group: &Group, row: usize) -> Error {
        let id = self.last.unwrap_or_default();
        Error::data(format!("document {id} does not end within {} rows", self.held))
            .object(&group.url)
            .row_group(group.place.row_group)
            .row(row)
            .hint("documents are kept whole: raise --shard-rows, or name another column in source.columns.doc_id")
    }
}
