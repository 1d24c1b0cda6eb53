//! Where results go: immutable objects under final names, then one create-if-absent commit.
//!
//! [`Output`] writes an object once and finds out who wrote it; [`mod@commit`] builds generations,
//! commits and the manifest on that; [`table`] builds tables with a Delta-compatible log on both.

pub mod commit;
mod failure;
pub mod output;
pub mod parquet;
pub mod table;

pub use commit::{Generation, Opened, commit, commits, open_run, publish, read_manifest, read_run};
pub(crate) use output::sha256_hex;
pub use output::{Created, Output};
pub use parquet::parquet_bytes;
pub use table::{Part, TableWrite, TableWriter, Written, write_table};
