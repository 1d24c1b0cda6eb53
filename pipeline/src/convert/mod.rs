//! Any readable source → shards in the layout that is fastest to read, with a checksum of values.
//!
//! All rows are kept, in order; no filter is applied. A dense row is one `FixedSizeBinary` value,
//! PLAIN and uncompressed, beside ordinary token columns; a shard ends where a document does. What
//! is written is a function of source and settings; each shard is committed as it is finished, so
//! that a conversion that was killed goes on behind the last one.

mod checksum;
mod draft;
mod narrow;
mod pace;
mod read;
mod record;
mod span;
mod verify;

use atomflow_schemas::manifest::{FORMAT, RunRecord};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;

pub use checksum::Checksum;
pub use record::{Converted, LeftOut, ShardFile};
pub use verify::verify;

use crate::{
    Error, Result,
    run::{Event, Watch},
    sink::{Generation, Opened, Output, commit, commits, open_run},
    source::{Dtype, FilterSpec, Location, Manifest, SourceSpec, manifest},
};
use draft::Draft;
use pace::Pace;
use read::{Group, Reading};
use record::{PREFIX, Place, ShardCommit};
use span::Cutter;

/// Name of the last object of a conversion.
pub const CONVERTED: &str = "convert.json";
/// Bytes of values in a shard, where the number of its rows is not given.
const SHARD_BYTES: u64 = 128 << 20;

/// What is converted, and to what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvertSpec {
    /// Where the rows are; `filter` is not applied.
    pub source: SourceSpec,
    /// Element type of the shards written; left out, that of the source, which loses nothing.
    pub dtype: Option<Dtype>,
    /// A shard ends at the first end of a document at or behind so many rows; left out, 128 MiB.
    pub shard_rows: Option<u64>,
}

/// Converts; a conversion of the same source with the same settings that was interrupted in `out` is
/// continued. Returns what `convert.json` holds.
///
/// # Errors
/// Of every kind. A row without a usable vector is one, unless `on_bad` is quarantine; so is a value
/// that would become infinite in a narrower type.
pub fn convert(spec: &ConvertSpec, out: &str, watch: &dyn Watch) -> Result<Converted> {
    let built = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tokio = built.map_err(|e| Error::retry(format!("cannot start the I/O threads: {e}")))?;
    let source = tokio.block_on(manifest::scan(&spec.source))?;
    let output = Output::new(Location::open(out)?);
    let settings = Settings::of(spec, &source)?;
    let record = settings.record(&source)?;
    tokio.block_on(output.probe())?;
    let resumed = tokio.block_on(open_run(&output, &record))? == Opened::Resumed;
    let (run, place) = (record.run.clone(), output.url(""));
    watch.event(&Event::Started { run: run.clone(), out: place, resumed });
    for left_out in &source.quarantined {
        watch.event(&Event::Note { message: format!("left out {}: {}", left_out.url, left_out.reason) });
    }
    if let Some(done) = verify::finished(&tokio, &output)? {
        return Ok(done);
    }
    let generation = tokio.block_on(Generation::claim(&output))?;
    let prefetch_bytes = spec.source.prefetch_bytes;
    Conversion { tokio, output, generation, source, settings, run, prefetch_bytes, watch }.go()
}

/// What decides the bytes, with nothing left open.
#[derive(Debug, Clone, Serialize)]
struct Settings {
    source: SourceSpec,
    dtype: Dtype,
    shard_rows: u64,
}

impl Settings {
    fn of(spec: &ConvertSpec, source: &Manifest) -> Result<Settings> {
        let dtype = spec.dtype.unwrap_or_else(|| widest(source));
        let row_bytes = (source.d_in * dtype.bytes()) as u64;
        let shard_rows = spec.shard_rows.unwrap_or((SHARD_BYTES / row_bytes).max(1));
        if shard_rows == 0 {
            return Err(Error::spec("a shard cannot have 0 rows").field("--shard-rows"));
        }
        // Neither rows that are filtered nor bytes that are waiting change what is written.
        let source = SourceSpec { filter: FilterSpec::default(), prefetch_bytes: 0, ..spec.source.clone() };
        Ok(Settings { source, dtype, shard_rows })
    }

    fn record(&self, source: &Manifest) -> Result<RunRecord> {
        let (job, digest) = (json(self)?, hex(&source.digest()));
        let id = hex(&Sha256::digest(format!("{job}\n{digest}").as_bytes())[..6]);
        let (name, run, shards) = ("convert".to_owned(), format!("convert-{id}"), json(&source.identity())?);
        Ok(RunRecord { format: FORMAT, run, name, plan: digest, job, shards, files: Vec::new() })
    }
}

/// The one element type that holds every value of the source.
fn widest(source: &Manifest) -> Dtype {
    let mut dtypes = source.shards.iter().map(|shard| shard.dtype());
    let first = dtypes.next().unwrap_or(Dtype::F32);
    if dtypes.all(|dtype| dtype == first) { first } else { Dtype::F32 }
}

fn json(value: &impl Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|e| Error::bug(format!("a record of ours is no JSON: {e}")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One process's hold on a conversion.
struct Conversion<'a> {
    tokio: Runtime,
    output: Output,
    generation: Generation,
    source: Manifest,
    settings: Settings,
    run: String,
    prefetch_bytes: u64,
    watch: &'a dyn Watch,
}

impl Conversion<'_> {
    fn go(self) -> Result<Converted> {
        let mut done = self.committed()?;
        let from = done.last().map(|shard| shard.next).unwrap_or_default();
        let (source, on_bad) = (&self.source, self.settings.source.on_bad);
        let reading = Reading { source, on_bad, from, prefetch_bytes: self.prefetch_bytes };
        let rest = read::groups(&reading, self.tokio.handle(), |groups| self.write(groups, from, &mut done))?;
        self.publish(&done, rest)
    }

    /// The shards that are written already, in order and without a gap.
    fn committed(&self) -> Result<Vec<ShardCommit>> {
        let commits = self.tokio.block_on(commits(&self.output, PREFIX))?;
        let read = commits.into_iter().map(|commit| {
            serde_json::from_value(commit.body).map_err(|e| {
                Error::data(format!("the commit `{}` cannot be read: {e}", commit.name))
                    .object(self.output.url("epoch"))
            })
        });
        read.collect()
    }

    /// Writes what the groups hold from `from` on; returns what was left out behind the last shard.
    fn write(
        &self,
        groups: impl Iterator<Item = Result<Group>>,
        from: Place,
        done: &mut Vec<ShardCommit>,
    ) -> Result<Vec<LeftOut>> {
        let mut pace = Pace::new(self.watch, &self.source, done);
        let mut cutter = Cutter::new(self.settings.shard_rows);
        let (mut draft, mut skip) = (self.draft()?, from.row);
        for group in groups {
            let group = group?;
            let mut at = std::mem::take(&mut skip);
            while let Some(cut) = cutter.cut(&group, at)? {
                draft.push(&group, at..cut)?;
                let next = Place { row: cut, ..group.place };
                done.push(self.commit(std::mem::replace(&mut draft, self.draft()?), done.len(), next)?);
                at = cut;
            }
            draft.push(&group, at..group.rows())?;
            // Not earlier: a process that begins inside the group must note it exactly once.
            draft.leave_out(&group.left_out);
            pace.tell(&group, done.len());
        }
        if draft.rows() == 0 {
            return Ok(draft.into_left_out());
        }
        let next = Place { shard: self.source.shards.len(), ..Place::default() };
        done.push(self.commit(draft, done.len(), next)?);
        pace.end(done.len());
        Ok(vec![])
    }

    fn draft(&self) -> Result<Draft> {
        Draft::new(self.source.d_in, self.settings.dtype, self.source.has)
    }

    /// Writes a shard under its final name; from here on it is done.
    fn commit(&self, draft: Draft, number: usize, next: Place) -> Result<ShardCommit> {
        let (bytes, mut shard) = draft.finish(next)?;
        let file = self.tokio.block_on(self.output.put(&format!("shard-{number:05}.parquet"), bytes))?;
        shard.file.name(&file);
        let name = format!("{PREFIX}{number:05}");
        let write = commit(&self.output, &self.generation, &name, vec![file], json(&shard)?);
        self.tokio.block_on(write)?;
        Ok(shard)
    }

    fn publish(&self, done: &[ShardCommit], rest: Vec<LeftOut>) -> Result<Converted> {
        let quarantined = self.source.quarantined.iter().map(LeftOut::shard);
        let left_out: Vec<LeftOut> =
            quarantined.chain(done.iter().flat_map(|shard| shard.left_out.clone())).chain(rest).collect();
        if done.is_empty() {
            let first = left_out.first().map(|l| format!(": {}: {}", l.url, l.reason)).unwrap_or_default();
            return Err(Error::data(format!("every row was left out{first}")).field("source.url"));
        }
        let converted = Converted::new(&self.run, self.source.d_in, self.settings.dtype, done, left_out);
        let mut bytes = serde_json::to_vec_pretty(&converted)
            .map_err(|e| Error::bug(format!("a record of ours is no JSON: {e}")))?;
        bytes.push(b'\n');
        self.tokio.block_on(self.generation.check(&self.output))?;
        self.tokio.block_on(self.output.put(CONVERTED, Bytes::from(bytes)))?;
        Ok(converted)
    }
}
