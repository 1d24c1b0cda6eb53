//! Rows that hold no usable vector, each with its first reason.

use std::{collections::BTreeMap, ops::Range};

/// Row of the block → why.
#[derive(Debug, Default)]
pub(crate) struct BadRows(BTreeMap<usize, &'static str>);

impl BadRows {
    pub(crate) fn mark(&mut self, row: usize, reason: &'static str) {
        self.0.entry(row).or_insert(reason);
    }

    pub(crate) fn mark_all(&mut self, rows: Range<usize>, reason: &'static str) {
        rows.for_each(|row| self.mark(row, reason));
    }

    /// The first bad row.
    pub(crate) fn first(&self) -> Option<(usize, &'static str)> {
        self.0.iter().next().map(|(row, reason)| (*row, *reason))
    }

    /// All of them, ascending.
    pub(crate) fn into_vec(self) -> Vec<(usize, &'static str)> {
        self.0.into_iter().collect()
    }
}
