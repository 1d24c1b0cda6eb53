//! The job spec: a TOML file, typed, with every fault named by line, field and remedy.
//!
//! A spec is read in five steps: the text becomes a [`Document`] that knows where each value stands,
//! `--set` edits that document, sweeps become the learners they stand for, [`schema`] compares it with the JSON Schema of [`JobSpec`] (unknown
//! and missing fields, wrong types), and `limits` checks ranges and what fields say together. The
//! schema is generated from the types, so the valid names are listed nowhere twice.

mod document;
mod limits;
mod nearest;
pub mod schema;
mod sweep;

use std::path::Path;

use atomflow_pipeline::{
    Error, Result,
    run::{Job, RuntimeSpec},
    source::SourceSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use document::Document;

/// A whole job file: what decides the bytes of a run, where they go, and how it is run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "atomflow job", deny_unknown_fields)]
pub struct JobSpec {
    /// What decides the bytes of the result.
    #[serde(flatten)]
    pub job: Job,
    /// Where the run is written: `s3://`, `gs://`, `az://`, `file://` or a plain path. Left out:
    /// `runs/<name>`.
    #[serde(default)]
    pub out: String,
    /// How the job is run. Nothing here changes a byte of the result.
    #[serde(default)]
    pub runtime: RuntimeSpec,
}

impl JobSpec {
    /// Reads the spec at `path`, with `sets` (`key=value`) applied.
    ///
    /// The document comes along because it can say on which line a field stands: errors of the
    /// engine that name a field get their line from [`Document::locate`].
    ///
    /// # Errors
    /// The file cannot be read, or [`JobSpec::parse`] refuses it.
    pub fn read(path: &Path, sets: &[String]) -> Result<(JobSpec, Document)> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|error| {
            Error::spec(format!("cannot read the job spec: {error}"))
                .object(name.clone())
                .hint("give the path of a TOML file; jobs/specs/ holds examples")
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::spec(format!("is not UTF-8 text (byte {at})")).object(name.clone())
        })?;
        JobSpec::parse(&text, &name, sets)
    }

    /// Parses the text of a spec; `name` is what errors call the file.
    ///
    /// # Errors
    /// Always of kind [`Spec`](atomflow_pipeline::error::Kind::Spec): bad TOML, unknown or missing
    /// fields, wrong types, values out of range, fields that contradict each other.
    pub fn parse(text: &str, name: &str, sets: &[String]) -> Result<(JobSpec, Document)> {
        let schema = schema::Schema::of::<JobSpec>();
        let mut document = Document::parse(text, name)?;
        for set in sets {
            document.set(set, &schema)?;
        }
        document.expand()?;
        schema.check(&document)?;
        let mut spec: JobSpec = typed(&document)?;
        limits::check(&spec).map_err(|error| document.locate(error))?;
        if spec.out.is_empty() {
            spec.out = format!("runs/{}", spec.job.name);
        }
        Ok((spec, document))
    }
}

/// `[runtime]` alone, for `resume`: the job itself is in the run directory and cannot change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Resumed {
    #[serde(default)]
    runtime: RuntimeSpec,
}

/// The runtime settings of a resumed run: the defaults with `sets` (`runtime.key=value`) applied.
///
/// # Errors
/// A key that is not below `runtime`, or a value that is out of range.
pub fn resumed_runtime(sets: &[String]) -> Result<RuntimeSpec> {
    let schema = schema::Schema::of::<Resumed>();
    let mut document = Document::parse("", "the command line")?;
    for set in sets {
        document.set(set, &schema)?;
    }
    schema.check(&document)?;
    let resumed: Resumed = typed(&document)?;
    limits::runtime(&resumed.runtime).map_err(|error| document.locate(error))?;
    Ok(resumed.runtime)
}

/// `[source]` alone, for `convert`.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Sourced {
    source: SourceSpec,
}

/// What `convert` reads: the source of the job spec `from`, if that is a TOML file, else the shards
/// at that URL; with `sets` (`source.key=value`) applied.
///
/// # Errors
/// As for [`JobSpec::read`].
pub fn source(from: &str, sets: &[String]) -> Result<(SourceSpec, Document)> {
    if Path::new(from).extension().is_some_and(|extension| extension == "toml") {
        let (spec, document) = JobSpec::read(Path::new(from), sets)?;
        return Ok((spec.job.source, document));
    }
    let schema = schema::Schema::of::<Sourced>();
    let mut document = Document::parse("", "the command line")?;
    document.set(&format!("source.url={}", toml::Value::from(from)), &schema)?;
    for set in sets {
        document.set(set, &schema)?;
    }
    schema.check(&document)?;
    let sourced: Sourced = typed(&document)?;
    limits::source(&sourced.source).map_err(|error| document.locate(error))?;
    Ok((sourced.source, document))
}

/// The document as a value. The schema has been through it, so a fault here is one that the schema
/// cannot express; serde's words are passed on.
fn typed<T: DeserializeOwned>(document: &Document) -> Result<T> {
    let value = document.to_toml();
    value
        .try_into()
        .map_err(|e: toml::de::Error| Error::spec(e.message().trim().to_owned()).object(document.name()))
}
