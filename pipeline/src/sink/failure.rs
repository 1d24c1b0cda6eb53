//! What a failed request to the store means: look again, wait and try again, or tell the person.

use std::{error::Error as StdError, future::Future, io, time::Duration};

use tokio::time::{Instant, sleep};

use crate::{Error, Result};

/// Wait before the second attempt; doubles each time.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// No wait is longer.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Attempts per request, on top of those `object_store` makes itself.
const ATTEMPTS: usize = 8;
/// No attempt is begun later than this: a store that is gone is the launcher's to retry.
const PATIENCE: Duration = Duration::from_secs(120);

/// A failed request, sorted.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The object is there, or the store says so.
    Exists(Error),
    /// The object is not there.
    Absent(Error),
    /// It may work next time. Whether the request was carried out is unknown.
    Transient(Error),
    /// It will not work until a person changes something.
    Final(Error),
}

impl Failure {
    /// What to tell the person.
    pub(crate) fn into_error(self) -> Error {
        match self {
            Failure::Exists(e) | Failure::Absent(e) | Failure::Transient(e) | Failure::Final(e) => e,
        }
    }

    fn may_pass(&self) -> bool {
        matches!(self, Failure::Exists(_) | Failure::Transient(_))
    }
}

/// Sorts an error of the store about the object at `url`.
pub(crate) fn sort(error: object_store::Error, url: &str) -> Failure {
    use object_store::Error as Store;
    let says = reason(&error);
    match error {
        Store::AlreadyExists { .. } | Store::Precondition { .. } | Store::NotModified { .. } => {
            Failure::Exists(Error::retry("exists already, though it could not be read").object(url))
        }
        Store::NotFound { .. } => Failure::Absent(
            Error::spec(format!("not found: {says}"))
                .object(url)
                .hint("the bucket or directory given as `out` must exist and be readable; check its name"),
        ),
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => Failure::Final(denied(url, &says)),
        Store::NotImplemented { .. } | Store::NotSupported { .. } => Failure::Final(unsupported(url, &says)),
        Store::UnknownConfigurationKey { .. } | Store::InvalidPath { .. } => {
            Failure::Final(Error::spec(format!("the store refuses it: {says}")).object(url))
        }
        other => sort_io(io_kind(&other), url, &says),
    }
}

/// Sorts by what the operating system said, if it was asked at all.
fn sort_io(kind: Option<io::ErrorKind>, url: &str, says: &str) -> Failure {
    use io::ErrorKind as Io;
    match kind {
        Some(Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge) => {
            Failure::Final(Error::retry(format!("no space left to write it: {says}")).object(url).hint(
                "free some space or raise the quota, then `atomflow resume`; what was committed is intact",
            ))
        }
        Some(Io::PermissionDenied | Io::ReadOnlyFilesystem) => Failure::Final(denied(url, says)),
        Some(Io::NotADirectory | Io::IsADirectory | Io::InvalidFilename) => {
            let message = format!("cannot be a file here: {says}");
            Failure::Final(Error::spec(message).object(url).hint("choose another `out`"))
        }
        _ => Failure::Transient(
            Error::retry(format!("the store did not answer as it should: {says}"))
                .object(url)
                .hint("nothing committed is lost; `atomflow resume` goes on from the last commit"),
        ),
    }
}

fn denied(url: &str, says: &str) -> Error {
    Error::spec(format!("no permission: {says}")).object(url).hint(
        "the job must be able to list, read and create objects below `out`; check credentials and rights",
    )
}

fn unsupported(url: &str, says: &str) -> Error {
    Error::spec(format!("the store cannot create an object only if it is absent: {says}"))
        .object(url)
        .hint("for S3, AWS_CONDITIONAL_PUT must be `etag` (the default), not `disabled`")
}

/// The innermost I/O error in the chain: `object_store` has no variant for a full disk.
fn io_kind(error: &object_store::Error) -> Option<io::ErrorKind> {
    causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind).last()
}

/// The outermost error already quotes its causes in most stores; the first line of it is enough.
fn reason(error: &object_store::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().chars().take(400).collect()
}

fn causes(error: &object_store::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    let outermost: &(dyn StdError + 'static) = error;
    std::iter::successors(Some(outermost), |&cause| cause.source())
}

/// Attempts until there is an answer, waiting longer each time, within bounds.
pub(crate) async fn patiently<T, F>(attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    with_waits(WAIT_FIRST, attempt).await
}

async fn with_waits<T, F>(mut wait: Duration, mut attempt: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Failure>>,
{
    let begun = Instant::now();
    for left in (0..ATTEMPTS).rev() {
        match attempt().await {
            Ok(answer) => return Ok(answer),
            Err(failure) if left == 0 || !failure.may_pass() || begun.elapsed() > PATIENCE => {
                return Err(failure.into_error());
            }
            Err(_) => sleep(wait).await,
        }
        wait = (wait * 2).min(WAIT_MAX);
    }
    Err(Error::bug("an attempt neither ended nor failed"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn generic(kind: io::ErrorKind) -> object_store::Error {
        object_store::Error::Generic { store: "test", source: Box::new(io::Error::from(kind)) }
    }

    #[test]
    fn errors_are_sorted_by_what_to_do() {
        let cases = [
            (io::ErrorKind::StorageFull, Kind::Retry, false),
            (io::ErrorKind::PermissionDenied, Kind::Spec, false),
            (io::ErrorKind::ReadOnlyFilesystem, Kind::Spec, false),
            (io::ErrorKind::NotADirectory, Kind::Spec, false),
            (io::ErrorKind::ConnectionReset, Kind::Retry, true),
        ];
        for (io, kind, may_pass) in cases {
            let failure = sort(generic(io), "s3://b/x");
            assert_eq!(failure.may_pass(), may_pass, "{io}");
            let error = failure.into_error();
            assert_eq!(error.kind, kind, "{io}");
            assert!(error.to_string().starts_with("s3://b/x: "), "{error}");
        }
    }

    #[tokio::test]
    async fn patience_has_an_end() {
        let mut n = 0;
        let gone = || Failure::Transient(Error::retry("gone"));
        let error = with_waits(Duration::ZERO, || {
            n += 1;
            std::future::ready(Err::<(), _>(gone()))
        });
        assert_eq!(error.await.unwrap_err().message(), "gone");
        assert_eq!(n, ATTEMPTS);
    }

    #[tokio::test]
    async fn a_final_failure_is_not_tried_again() {
        let mut n = 0;
        let full = with_waits(Duration::ZERO, || {
            n += 1;
            std::future::ready(Err::<(), _>(sort(generic(io::ErrorKind::StorageFull), "x")))
        });
        assert_eq!(full.await.unwrap_err().kind, Kind::Retry);
        assert_eq!(n, 1);
    }
}
