//! From per-shard partials to published tables: differential totals and the rows made from them.
//!
//! [`PartialSource`] reads partials, [`Statistics`] maintains totals from them (differential dataflow
//! lives in `flow` alone), [`Publisher`] makes the rows of the published tables, a range of latents at
//! a time so that memory is bounded. [`records`] makes the tables that come from the run itself.

mod candidates;
mod columns;
pub(crate) mod flow;
mod kept;
pub mod nearest;
mod neighbours;
pub mod partials;
pub mod publish;
pub mod records;
pub mod totals;

pub use partials::{MemoryPartials, ParquetPartials, PartialSource};
pub use publish::{About, Publisher};
pub use totals::{Change, LatentTotal, Neighbour, RunTotals, Statistics};

#[cfg(test)]
mod tests;
