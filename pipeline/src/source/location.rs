//! A URL, opened: an object store and the path prefix inside it.

use std::sync::Arc;

use object_store::{ObjectStore, path::Path};

/// One opened URL: the store that serves it and the path it names.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store, shared by everything below the same scheme and bucket.
    pub store: Arc<dyn ObjectStore>,
    /// The path the URL names, without any glob part.
    pub path: Path,
    /// What to print before a path so that a person can paste the result (`s3://bucket/` or `/`).
    pub root: String,
}
