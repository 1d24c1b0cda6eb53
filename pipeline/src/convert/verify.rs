//! A finished conversion, read back: are its shards what `convert.json` says?

use tokio::runtime::Runtime;

use super::{CONVERTED, Checksum, Converted, ShardFile};
use crate::{
    Error, Result,
    sink::Output,
    source::{Columns, FilterSpec, Location, OnBad, Shard, SourceSpec, Urls, Want, decode, fetch, scan},
};

/// What a finished conversion wrote, if it is finished.
pub(super) fn finished(tokio: &Runtime, output: &Output) -> Result<Option<Converted>> {
    let Some(bytes) = tokio.block_on(output.get(CONVERTED))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|e| {
        Error::data(format!("is not what a conversion writes: {e}")).object(output.url(CONVERTED))
    })
}

/// Reads every shard of the finished conversion in `out` as a job would, and compares rows and
/// checksums with `convert.json`. Returns what it compared with.
///
/// # Errors
/// There is no finished conversion, or the first shard that is not what was written.
pub fn verify(out: &str) -> Result<Converted> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let tokio = built.map_err(|e| Error::retry(format!("cannot start the I/O threads: {e}")))?;
    let output = Output::new(Location::open(out)?);
    let converted = finished(&tokio, &output)?.ok_or_else(|| {
        Error::spec("there is no finished conversion here")
            .object(output.url(""))
            .hint("run the same `atomflow convert` again: it goes on where it was interrupted")
    })?;
    let urls = converted.files.iter().map(|file| output.url(&file.path)).collect();
    let shards = tokio.block_on(scan(&source(urls)))?.shards;
    for file in &converted.files {
        let url = output.url(&file.path);
        let shard = shards.iter().find(|shard| shard.url == url);
        let shard = shard.ok_or_else(|| Error::data("cannot be read back").object(&url))?;
        compare(&tokio, file, shard)?;
    }
    Ok(converted)
}

fn compare(tokio: &Runtime, file: &ShardFile, shard: &Shard) -> Result<()> {
    let mut checksum = Checksum::default();
    for row_group in 0..shard.row_groups.len() {
        let fetched = tokio.block_on(fetch(shard, row_group))?;
        let decoded = decode(shard, row_group, fetched, Want { token_text: false, on_bad: OnBad::Fail })?;
        checksum += Checksum::of_rows(&decoded.x, shard.d_in).into_iter().sum();
    }
    if (shard.rows(), checksum) == (file.rows, file.checksum) {
        return Ok(());
    }
    let wanted = format!("{} rows with the checksum {}", file.rows, file.checksum);
    Err(Error::data(format!("holds {} rows with the checksum {checksum}, not {wanted}", shard.rows()))
        .object(&shard.url)
        .hint("something other than atomflow touched it; convert again into another place"))
}

fn source(urls: Vec<String>) -> SourceSpec {
    SourceSpec {
        url: Urls::Many(urls),
        hookpoint: None,
        columns: Columns::default(),
        dtype: None,
        filter: FilterSpec::default(),
        on_bad: OnBad::Fail,
        prefetch_bytes: 0,
    }
}
