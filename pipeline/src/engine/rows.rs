//! Some rows as they lie in the shards, for whoever wants to measure with real ones.

use super::tokio_runtime;
use crate::{
    Error, Result,
    source::{SourceSpec, Want, decode, fetch, scan},
};

/// The first rows of the shards at `url` that hold a usable vector, at least `count` where there are
/// as many: width and `[rows, d_in]`, unfiltered and unscaled.
///
/// # Errors
/// As for a run, up to the end of reading.
pub fn rows(url: &str, count: usize) -> Result<(usize, Vec<f32>)> {
    let source: SourceSpec = serde_json::from_value(serde_json::json!({ "url": url }))
        .map_err(|e| Error::spec(e.to_string()).object(url))?;
    let tokio = tokio_runtime()?;
    let manifest = tokio.block_on(scan(&source))?;
    let want = Want { token_text: false, on_bad: source.on_bad };
    let mut x = Vec::new();
    for shard in &manifest.shards {
        for row_group in 0..shard.row_groups.len() {
            if x.len() >= count * manifest.d_in {
                return Ok((manifest.d_in, x));
            }
            let fetched = tokio.block_on(fetch(shard, row_group))?;
            x.extend(decode(shard, row_group, fetched, want)?.x);
        }
    }
    Ok((manifest.d_in, x))
}
