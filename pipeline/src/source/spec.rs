//! `[source]` of a job spec: which objects, which columns, which rows.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[source]`: where the activations are and how to read them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Where the shards are: `s3://`, `gs://`, `az://`, `file://` or a plain path, each a single
    /// object, a prefix (every `.parquet` and `.arrow` below it) or a glob (`*`, `**`, `?`, `{a,b}`).
    /// Plain paths are relative to the current directory.
    pub url: Urls,
    /// Site in the model that the vectors come from, for the tables (`layers.15`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hookpoint: Option<String>,
    /// Names of the columns.
    #[serde(default)]
    pub columns: Columns,
    /// Element type of a `FixedSizeBinary` activation column that does not say so itself in the
    /// file's key-value metadata (`dtype`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtype: Option<Dtype>,
    /// Which rows to leave out.
    #[serde(default)]
    pub filter: FilterSpec,
    /// What to do with a shard or row that cannot be used.
    #[serde(default)]
    pub on_bad: OnBad,
    /// How many bytes of fetched row groups may wait for decoding, over all workers.
    #[serde(default = "prefetch_bytes_default")]
    pub prefetch_bytes: u64,
}

fn prefetch_bytes_default() -> u64 {
    128 << 20
}

/// One URL or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Urls {
    /// One URL.
    One(String),
    /// Several; a shard that two of them name is an error.
    Many(Vec<String>),
}

impl Urls {
    /// The URLs in spec order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Urls::One(url) => std::slice::from_ref(url).iter().map(String::as_str),
            Urls::Many(urls) => urls.as_slice().iter().map(String::as_str),
        }
    }
}

/// `[source.columns]`: names in the files. All but `activation` are optional in the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// The activation vector: FixedSizeList, List or LargeList of float32/float16, or
    /// FixedSizeBinary of little-endian f32/f16/bf16.
    pub activation: String,
    /// Token id, int32 or int64.
    pub token_id: String,
    /// Token text.
    pub token: String,
    /// Document, int32 or int64. Held-out rows are chosen by document.
    pub doc_id: String,
    /// Sequence the model saw, int32 or int64.
    pub seq_id: String,
    /// Position in the sequence, int32 or int64.
    pub pos: String,
}

impl Default for Columns {
    fn default() -> Self {
        let s = str::to_owned;
        Columns {
            activation: s("activation"),
            token_id: s("token_id"),
            token: s("token"),
            doc_id: s("doc_id"),
            seq_id: s("seq_id"),
            pos: s("pos"),
        }
    }
}

/// Element type of raw little-endian rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// bfloat16.
    Bf16,
}

/// `[source.filter]`: rows that neither train nor count, for reasons known before learning.
///
/// Real residual streams hold attention sinks: tokens whose norm is a hundred times the median.
/// Left in, they own the normalisation constant and the FVU.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilterSpec {
    /// Drop rows at these positions (needs the `pos` column).
    pub drop_pos: Vec<i64>,
    /// Drop rows with these token ids (needs the `token_id` column).
    pub drop_token_ids: Vec<i64>,
    /// Drop rows whose norm exceeds this many times the median norm of the calibration sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_over_median_max: Option<f64>,
}

/// What to do with input that cannot be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBad {
    /// Stop with an error that names the place. The default.
    #[default]
    Fail,
    /// Leave the shard (or the row, for NaN, Inf and null) out and list it in the `shards` table.
    Quarantine,
}
