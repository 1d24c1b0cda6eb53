//! Where results go: immutable objects under final names, then one create-if-absent commit.

pub mod commit;
pub mod output;
pub mod parquet;
pub mod table;

pub use commit::Generation;
pub use output::Output;
pub use parquet::parquet_bytes;
pub use table::write_table;
