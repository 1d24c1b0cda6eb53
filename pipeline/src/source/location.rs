//! A URL, opened: an object store and the path prefix inside it.

use std::{
    path::{Component, Path as FsPath, PathBuf},
    sync::{Arc, Once},
};

use object_store::{
    ObjectStore, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder, gcp::GoogleCloudStorageBuilder,
    local::LocalFileSystem, path::Path,
};

use crate::error::{Error, Result};

/// One opened URL: the store that serves it and the path it names.
///
/// The store of a relative path is rooted at the current directory, so names printed or written to
/// tables stay as the user wrote them and never hold this machine's absolute paths.
#[derive(Debug, Clone)]
pub struct Location {
    /// The store, shared by everything below the same scheme and bucket.
    pub store: Arc<dyn ObjectStore>,
    /// The path the URL names, without any glob part.
    pub path: Path,
    /// What to print before a path so that a person can paste the result (`s3://bucket/`, `/`, or
    /// nothing for a relative path).
    pub root: String,
}

impl Location {
    /// Opens `s3://`, `gs://`, `az://`, `file://` or a plain path. Nothing is read yet, and what the
    /// URL names need not exist. Credentials come from each cloud's own environment variables.
    pub fn open(url: &str) -> Result<Location> {
        let opened = match url.split_once("://") {
            Some(("file", path)) => local("file://", path),
            Some((scheme, rest)) => cloud(scheme, rest),
            None => local("", url),
        };
        opened.map_err(|e| e.object(url))
    }

    /// The name of an object of this store, as the user would write it.
    pub fn url_of(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }

    /// What the location itself is called.
    pub fn url(&self) -> String {
        self.url_of(&self.path)
    }
}

/// Splits a URL before the first path segment that holds a glob character: (literal, pattern).
///
/// ```
/// use atomflow_pipeline::source::location::split_glob;
/// assert_eq!(split_glob("s3://acts/run-3/*/s-?.parquet"), ("s3://acts/run-3", Some("*/s-?.parquet")));
/// assert_eq!(split_glob("acts/run-3"), ("acts/run-3", None));
/// ```
pub fn split_glob(url: &str) -> (&str, Option<&str>) {
    let Some(first) = url.find(['*', '?', '[', '{']) else { return (url, None) };
    match url[..first].rfind('/') {
        Some(0) => ("/", Some(&url[1..])),
        Some(slash) => (&url[..slash], Some(&url[slash + 1..])),
        None => ("", Some(url)),
    }
}

fn cloud(scheme: &str, rest: &str) -> Result<Location> {
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty() {
        return Err(Error::spec("the URL names no bucket").hint("write it as s3://BUCKET/PREFIX"));
    }
    let store = bucket(scheme, authority)?;
    let path = Path::parse(key).map_err(|e| Error::spec(format!("not a usable object path: {e}")))?;
    Ok(Location { store, path, root: format!("{scheme}://{authority}/") })
}

fn bucket(scheme: &str, authority: &str) -> Result<Arc<dyn ObjectStore>> {
    install_tls();
    let url = format!("{scheme}://{authority}/");
    let opened: object_store::Result<Arc<dyn ObjectStore>> = match scheme {
        "s3" | "s3a" => AmazonS3Builder::from_env().with_url(url).build().map(|s| Arc::new(s) as _),
        "gs" => GoogleCloudStorageBuilder::from_env().with_url(url).build().map(|s| Arc::new(s) as _),
        "az" | "azure" | "abfs" | "abfss" => {
            MicrosoftAzureBuilder::from_env().with_url(url).build().map(|s| Arc::new(s) as _)
        }
        _ => return Err(unknown_scheme(scheme)),
    };
    opened.map_err(|e| Error::spec(format!("the store cannot be opened: {e}")).hint(credentials(scheme)))
}

fn unknown_scheme(scheme: &str) -> Error {
    Error::spec(format!("nothing serves `{scheme}://`"))
        .hint("use s3://, gs://, az://, file:// or a plain path")
}

/// Which environment variables a store reads, for error messages.
pub(crate) fn credentials(url: &str) -> &'static str {
    match url.split("://").next() {
        Some("s3" | "s3a") => {
            "S3 reads AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL and AWS_ALLOW_HTTP \
             (or the instance's own role)"
        }
        Some("gs") => "Google Cloud Storage reads GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
        Some("az" | "azure" | "abfs" | "abfss") => {
            "Azure reads AZURE_STORAGE_ACCOUNT_NAME with AZURE_STORAGE_ACCOUNT_KEY, or a client id and secret"
        }
        _ => "check the permissions of the file and of the directories above it",
    }
}

/// The TLS library is built without a default cipher provider (ring instead of aws-lc halves the
/// cold build), so one has to be named once per process. A second naming is refused and harmless.
fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// A local store is rooted at `/` for absolute paths and otherwise at the directory that the part
/// of the path up to its last `..` names (most often the current directory).
fn local(scheme: &str, written: &str) -> Result<Location> {
    let (base, rest) = split_base(FsPath::new(written));
    let store =
        LocalFileSystem::new_with_prefix(if base.as_os_str().is_empty() { FsPath::new(".") } else { &base })
            .map_err(|_| missing_base(&base))?
            // Commits must survive power loss, not only the death of the process.
            .with_fsync(true);
    let rest = rest.to_str().ok_or_else(|| Error::spec("the path is not valid UTF-8"))?;
    let path = Path::parse(rest).map_err(|e| Error::spec(format!("not a usable path: {e}")))?;
    Ok(Location { store: Arc::new(store), path, root: format!("{scheme}{}", with_slash(&base)) })
}

fn missing_base(base: &FsPath) -> Error {
    Error::spec(format!("the directory `{}` does not exist", base.display()))
}

/// `(base, rest)`: `rest` holds plain names only, `base` everything up to the last `/` root or `..`.
fn split_base(path: &FsPath) -> (PathBuf, PathBuf) {
    let (mut base, mut rest) = (PathBuf::new(), PathBuf::new());
    for component in path.components() {
        match component {
            Component::Normal(name) => rest.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                base.push(std::mem::take(&mut rest));
                base.push(component);
            }
        }
    }
    (base, rest)
}

fn with_slash(base: &FsPath) -> String {
    let base = base.to_string_lossy();
    if base.is_empty() || base.ends_with('/') { base.into_owned() } else { format!("{base}/") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn named(url: &str) -> (String, String) {
        let l = Location::open(url).unwrap();
        (l.root.clone(), l.path.to_string())
    }

    #[test]
    fn names_stay_as_written() {
        assert_eq!(named("data/run 1"), (String::new(), "data/run 1".into()));
        assert_eq!(named("./data/"), (String::new(), "data".into()));
        assert_eq!(named("../x"), ("../".into(), "x".into()));
        assert_eq!(named("src/../x/y"), ("src/../".into(), "x/y".into()));
        assert_eq!(named("/tmp/x"), ("/".into(), "tmp/x".into()));
        assert_eq!(named("file:///tmp/x"), ("file:///".into(), "tmp/x".into()));
        assert_eq!(named("s3://bucket/a/b"), ("s3://bucket/".into(), "a/b".into()));
        assert_eq!(named("gs://bucket"), ("gs://bucket/".into(), String::new()));
        assert_eq!(
            Location::open("s3://b/a").unwrap().url_of(&Path::from("a/c.parquet")),
            "s3://b/a/c.parquet"
        );
    }

    #[test]
    fn what_cannot_be_opened_is_a_spec_error() {
        for url in ["ftp://host/x", "s3:///key", "s3://bucket/a//b", "no-such-dir/../x"] {
            let error = Location::open(url).unwrap_err();
            assert_eq!(error.kind, Kind::Spec, "{url}: {error}");
            assert_eq!(error.place().object.as_deref(), Some(url));
        }
    }

    #[test]
    fn globs_split_at_a_slash() {
        assert_eq!(split_glob("*.parquet"), ("", Some("*.parquet")));
        assert_eq!(split_glob("/*.parquet"), ("/", Some("*.parquet")));
        assert_eq!(split_glob("a/b-{1,2}/c"), ("a", Some("b-{1,2}/c")));
        assert_eq!(split_glob("gs://b/x[0-9].parquet"), ("gs://b", Some("x[0-9].parquet")));
    }
}
