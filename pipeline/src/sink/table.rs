//! Record batches → Parquet parts → one version in a Delta-compatible log.
//!
//! Parts come under names that tell their first key and their content, so a replay writes the same
//! objects. They belong to the table only once the log entry exists; whatever else lies in the
//! directory, readers of the log do not see it.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute,
    datatypes::{DataType, Int32Type, Int64Type, SchemaRef},
};
use atomflow_schemas::{
    delta::{Action, Add, CommitInfo, Format, MetaData, Protocol, Stats, Txn},
    delta::{from_bytes, log_path, same_version, schema_string, table_id, to_bytes},
    manifest::{FileEntry, TableEntry},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    commit::Generation,
    output::{Created, Output, sha256_hex},
    parquet::part_bytes,
};
use crate::{Error, Result};

/// Rows per row group: enough for a reader to work in columns, few enough that the widest table
/// (a decoder row of 4096 floats per latent) stays at 128 MiB per row group.
const ROW_GROUP_ROWS: usize = 8192;

/// What a version of a table is, apart from its rows.
#[derive(Debug, Clone)]
pub struct TableWrite {
    /// Name of the table; its directory is `tables/<name>`.
    pub name: String,
    /// The run that writes it.
    pub run: String,
    /// Version in the log: 0 creates the table, later ones add parts to it.
    pub version: u64,
    /// Columns; only types that every reader can read.
    pub schema: SchemaRef,
    /// The int32 or int64 column whose range each part states in the log, so that readers can skip
    /// parts. Usually the one that parts are cut by.
    pub key: Option<String>,
}

/// Some rows of a table; become one Parquet object.
#[derive(Debug, Clone)]
pub struct Part {
    /// Place of the part among the others: its first key. Strictly increasing.
    pub first_key: u64,
    /// The rows.
    pub batch: RecordBatch,
}

/// A part whose object is written; it belongs to the table once it is added.
#[derive(Debug)]
pub struct Written {
    first_key: u64,
    rows: u64,
    add: Add,
    file: FileEntry,
}

/// Writes one version of a table, part by part. Nothing is visible before [`TableWriter::commit`].
#[derive(Debug)]
pub struct TableWriter<'a> {
    output: &'a Output,
    table: TableWrite,
    schema_string: String,
    adds: Vec<Add>,
    files: Vec<FileEntry>,
    rows: u64,
    last_key: Option<u64>,
}

/// Writes one version of a table. `parts` are taken one at a time, so an iterator that makes them
/// holds one in memory.
pub async fn write_table(
    output: &Output,
    generation: &Generation,
    table: &TableWrite,
    parts: impl IntoIterator<Item = Result<Part>>,
) -> Result<TableEntry> {
    let mut writer = TableWriter::new(output, table.clone())?;
    for part in parts {
        writer.part(part?).await?;
    }
    writer.commit(generation).await
}

impl<'a> TableWriter<'a> {
    /// Begins a version of a table; refuses a schema that some reader cannot read.
    pub fn new(output: &'a Output, table: TableWrite) -> Result<TableWriter<'a>> {
        let schema_string = schema_string(&table.schema)
            .map_err(|e| Error::bug(format!("table `{}` is not safe to write: {e}", table.name)))?;
        Ok(TableWriter { output, table, schema_string, adds: vec![], files: vec![], rows: 0, last_key: None })
    }

    /// Writes one part, which comes after all that were added.
    pub async fn part(&mut self, part: Part) -> Result<()> {
        self.check_order(part.first_key)?;
        let written = self.write(part).await?;
        self.add(written)
    }

    /// Writes the object of a part, beside others.
    pub async fn write(&self, part: Part) -> Result<Written> {
        if part.batch.schema() != self.table.schema {
            let name = &self.table.name;
            return Err(Error::bug(format!("a part of table `{name}` has another schema than the table")));
        }
        let bytes = part_bytes(&part.batch, ROW_GROUP_ROWS)?;
        let name = part_name(part.first_key, &bytes);
        let file = self.output.put(&format!("{}/{name}", self.directory()), bytes).await?;
        let add = self.action(name, file.size_bytes, &part.batch)?;
        Ok(Written { first_key: part.first_key, rows: part.batch.num_rows() as u64, add, file })
    }

    /// Adds a written part; parts are added in the order of their keys.
    pub fn add(&mut self, written: Written) -> Result<()> {
        self.check_order(written.first_key)?;
        self.adds.push(written.add);
        self.files.push(written.file);
        self.rows += written.rows;
        self.last_key = Some(written.first_key);
        Ok(())
    }

    /// Makes the version visible.
    pub async fn commit(self, generation: &Generation) -> Result<TableEntry> {
        generation.check(self.output).await?;
        let path = format!("{}/{}", self.directory(), log_path(self.table.version));
        let ours = self.actions();
        let bytes = to_bytes(&ours).map_err(|e| Error::bug(format!("a log of ours is no JSON: {e}")))?;
        if let Created::Other(found) = self.output.create(&path, Bytes::from(bytes)).await? {
            let same = from_bytes(&found).is_ok_and(|found| same_version(&found, &ours));
            if !same {
                return Err(self.other_version(&path));
            }
        }
        let path = self.directory();
        Ok(TableEntry { path, version: self.table.version, rows: self.rows, files: self.files })
    }

    fn directory(&self) -> String {
        format!("tables/{}", self.table.name)
    }

    fn check_order(&self, first_key: u64) -> Result<()> {
        if self.last_key.is_some_and(|last| first_key <= last) {
            let name = &self.table.name;
            return Err(Error::bug(format!("parts of table `{name}` are not in the order of their keys")));
        }
        Ok(())
    }

    /// The log entry: the table itself in version 0, then what this version adds.
    fn actions(&self) -> Vec<Action> {
        let mut actions = vec![Action::CommitInfo(self.commit_info())];
        if self.table.version == 0 {
            actions.push(Action::Protocol(Protocol::default()));
            actions.push(Action::MetaData(self.meta_data()));
        }
        let (app_id, version) = (self.table.run.clone(), self.table.version);
        actions.push(Action::Txn(Txn { app_id, version }));
        actions.extend(self.adds.iter().cloned().map(Action::Add));
        actions
    }

    fn commit_info(&self) -> CommitInfo {
        let operation = if self.table.version == 0 { "CREATE TABLE AS SELECT" } else { "WRITE" };
        CommitInfo {
            timestamp: 0,
            operation: operation.to_owned(),
            operation_parameters: BTreeMap::new(),
            engine_info: concat!("atomflow/", env!("CARGO_PKG_VERSION")).to_owned(),
            writer: self.output.writer.clone(),
        }
    }

    fn meta_data(&self) -> MetaData {
        let identity = format!("{}\n{}", self.table.run, self.table.name);
        MetaData {
            id: table_id(Sha256::digest(identity.as_bytes()).into()),
            name: self.table.name.clone(),
            format: Format::default(),
            schema_string: self.schema_string.clone(),
            partition_columns: vec![],
            configuration: BTreeMap::new(),
            created_time: 0,
        }
    }

    fn action(&self, path: String, size: u64, batch: &RecordBatch) -> Result<Add> {
        let stats = stats(batch, self.table.key.as_deref())?.to_json();
        Ok(Add {
            path,
            partition_values: BTreeMap::new(),
            size,
            modification_time: 0,
            data_change: true,
            stats: stats.map_err(|e| Error::bug(format!("statistics of ours are no JSON: {e}")))?,
        })
    }

    fn other_version(&self, path: &str) -> Error {
        let message = format!("version {} of the table exists and holds something else", self.table.version);
        Error::spec(message).object(self.output.url(path)).hint(
            "another program wrote here, or another version of atomflow began this run; choose another `out`",
        )
    }
}

/// First key, so that names sort; hash, so that a name never stands for two contents.
fn part_name(first_key: u64, bytes: &[u8]) -> String {
    let hash = sha256_hex(bytes);
    format!("part-{first_key:010}-{}.parquet", &hash[..12])
}

fn stats(batch: &RecordBatch, key: Option<&str>) -> Result<Stats> {
    let mut stats = Stats { num_records: batch.num_rows() as u64, ..Stats::default() };
    let Some(key) = key else { return Ok(stats) };
    let column = batch.column_by_name(key).ok_or_else(|| Error::bug(format!("no key column `{key}`")))?;
    if let Some((min, max)) = range(column)? {
        stats.min_values.insert(key.to_owned(), min);
        stats.max_values.insert(key.to_owned(), max);
    }
    stats.null_count.insert(key.to_owned(), column.null_count() as i64);
    Ok(stats)
}

/// Least and greatest value, if there is any.
fn range(column: &dyn Array) -> Result<Option<(i64, i64)>> {
    match column.data_type() {
        DataType::Int32 => {
            let column = column.as_primitive::<Int32Type>();
            Ok(compute::min(column).zip(compute::max(column)).map(|(min, max)| (min.into(), max.into())))
        }
        DataType::Int64 => {
            let column = column.as_primitive::<Int64Type>();
            Ok(compute::min(column).zip(compute::max(column)))
        }
        other => Err(Error::bug(format!("the key of a table cannot be {other}"))),
    }
}
