//! Where activations come from: any object store, three file formats, one dense block of rows out.
//!
//! The way of a shard: [`location`] (URL → store) → `listing` (which objects) → `reader` (format by
//! magic bytes: `parquet`, `arrow_file`, `arrow_stream`; columns by `layout`) → [`manifest`] →
//! [`fetch`](fetch::fetch) (bytes, async) → [`decode`](decode::decode) (rows, any thread: vectors by
//! `plain` or `dense`, labels by `labels`) → [`filter`] (verdicts). [`mod@columns`] does all of it for several
//! columns at once.

mod arrow_file;
mod arrow_stream;
pub mod asked;
mod bad_rows;
pub mod columns;
mod companions;
pub mod decode;
mod dense;
pub mod fetch;
pub mod filter;
#[doc(hidden)]
pub mod fuzz;
mod ipc;
mod labels;
mod layout;
mod levels;
mod listing;
pub mod location;
pub mod manifest;
mod object;
mod parquet;
mod plain;
mod reader;
pub mod shield;
pub mod spec;
#[cfg(test)]
mod tests;
mod values;
pub mod whole;
mod width;

pub use asked::Asked;
pub use columns::scan_columns;
pub use decode::{Decoded, Tokens, Want, decode};
pub use fetch::{Fetched, fetch};
pub use filter::{RowFilter, Verdict};
pub use location::Location;
pub use manifest::{Has, Manifest, Quarantined, ReadColumn, RowGroup, Shard, ShardIdentity, scan};
pub use spec::{Columns, Dtype, FilterSpec, OnBad, SourceSpec, Urls};
pub use whole::whole;
