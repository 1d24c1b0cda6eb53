//! Record batches → Parquet parts → one version in a Delta-compatible log.

/// Placeholder until the module is filled.
pub fn write_table() {}
