//! The JSON objects of the commit protocol: generations, commits, the run record, the manifest.
//!
//! All of them are written once, create-if-absent, as pretty JSON with a final newline. Each is a
//! function of the plan, except for `writer` (which process wrote it) and `generation`: two
//! processes that do the same work write the same bytes apart from these two.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Version of every object in this file. A reader refuses versions it does not know.
pub const FORMAT: u32 = 1;

/// One immutable object, named relative to the output directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the output directory.
    pub path: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
}

/// `gen/<number>.json`: one process has taken over the run. The newest one alone may commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// 1 for the first process of a run.
    pub generation: u64,
    /// Token of the process.
    pub writer: String,
    /// Vector instructions it runs on. All give the same bytes; this says which did.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub simd: String,
}

/// `epoch/<name>.json`: the work called `name` is done, and these files hold it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// [`FORMAT`].
    pub format: u32,
    /// What is done, as named by the plan; sorts in the order of the work.
    pub name: String,
    /// Generation of the process that wrote this.
    pub generation: u64,
    /// Token of the process that wrote this.
    pub writer: String,
    /// Every file that belongs to the commit.
    pub files: Vec<FileEntry>,
    /// What the next process needs to go on from here.
    pub body: Value,
}

/// `run.json`: whose directory this is. The first object of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// [`FORMAT`].
    pub format: u32,
    /// Run id: the hash of job, plan and [`files`](RunRecord::files).
    pub run: String,
    /// Name of the job, for people.
    pub name: String,
    /// Hash of the plan.
    pub plan: String,
    /// The job: everything that decides the bytes of the run.
    pub job: Value,
    /// The shards by URL, size and ETag, as they were when the run began.
    pub shards: Value,
    /// Files that learners read before their first step, as they were then, by URL.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
}

/// A file that a learner reads before its first step, such as a dictionary it starts from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Its URL as the job has it.
    pub url: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// SHA-256 of the content, lower-case hex.
    pub sha256: String,
}

/// `manifest.json`: the run is complete. The last object of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunManifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Run id.
    pub run: String,
    /// The published tables by name.
    pub tables: BTreeMap<String, TableEntry>,
    /// The exported dictionary.
    pub dictionary: Vec<FileEntry>,
    /// How good the result is.
    pub metrics: Value,
    /// In the root of a job of several learners, which has no tables of its own: each by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub learners: BTreeMap<String, LearnerEntry>,
}

/// What became of one of several learners.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerEntry {
    /// Its directory below the output directory, laid out like that of a job of one learner.
    pub path: String,
    /// How good its dictionary is; null if it failed.
    pub metrics: Value,
    /// Why there is no dictionary, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<LearnerFailure>,
}

/// Why a learner came to nothing; also the body of its commit `failed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearnerFailure {
    /// What the user must do: `fix the spec` or `bug`.
    pub kind: String,
    /// What is wrong.
    pub message: String,
    /// The field of the job spec it is about, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What to do about it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One version of one published table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableEntry {
    /// Directory of the table below the output directory; holds the parts and `_delta_log`.
    pub path: String,
    /// Version in the Delta log, counted from 0.
    pub version: u64,
    /// Rows this version added.
    pub rows: u64,
    /// The parts this version added.
    pub files: Vec<FileEntry>,
}

/// The bytes of one of these objects: pretty, because people read them, and newline-terminated.
pub fn to_bytes<T: Serialize>(object: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(object)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads one of these objects; the error is one sentence, without the object's name.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    // The version first: an unknown one explains whatever else would not fit.
    match serde_json::from_slice::<Version>(bytes).map_err(|e| format!("not a valid object: {e}"))? {
        Version { format: FORMAT } => {
            serde_json::from_slice(bytes).map_err(|e| format!("not a valid object: {e}"))
        }
        Version { format } => Err(format!("format version {format}; this atomflow reads version {FORMAT}")),
    }
}

#[derive(Deserialize)]
struct Version {
    format: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit() -> Commit {
        Commit {
            format: FORMAT,
            name: "train-000001".to_owned(),
            generation: 2,
            writer: "w".to_owned(),
            files: vec![FileEntry { path: "a/b".to_owned(), size_bytes: 3, sha256: "00".to_owned() }],
            body: serde_json::json!({"next_window": 4}),
        }
    }

    #[test]
    fn commits_survive_the_round_trip() {
        let bytes = to_bytes(&commit()).unwrap();
        assert_eq!(from_bytes::<Commit>(&bytes).unwrap(), commit());
    }

    #[test]
    fn a_commit_looks_like_this() {
        let golden = r#"{
  "format": 1,
  "name": "train-000001",
  "generation": 2,
  "writer": "w",
  "files": [
    {
      "path": "a/b",
      "size_bytes": 3,
      "sha256": "00"
    }
  ],
  "body": {
    "next_window": 4
  }
}
"#;
        assert_eq!(String::from_utf8(to_bytes(&commit()).unwrap()).unwrap(), golden);
    }

    #[test]
    fn newer_formats_and_rubbish_are_refused() {
        let newer = from_bytes::<Commit>(br#"{"format": 7}"#).unwrap_err();
        assert!(newer.contains("version 7"), "{newer}");
        assert!(from_bytes::<Commit>(b"{").is_err());
        assert!(from_bytes::<Commit>(br#"{"format": 1}"#).is_err());
    }
}
