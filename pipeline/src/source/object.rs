//! One object at one version: ranged reads that refuse any other version.

use std::{error::Error as StdError, io, ops::Range, sync::Arc};

use bytes::Bytes;
use object_store::{GetOptions, GetRange, ObjectStore, coalesce_ranges, path::Path};

use super::location::credentials;
use crate::error::{Error, Result};

/// Ranges closer than this are read in one request: a megabyte costs less than another round trip.
pub(crate) const GAP_BYTES: u64 = 1 << 20;

/// An object and the version of it that was listed.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    /// The name people know it by.
    pub(crate) url: String,
    pub(crate) size: u64,
    /// From the answer to a read, not from the listing: Azure writes the two differently.
    pub(crate) etag: Option<String>,
}

impl Object {
    /// Reads the last `n` bytes (or all) and pins the version that answered.
    pub(crate) async fn pin(&mut self, n: u64) -> Result<Bytes> {
        let range = self.size.saturating_sub(n)..self.size;
        let (bytes, etag) = self.get(range).await?;
        self.etag = etag;
        Ok(bytes)
    }

    /// Reads several ranges of the pinned version, joining those less than `gap` bytes apart.
    pub(crate) async fn read(&self, ranges: &[Range<u64>], gap: u64) -> Result<Vec<Bytes>> {
        ranges.iter().try_for_each(|r| self.inside(r))?;
        coalesce_ranges(ranges, async |range| Ok(self.get(range).await?.0), gap).await
    }

    /// Whether a range that the object itself claims lies inside the object.
    pub(crate) fn inside(&self, range: &Range<u64>) -> Result<()> {
        if range.start <= range.end && range.end <= self.size {
            return Ok(());
        }
        let message = format!(
            "refers to bytes {}..{} but is {} bytes long: damaged or cut short",
            range.start, range.end, self.size
        );
        Err(Error::data(message).object(&self.url).hint("write the object again"))
    }

    async fn get(&self, range: Range<u64>) -> Result<(Bytes, Option<String>)> {
        let wanted = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: self.etag.clone(),
            ..GetOptions::default()
        };
        let answer = self.store.get_opts(&self.path, options).await.map_err(|e| self.fault(&e))?;
        // Not every store honours If-Match on reads, so the answer is compared as well.
        let other_etag = self.etag.is_some() && answer.meta.e_tag != self.etag;
        if answer.meta.size != self.size || other_etag {
            return Err(self.changed());
        }
        let etag = answer.meta.e_tag.clone();
        let bytes = answer.bytes().await.map_err(|e| self.fault(&e))?;
        if bytes.len() as u64 != wanted {
            return Err(Error::retry("the store cut its answer short").object(&self.url));
        }
        Ok((bytes, etag))
    }

    fn changed(&self) -> Error {
        changed(&self.url)
    }

    /// A pinned object that is gone has changed; an object that was never seen is merely missing.
    fn fault(&self, e: &object_store::Error) -> Error {
        use object_store::Error as E;
        let gone = matches!(e, E::NotFound { .. } | E::Precondition { .. });
        if gone && self.etag.is_some() { self.changed() } else { store_fault(e, &self.url) }
    }
}

fn changed(url: &str) -> Error {
    Error::data("changed since the plan was made")
        .object(url)
        .hint("put the planned version back, or start a new run: a plan holds for exactly the objects it was made of")
}

/// What a store's error means for the person who started the job.
pub(crate) fn store_fault(e: &object_store::Error, url: &str) -> Error {
    use object_store::Error as E;
    let text = causes(e);
    let error = match e {
        E::NotFound { .. } => Error::data("is not there").hint("check the url in [source]"),
        E::Precondition { .. } | E::NotModified { .. } => return changed(url),
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => no_permission(&text, url),
        E::InvalidPath { .. } | E::NotSupported { .. } | E::NotImplemented { .. } => Error::spec(text),
        E::UnknownConfigurationKey { .. } => Error::spec(text),
        _ if is(e, io::ErrorKind::PermissionDenied) => no_permission(&text, url),
        _ if is(e, io::ErrorKind::NotADirectory) => {
            Error::data(format!("is no file: {text}")).hint("a part of the path is a file, not a directory")
        }
        _ => Error::retry(format!("the store failed: {text}")),
    };
    error.object(url)
}

fn no_permission(text: &str, url: &str) -> Error {
    Error::data(format!("no permission to read: {text}")).hint(credentials(url))
}

type Fault<'a> = &'a (dyn StdError + 'static);

fn sources(e: Fault<'_>) -> impl Iterator<Item = Fault<'_>> {
    std::iter::successors(Some(e), |e| (*e).source())
}

/// The local file system reports a refused open as a generic error around the system's own.
fn is(e: &object_store::Error, kind: io::ErrorKind) -> bool {
    sources(e).filter_map(|e| e.downcast_ref::<io::Error>()).any(|e| e.kind() == kind)
}

/// The error with its causes, each once: most outer texts already quote the inner ones.
fn causes(e: Fault<'_>) -> String {
    sources(e).map(ToString::to_string).fold(String::new(), |text, cause| match text.contains(&cause) {
        true => text,
        false if text.is_empty() => cause,
        false => format!("{text}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn faults_are_sorted_by_what_to_do() {
        let io = |kind| Box::new(io::Error::from(kind));
        let cases = [
            (object_store::Error::NotFound { path: "x".into(), source: "gone".into() }, Kind::Data),
            (object_store::Error::PermissionDenied { path: "x".into(), source: "403".into() }, Kind::Data),
            (
                object_store::Error::Generic { store: "L", source: io(io::ErrorKind::PermissionDenied) },
                Kind::Data,
            ),
            (
                object_store::Error::Generic { store: "S3", source: io(io::ErrorKind::ConnectionReset) },
                Kind::Retry,
            ),
        ];
        for (fault, kind) in cases {
            let error = store_fault(&fault, "s3://b/x");
            assert_eq!(error.kind, kind, "{error}");
            assert_eq!(error.place().object.as_deref(), Some("s3://b/x"));
        }
        let denied = object_store::Error::Unauthenticated { path: "x".into(), source: "401".into() };
        assert!(store_fault(&denied, "s3://b/x").what_to_do().unwrap().contains("AWS_ACCESS_KEY_ID"));
    }
}
