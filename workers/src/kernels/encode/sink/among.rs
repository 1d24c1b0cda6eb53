//! A second selection from the same tiles: the best of some of the columns.
//!
//! AuxK asks for the best dead latents of each row, and the main code has just multiplied all latents:
//! a product of the dead ones alone would be a fifth of the encoder once more where a fifth is dead.

use super::{RowTop, Sink};
use crate::kernels::{
    Real,
    encode::{WIDEST_PANEL, rows::Rows},
};

/// Columns of the narrowest panel: wider ones are whole numbers of it.
const PANEL: usize = 16;

/// Some of the columns, so that those of a panel are found at once.
pub(in crate::kernels::encode) struct Listed {
    /// Ascending.
    columns: Vec<u32>,
    /// Where the columns of each panel of [`PANEL`] start in `columns`, and its length.
    starts: Vec<usize>,
}

impl Listed {
    /// `columns` ascend, of `n` in all.
    pub(in crate::kernels::encode) fn new(columns: Vec<u32>, n: usize) -> Self {
        // The widest panel may reach beyond the last column.
        let ends = n.next_multiple_of(WIDEST_PANEL);
        let start = |first: usize| columns.partition_point(|&column| (column as usize) < first);
        let starts = (0..=ends).step_by(PANEL).map(start).collect();
        Listed { columns, starts }
    }

    #[inline(always)]
    fn of_panel(&self, first: usize, width: usize) -> &[u32] {
        &self.columns[self.starts[first / PANEL]..self.starts[(first + width) / PANEL]]
    }
}

/// The `k` largest positive pre-activations of each row among the columns listed.
pub(in crate::kernels::encode) struct Top<'a, R> {
    listed: &'a Listed,
    top: RowTop<R, false>,
}

impl<'a, R: Real> Top<'a, R> {
    /// For a block of so many rows.
    pub(in crate::kernels::encode) fn new(rows: usize, k: usize, listed: &'a Listed) -> Self {
        Top { listed, top: RowTop::new(rows, k) }
    }
}

/// One sink for all columns and perhaps one for some of them.
pub(in crate::kernels::encode) struct Both<'a, R, S> {
    pub(in crate::kernels::encode) all: S,
    pub(in crate::kernels::encode) also: Option<Top<'a, R>>,
}

impl<R: Real, S: Sink<R>> Both<'_, R, S> {
    /// As in [`Sink::offer`].
    #[inline(always)]
    pub(in crate::kernels::encode) fn offer<const C: usize>(&mut self, row: usize, first: usize, z: &[R; C]) {
        self.all.offer(row, first, z);
        if let Some(also) = &mut self.also {
            also.top.offer_listed(row, first, z, also.listed.of_panel(first, C));
        }
    }

    /// What each of them kept; no rows where there is no second one.
    pub(in crate::kernels::encode) fn finish(self) -> (S::Kept, Rows<R>) {
        let also = self.also.map_or_else(|| Rows::with_capacity(0, 0), |also| also.top.finish());
        (self.all.finish(), also)
    }
}
