//! Where activations come from: any object store, three file formats, one dense block of rows out.

pub mod decode;
pub mod fetch;
pub mod filter;
pub mod location;
pub mod manifest;
pub mod spec;

pub use decode::{Decoded, Tokens};
pub use fetch::Fetched;
pub use filter::{RowFilter, Verdict};
pub use location::Location;
pub use manifest::{Has, Manifest, Quarantined, RowGroup, Shard};
pub use spec::{Columns, Dtype, FilterSpec, OnBad, SourceSpec, Urls};
