//! One row group's bytes out of the store, by ranged reads that insist on the planned version.

/// Bytes of one row group, not yet decoded; `Send`, so that decoding can happen on another thread.
#[derive(Debug)]
pub struct Fetched {
    _private: (),
}
