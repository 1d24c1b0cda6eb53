//! The output of one job: a place in an object store where objects are written once.
//!
//! Everything is written by one primitive, create-if-absent, under its final name. A store may
//! carry out a write and lose the answer, and its client may then try again and be told that the
//! object exists. So an answer other than "written" decides nothing: the object itself is read
//! back and compared. (Measured with half of all answers lost: trusting the answer left 32 of 60
//! races without any winner; reading back left none.)

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
};

use atomflow_schemas::manifest::FileEntry;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStoreExt, PutMode, PutOptions, PutPayload, path::Path};
use sha2::{Digest, Sha256};

use super::failure::{Failure, patiently, sort};
use crate::{Error, Result, source::Location};

/// What only the commit protocol writes; never deleted.
const PROTECTED: [&str; 7] =
    ["gen/", "epoch/", "tables/", "shard-", "run.json", "manifest.json", "convert.json"];

/// The output place of a run and the token that marks what this process wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// Where; object names are relative to it.
    pub location: Location,
    /// The directory of the run, where generations are; `location` is it or lies below it.
    pub home: Location,
    /// Unique to this process: tells a lost answer to our own write from somebody else's write.
    pub writer: String,
}

/// How a create-if-absent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object was absent and holds our bytes now.
    New,
    /// The object holds our bytes already: our own write with a lost answer, or a replay of it.
    Ours,
    /// The object holds these other bytes.
    Other(Bytes),
}

/// How the object compares with the bytes it should hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    New,
    Same,
    Different,
}

impl Output {
    /// The output at `location`, with a token no other process has.
    pub fn new(location: Location) -> Output {
        Output { home: location.clone(), location, writer: unique_token() }
    }

    /// The directory `path` below this one, for one of several learners. The run and the process stay.
    #[must_use]
    pub fn within(&self, path: &str) -> Output {
        let location = Location { path: self.full(path), ..self.location.clone() };
        Output { location, ..self.clone() }
    }

    /// The directory of the run.
    #[must_use]
    pub fn root(&self) -> Output {
        Output { location: self.home.clone(), ..self.clone() }
    }

    /// The full URL of the object at `path`, for people.
    pub fn url(&self, path: &str) -> String {
        format!("{}{}", self.location.root, self.full(path))
    }

    /// Writes an object that is a function of the plan. Writing it again is fine; if another
    /// content is there, that is an error, and the other content stays.
    pub async fn put(&self, path: &str, bytes: impl Into<PutPayload>) -> Result<FileEntry> {
        let bytes = bytes.into();
        match self.settle(path, &bytes).await? {
            Standing::New | Standing::Same => Ok(entry(path, &bytes)),
            Standing::Different => Err(self.holds_something_else(path)),
        }
    }

    /// Writes an object that only one of several writers may write, and says who did. `bytes`
    /// must hold something that only this writer writes (its [`Output::writer`] token).
    pub async fn create(&self, path: &str, bytes: Bytes) -> Result<Created> {
        match self.settle(path, &bytes.into()).await? {
            Standing::New => Ok(Created::New),
            Standing::Same => Ok(Created::Ours),
            Standing::Different => self.get(path).await?.map(Created::Other).ok_or_else(|| {
                Error::retry("vanished while it was read: something else deletes here").object(self.url(path))
            }),
        }
    }

    /// The content of an object, or `None` if there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>> {
        let full = self.full(path);
        patiently(|| self.try_get(&full)).await
    }

    /// The content of an object that was committed: exactly these bytes, or an error.
    pub async fn get_verified(&self, file: &FileEntry) -> Result<Bytes> {
        let altered = |what: &str| {
            Error::data(format!("a committed object {what}"))
                .object(self.url(&file.path))
                .hint("something other than atomflow touched it; restore it, or start again in another `out`")
        };
        let bytes = self.get(&file.path).await?.ok_or_else(|| altered("is gone"))?;
        let found = entry(&file.path, &bytes.clone().into());
        if found == *file { Ok(bytes) } else { Err(altered("was altered")) }
    }

    /// Names (relative to the output) and sizes of all objects below the directory `prefix`,
    /// sorted by name. Files that a killed process left half-written have no name yet.
    pub async fn list(&self, prefix: &str) -> Result<Vec<(String, u64)>> {
        let full = self.full(prefix);
        let mut objects = patiently(|| self.try_list(&full)).await?;
        objects.sort();
        Ok(objects)
    }

    /// Deletes a superseded checkpoint. That it is gone already is fine.
    pub async fn delete(&self, path: &str) -> Result<()> {
        if PROTECTED.iter().any(|name| path.starts_with(name)) {
            return Err(Error::bug("tried to delete an object that is never deleted").object(self.url(path)));
        }
        let full = self.full(path);
        patiently(|| self.try_delete(&full)).await
    }

    /// Checks once that the store honours create-if-absent: without it, two processes could both
    /// believe that they own the run.
    pub async fn probe(&self) -> Result<()> {
        let path = format!("_probe/{}", self.writer);
        self.create(&path, Bytes::from_static(b"first\n")).await?;
        let second = self.settle(&path, &PutPayload::from_static(b"second\n")).await?;
        let kept = self.get(&path).await?;
        // A leftover probe harms nobody, and some jobs may create but not delete.
        let _ = self.delete(&path).await;
        match (second, kept.as_deref()) {
            (Standing::Different, Some(b"first\n")) => Ok(()),
            _ => Err(self.not_create_only()),
        }
    }

    /// Creates the object, and in any doubt looks at what is there.
    async fn settle(&self, path: &str, bytes: &PutPayload) -> Result<Standing> {
        let full = self.full(path);
        patiently(|| self.try_settle(&full, bytes)).await
    }

    async fn try_settle(&self, full: &Path, bytes: &PutPayload) -> Result<Standing, Failure> {
        let create = PutOptions::from(PutMode::Create);
        let failure = match self.location.store.put_opts(full, bytes.clone(), create).await {
            Ok(_) => return Ok(Standing::New),
            Err(error) => self.sort(error, full),
        };
        if matches!(failure, Failure::Final(_) | Failure::Absent(_)) {
            return Err(failure);
        }
        // Absent after "exists" happens too: S3 answers a create that met a delete with 409.
        self.try_compare(full, bytes).await?.ok_or(failure)
    }

    /// Compares without fetching a body of another size.
    async fn try_compare(&self, full: &Path, bytes: &PutPayload) -> Result<Option<Standing>, Failure> {
        let found = match self.location.store.get(full).await {
            Ok(found) => found,
            Err(error) => return self.absent(error, full),
        };
        if found.meta.size != bytes.content_length() as u64 {
            return Ok(Some(Standing::Different));
        }
        let found = found.bytes().await.map_err(|e| self.sort(e, full))?;
        Ok(Some(if same(&found, bytes) { Standing::Same } else { Standing::Different }))
    }

    async fn try_get(&self, full: &Path) -> Result<Option<Bytes>, Failure> {
        match self.location.store.get(full).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|e| self.sort(e, full)),
            Err(error) => self.absent(error, full),
        }
    }

    async fn try_list(&self, full: &Path) -> Result<Vec<(String, u64)>, Failure> {
        let found: Result<Vec<ObjectMeta>, _> = self.location.store.list(Some(full)).try_collect().await;
        match found {
            Ok(found) => Ok(found.iter().map(|meta| (self.relative(&meta.location), meta.size)).collect()),
            Err(error) => self.absent(error, full).map(Option::unwrap_or_default),
        }
    }

    async fn try_delete(&self, full: &Path) -> Result<(), Failure> {
        match self.location.store.delete(full).await {
            Ok(()) => Ok(()),
            Err(error) => self.absent::<()>(error, full).map(|_| ()),
        }
    }

    /// `None` if the error says that nothing is there.
    fn absent<T>(&self, error: object_store::Error, full: &Path) -> Result<Option<T>, Failure> {
        match self.sort(error, full) {
            Failure::Absent(_) => Ok(None),
            other => Err(other),
        }
    }

    fn sort(&self, error: object_store::Error, full: &Path) -> Failure {
        sort(error, &format!("{}{full}", self.location.root))
    }

    fn full(&self, path: &str) -> Path {
        let below = Path::from(path);
        self.location.path.parts().chain(below.parts()).collect()
    }

    fn relative(&self, full: &Path) -> String {
        match full.prefix_match(&self.location.path) {
            Some(parts) => parts.collect::<Path>().to_string(),
            None => full.to_string(),
        }
    }

    fn holds_something_else(&self, path: &str) -> Error {
        Error::spec("holds something else than this job would write there").object(self.url(path)).hint(
            "another program wrote here, or another version of atomflow began this run; choose another `out`",
        )
    }

    fn not_create_only(&self) -> Error {
        Error::spec("the store overwrote an object that was to be created only if absent")
            .object(self.url("_probe"))
            .hint("the store must honour `If-None-Match: *`; this one ignores it, so results could be lost")
    }
}

/// Whether an object of this length holds these bytes.
fn same(mut found: &[u8], bytes: &PutPayload) -> bool {
    bytes.iter().all(|piece| {
        let (here, rest) = found.split_at(piece.len().min(found.len()));
        found = rest;
        here == piece
    })
}

/// Name, size and SHA-256 of an object.
fn entry(path: &str, bytes: &PutPayload) -> FileEntry {
    let mut digest = Sha256::new();
    bytes.iter().for_each(|piece| digest.update(piece));
    let size_bytes = bytes.content_length() as u64;
    FileEntry { path: path.to_owned(), size_bytes, sha256: hex(&digest.finalize()) }
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 128 bits that no other process has: the standard library keys its hash maps from the operating
/// system's randomness, and the process id parts two children of one fork.
fn unique_token() -> String {
    let mut digest = Sha256::new();
    digest.update(std::process::id().to_le_bytes());
    for _ in 0..4 {
        digest.update(RandomState::new().build_hasher().finish().to_le_bytes());
    }
    hex(&digest.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::error::Kind;

    fn output() -> Output {
        let location = Location {
            store: Arc::new(InMemory::new()),
            path: Path::from("out/run"),
            root: "memory://".to_owned(),
        };
        Output::new(location)
    }

    #[test]
    fn tokens_differ() {
        let tokens: std::collections::BTreeSet<String> = (0..1000).map(|_| unique_token()).collect();
        assert_eq!(tokens.len(), 1000);
        assert!(tokens.iter().all(|token| token.len() == 32));
    }

    #[tokio::test]
    async fn names_are_relative_to_the_output() {
        let output = output();
        output.put("gen/1.json", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(output.list("gen").await.unwrap(), [("gen/1.json".to_owned(), 1)]);
        assert_eq!(output.list("").await.unwrap().len(), 1);
        assert_eq!(output.list("elsewhere").await.unwrap(), []);
        assert_eq!(output.url("gen/1.json"), "memory://out/run/gen/1.json");
        let below = output.within("learners/a");
        below.put("x", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(below.list("").await.unwrap(), [("x".to_owned(), 1)]);
        assert_eq!(below.url("x"), "memory://out/run/learners/a/x");
        assert_eq!(below.root().list("learners").await.unwrap(), [("learners/a/x".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn committed_objects_are_never_deleted() {
        let error = output().delete("epoch/a.json").await.unwrap_err();
        assert_eq!(error.kind, Kind::Bug);
    }

    #[test]
    fn hashes_are_sha256() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex(b"abc"), abc);
    }
}
