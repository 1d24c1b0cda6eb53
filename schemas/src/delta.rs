//! The Delta Lake log, as much of it as immutable tables need: protocol reader 1, writer 2.
//!
//! One log file is one version: a line of JSON per action. Everything in it is a function of the
//! table, except the writer token in `commitInfo`; [`same_version`] compares all the rest.
//! Format: <https://github.com/delta-io/delta/blob/master/PROTOCOL.md>.

use std::{collections::BTreeMap, fmt};

use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Key of the Arrow field metadata that becomes the column's comment.
pub const COMMENT: &str = "comment";

/// One line of a log file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Who wrote the version. Free-form in the format; readers ignore it.
    CommitInfo(CommitInfo),
    /// What a reader and a writer must understand.
    Protocol(Protocol),
    /// The schema of the table.
    MetaData(MetaData),
    /// A mark of the application: which of its transactions this is.
    Txn(Txn),
    /// One part belongs to the table from this version on.
    Add(Add),
}

/// Who wrote the version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommitInfo {
    /// Always 0: the same run must give the same bytes, whenever it runs.
    pub timestamp: i64,
    /// `CREATE TABLE AS SELECT` or `WRITE`.
    pub operation: String,
    /// Unused; some readers insist on the field.
    pub operation_parameters: BTreeMap<String, String>,
    /// The program.
    pub engine_info: String,
    /// Token of the process that wrote the version: tells a lost answer from a lost race.
    pub writer: String,
}

/// What a reader and a writer must understand.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// 1: plain Parquet, no deletion vectors, no column mapping.
    pub min_reader_version: u32,
    /// 2: no constraints, no generated columns.
    pub min_writer_version: u32,
}

impl Default for Protocol {
    fn default() -> Self {
        Protocol { min_reader_version: 1, min_writer_version: 2 }
    }
}

/// The schema of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetaData {
    /// Identity of the table, formatted as a UUID; see [`table_id`].
    pub id: String,
    /// Name of the table, for people.
    pub name: String,
    /// Format of the parts.
    pub format: Format,
    /// The schema as a string of JSON; see [`schema_string`].
    pub schema_string: String,
    /// Always empty: parts are cut by key range, not by partition column.
    pub partition_columns: Vec<String>,
    /// Always empty.
    pub configuration: BTreeMap<String, String>,
    /// Always 0: the same run must give the same bytes.
    pub created_time: i64,
}

/// Format of the parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    /// Always `parquet`.
    pub provider: String,
    /// Always empty.
    pub options: BTreeMap<String, String>,
}

impl Default for Format {
    fn default() -> Self {
        Format { provider: "parquet".to_owned(), options: BTreeMap::new() }
    }
}

/// A mark of the application.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    /// The run that wrote the version.
    pub app_id: String,
    /// Version of the table, as the run counts it.
    pub version: u64,
}

/// One part of the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// Path below the table's directory. Our names need no URL encoding.
    pub path: String,
    /// Always empty: no partition columns.
    pub partition_values: BTreeMap<String, String>,
    /// Size in bytes.
    pub size: u64,
    /// Always 0: the same run must give the same bytes.
    pub modification_time: i64,
    /// The part brings new rows (as opposed to a rewrite of old ones).
    pub data_change: bool,
    /// [`Stats`] as a string of JSON.
    pub stats: String,
}

/// What a reader may know of a part without opening it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// Rows in the part.
    pub num_records: u64,
    /// Least value by column.
    pub min_values: BTreeMap<String, i64>,
    /// Greatest value by column.
    pub max_values: BTreeMap<String, i64>,
    /// Nulls by column.
    pub null_count: BTreeMap<String, i64>,
}

impl Stats {
    /// As the string that [`Add::stats`] holds.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

/// Name of the log file of `version`, below the table's directory.
pub fn log_path(version: u64) -> String {
    format!("_delta_log/{version:020}.json")
}

/// The bytes of a log file.
pub fn to_bytes(actions: &[Action]) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for action in actions {
        serde_json::to_writer(&mut bytes, action)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

/// The actions in a log file.
pub fn from_bytes(bytes: &[u8]) -> serde_json::Result<Vec<Action>> {
    let lines = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
    lines.map(serde_json::from_slice).collect()
}

/// Whether two log files say the same, whoever wrote them.
pub fn same_version(one: &[Action], other: &[Action]) -> bool {
    let anonymous =
        |actions: &[Action]| -> Vec<Action> { actions.iter().cloned().map(without_writer).collect() };
    anonymous(one) == anonymous(other)
}

fn without_writer(action: Action) -> Action {
    match action {
        Action::CommitInfo(info) => Action::CommitInfo(CommitInfo { writer: String::new(), ..info }),
        other => other,
    }
}

/// The identity of a table as the format wants it: a digest of run and table name, written as a
/// UUID of version 8 ("custom"), so that a replay gives the same.
pub fn table_id(digest: [u8; 32]) -> String {
    let hex: Vec<String> = digest[..16].iter().enumerate().map(uuid_byte).collect();
    let group = |from: usize, to: usize| hex[from..to].concat();
    [group(0, 4), group(4, 6), group(6, 8), group(8, 10), group(10, 16)].join("-")
}

/// RFC 9562 keeps the high bits of two bytes for version and variant.
fn uuid_byte((i, byte): (usize, &u8)) -> String {
    let byte = match i {
        6 => (byte & 0x0f) | 0x80,
        8 => (byte & 0x3f) | 0x80,
        _ => *byte,
    };
    format!("{byte:02x}")
}

/// A column that must not be in an output table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsafeColumn {
    /// The column, with the struct fields that lead to it.
    pub column: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for UnsafeColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column `{}`: {}", self.column, self.reason)
    }
}

impl std::error::Error for UnsafeColumn {}

/// The schema as a string of JSON. Refuses every type that some reader of ours cannot read, so
/// that what has a log is known to be readable.
pub fn schema_string(schema: &Schema) -> Result<String, UnsafeColumn> {
    Ok(json!({"type": "struct", "fields": struct_fields(schema.fields(), "")?}).to_string())
}

fn struct_fields(fields: &Fields, parent: &str) -> Result<Vec<Value>, UnsafeColumn> {
    fields.iter().map(|field| struct_field(field, parent)).collect()
}

fn struct_field(field: &Field, parent: &str) -> Result<Value, UnsafeColumn> {
    let column = format!("{parent}{}", field.name());
    // Delta without column mapping (which Spark alone reads well) refuses these in names.
    if field.name().is_empty() || field.name().contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='])
    {
        return Err(UnsafeColumn { column, reason: "the name does not fit a Delta table".to_owned() });
    }
    Ok(json!({
        "name": field.name(),
        "type": delta_type(field.data_type(), &column)?,
        "nullable": field.is_nullable(),
        "metadata": field_metadata(field),
    }))
}

fn field_metadata(field: &Field) -> Map<String, Value> {
    let comment = field.metadata().get(COMMENT);
    comment.map(|text| (COMMENT.to_owned(), Value::from(text.as_str()))).into_iter().collect()
}

fn delta_type(data_type: &DataType, column: &str) -> Result<Value, UnsafeColumn> {
    let name = match data_type {
        DataType::Int8 => "byte",
        DataType::Int16 => "short",
        DataType::Int32 => "integer",
        DataType::Int64 => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Boolean => "boolean",
        DataType::Utf8 => "string",
        DataType::Binary => "binary",
        DataType::Date32 => "date",
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => "timestamp",
        DataType::List(item) | DataType::FixedSizeList(item, _) => return array_type(item, column),
        DataType::Struct(fields) => {
            let fields = struct_fields(fields, &format!("{column}."))?;
            return Ok(json!({"type": "struct", "fields": fields}));
        }
        other => {
            let reason = format!("type {other} is not readable everywhere (Spark, DuckDB, Polars)");
            return Err(UnsafeColumn { column: column.to_owned(), reason });
        }
    };
    Ok(Value::from(name))
}

fn array_type(item: &Field, column: &str) -> Result<Value, UnsafeColumn> {
    let element = delta_type(item.data_type(), &format!("{column}[]"))?;
    Ok(json!({"type": "array", "elementType": element, "containsNull": item.is_nullable()}))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn list(item: DataType) -> DataType {
        DataType::List(Arc::new(Field::new("item", item, false)))
    }

    fn wide() -> Schema {
        let comment = [(COMMENT.to_owned(), "index of the latent".to_owned())];
        let token = Fields::from(vec![
            Field::new("token", DataType::Utf8, true),
            Field::new("activation", DataType::Float32, false),
        ]);
        Schema::new(vec![
            Field::new("latent", DataType::Int32, false).with_metadata(comment),
            Field::new("count", DataType::Int64, false),
            Field::new("small", DataType::Int16, true),
            Field::new("tiny", DataType::Int8, true),
            Field::new("density", DataType::Float64, true),
            Field::new("dead", DataType::Boolean, false),
            Field::new("raw", DataType::Binary, true),
            Field::new("day", DataType::Date32, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
            Field::new(
                "decoder",
                DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, false)), 4),
                false,
            ),
            Field::new("tokens", list(DataType::Struct(token)), false),
        ])
    }

    #[test]
    fn every_safe_type_has_its_delta_name() {
        let schema: Value = serde_json::from_str(&schema_string(&wide()).unwrap()).unwrap();
        let types: Vec<Value> =
            schema["fields"].as_array().unwrap().iter().map(|f| f["type"].clone()).collect();
        let array = |element: Value| json!({"type": "array", "elementType": element, "containsNull": false});
        let token = json!({"type": "struct", "fields": [
            {"name": "token", "type": "string", "nullable": true, "metadata": {}},
            {"name": "activation", "type": "float", "nullable": false, "metadata": {}},
        ]});
        let scalars =
            ["integer", "long", "short", "byte", "double", "boolean", "binary", "date", "timestamp"];
        let mut expected: Vec<Value> = scalars.map(Value::from).to_vec();
        expected.extend([array("float".into()), array(token)]);
        assert_eq!(types, expected);
        assert_eq!(schema["fields"][0]["metadata"], json!({"comment": "index of the latent"}));
    }

    #[test]
    fn types_that_break_a_reader_are_refused_with_the_column() {
        let unsafe_types = [
            DataType::UInt64,
            DataType::UInt32,
            DataType::Float16,
            DataType::LargeUtf8,
            DataType::Utf8View,
            DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            DataType::Time64(TimeUnit::Microsecond),
            DataType::Duration(TimeUnit::Second),
            DataType::Decimal256(50, 2),
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        ];
        for data_type in unsafe_types {
            let inner = Fields::from(vec![Field::new("x", data_type.clone(), true)]);
            let schema = Schema::new(vec![Field::new("s", list(DataType::Struct(inner)), true)]);
            let error = schema_string(&schema).unwrap_err();
            assert_eq!(error.column, "s[].x", "{data_type}");
        }
    }

    #[test]
    fn names_that_delta_forbids_are_refused() {
        let schema = Schema::new(vec![Field::new("a b", DataType::Int32, true)]);
        assert!(schema_string(&schema).is_err());
    }

    fn version(writer: &str) -> Vec<Action> {
        let schema = Schema::new(vec![Field::new("latent", DataType::Int32, false)]);
        let stats = Stats {
            num_records: 2,
            min_values: [("latent".to_owned(), 0)].into(),
            max_values: [("latent".to_owned(), 1)].into(),
            ..Stats::default()
        };
        vec![
            Action::CommitInfo(CommitInfo {
                timestamp: 0,
                operation: "CREATE TABLE AS SELECT".to_owned(),
                operation_parameters: BTreeMap::new(),
                engine_info: "atomflow".to_owned(),
                writer: writer.to_owned(),
            }),
            Action::Protocol(Protocol::default()),
            Action::MetaData(MetaData {
                id: table_id([0xff; 32]),
                name: "features".to_owned(),
                format: Format::default(),
                schema_string: schema_string(&schema).unwrap(),
                partition_columns: vec![],
                configuration: BTreeMap::new(),
                created_time: 0,
            }),
            Action::Txn(Txn { app_id: "run".to_owned(), version: 0 }),
            Action::Add(Add {
                path: "part-0.parquet".to_owned(),
                partition_values: BTreeMap::new(),
                size: 10,
                modification_time: 0,
                data_change: true,
                stats: stats.to_json().unwrap(),
            }),
        ]
    }

    const GOLDEN: &str = r#"{"commitInfo":{"timestamp":0,"operation":"CREATE TABLE AS SELECT","operationParameters":{},"engineInfo":"atomflow","writer":"w"}}
{"protocol":{"minReaderVersion":1,"minWriterVersion":2}}
{"metaData":{"id":"ffffffff-ffff-8fff-bfff-ffffffffffff","name":"features","format":{"provider":"parquet","options":{}},"schemaString":"{\"type\":\"struct\",\"fields\":[{\"name\":\"latent\",\"type\":\"integer\",\"nullable\":false,\"metadata\":{}}]}","partitionColumns":[],"configuration":{},"createdTime":0}}
{"txn":{"appId":"run","version":0}}
{"add":{"path":"part-0.parquet","partitionValues":{},"size":10,"modificationTime":0,"dataChange":true,"stats":"{\"numRecords\":2,\"minValues\":{\"latent\":0},\"maxValues\":{\"latent\":1},\"nullCount\":{}}"}}
"#;

    #[test]
    fn a_log_file_looks_like_this() {
        let bytes = to_bytes(&version("w")).unwrap();
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), GOLDEN);
        assert_eq!(from_bytes(&bytes).unwrap(), version("w"));
    }

    #[test]
    fn versions_are_compared_without_their_writer() {
        assert!(same_version(&version("a"), &version("b")));
        let shorter = &version("a")[..4];
        assert!(!same_version(shorter, &version("b")));
    }

    #[test]
    fn log_names_sort_by_version() {
        assert_eq!(log_path(12), "_delta_log/00000000000000000012.json");
    }
}
