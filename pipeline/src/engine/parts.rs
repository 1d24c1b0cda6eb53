//! Tables that are cut by latents: several threads make and write their parts, in no order; the parts
//! are added in theirs.

use std::{
    ops::Range,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use arrow::array::RecordBatch;
use tokio::runtime::Handle;

use crate::{
    Error, Result,
    failures::Failures,
    sink::{Part, TableWriter, Written},
};

/// Latents per part: the candidates of 512 latents take about 60 MB while they are made.
const LATENTS_PER_PART: usize = 512;

/// Parts in the making at a time, so that their memory does not follow the number of cores.
const PARTS_AT_A_TIME: usize = 16;

/// Makes the rows of a table for a range of latents.
pub(super) type Rows<'a> = &'a (dyn Fn(Range<u32>) -> Result<RecordBatch> + Sync);

/// Tables of one dictionary and where their rows come from.
pub(super) struct Tables<'a> {
    pub(super) writers: Vec<TableWriter<'a>>,
    /// One for each writer.
    pub(super) rows: Vec<Rows<'a>>,
    pub(super) failures: &'a Failures,
    pub(super) tokio: &'a Handle,
}

impl<'a> Tables<'a> {
    /// Writes all parts on `threads` threads; gives back the writers, ready to commit.
    pub(super) fn write(mut self, n_latents: usize, threads: usize) -> Result<Vec<TableWriter<'a>>> {
        let ranges: Vec<Range<u32>> = latent_ranges(n_latents).collect();
        let parts =
            (0..self.writers.len()).flat_map(|at| ranges.iter().map(move |range| (at, range.clone())));
        let parts: Vec<(usize, Range<u32>)> = parts.collect();
        let done: Vec<OnceLock<Result<Written>>> = parts.iter().map(|_| OnceLock::new()).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, PARTS_AT_A_TIME) {
                scope.spawn(|| self.some(&parts, &next, &done));
            }
        });
        // After a failure the rest is not made: the first in order that was says why.
        let written = done.into_iter().filter_map(OnceLock::into_inner).collect::<Result<Vec<_>>>()?;
        if written.len() < parts.len() {
            return Err(Error::bug("a publishing thread ended early"));
        }
        for ((at, _), written) in parts.into_iter().zip(written) {
            self.writers[at].add(written)?;
        }
        Ok(self.writers)
    }

    /// Takes one part after the other.
    fn some(&self, parts: &[(usize, Range<u32>)], next: &AtomicUsize, done: &[OnceLock<Result<Written>>]) {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((table, latents)) = parts.get(at) else { return };
            // A panic on this thread would not meet the shield around the dictionary.
            let written = self.failures.shield(|| self.one(*table, latents.clone())).and_then(|part| part);
            if written.is_err() {
                next.store(parts.len(), Ordering::Relaxed);
            }
            let _first = done[at].set(written);
        }
    }

    /// Rows are made outside the runtime: totals run a dataflow of their own.
    fn one(&self, table: usize, latents: Range<u32>) -> Result<Written> {
        let first_key = u64::from(latents.start);
        let batch = self.rows[table](latents)?;
        self.tokio.block_on(self.writers[table].write(Part { first_key, batch }))
    }
}

fn latent_ranges(n_latents: usize) -> impl Iterator<Item = Range<u32>> {
    let end = u32::try_from(n_latents).unwrap_or(u32::MAX);
    (0..end).step_by(LATENTS_PER_PART).map(move |first| first..end.min(first + LATENTS_PER_PART as u32))
}
