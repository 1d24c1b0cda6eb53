//! Which objects a URL names, and what the manifest says of them.

use std::path::Path;

use super::make::*;
use crate::{error::Kind, source::Urls};

fn shards(dir: &Path, names: &[&str]) {
    names.iter().for_each(|name| write(&dir.join(name), Format::Parquet, &[simple(4)], &[]));
}

fn names(dir: &Path, url: &str) -> Vec<String> {
    let manifest = scanned(&spec(format!("{}/{url}", dir.display()))).unwrap();
    let root = format!("{}/", dir.display());
    manifest.shards.iter().map(|s| s.url.strip_prefix(&root).unwrap().to_owned()).collect()
}

#[test]
fn prefixes_and_globs() {
    let dir = tempfile::tempdir().unwrap();
    let all = ["b/2.parquet", "b/1.parquet", "a/1.arrow", "a/odd", "_tmp/1.parquet", "b/.x.parquet"];
    shards(dir.path(), &all);
    assert_eq!(names(dir.path(), ""), ["a/1.arrow", "b/1.parquet", "b/2.parquet"]);
    assert_eq!(names(dir.path(), "b"), ["b/1.parquet", "b/2.parquet"]);
    assert_eq!(names(dir.path(), "a/odd"), ["a/odd"]);
    assert_eq!(names(dir.path(), "a/*"), ["a/1.arrow", "a/odd"]);
    assert_eq!(names(dir.path(), "{a,b}/1.*"), ["a/1.arrow", "b/1.parquet"]);
    assert_eq!(names(dir.path(), "**/[12].parquet"), ["_tmp/1.parquet", "b/1.parquet", "b/2.parquet"]);
}

#[test]
fn file_urls_and_several_urls() {
    let dir = tempfile::tempdir().unwrap();
    shards(dir.path(), &["a/1.parquet", "b/1.parquet"]);
    let mut spec = spec("");
    let url = |name: &str| format!("file://{}/{name}", dir.path().display());
    spec.url = Urls::Many(vec![url("b"), url("a/1.parquet")]);
    let manifest = scanned(&spec).unwrap();
    assert_eq!(
        manifest.shards.iter().map(|s| s.url.clone()).collect::<Vec<_>>(),
        [url("a/1.parquet"), url("b/1.parquet")]
    );
    assert_eq!(manifest.rows(), 8);
}

#[test]
fn a_shard_named_twice_is_a_spec_error() {
    let dir = tempfile::tempdir().unwrap();
    shards(dir.path(), &["a/1.parquet"]);
    let mut spec = spec("");
    let path = dir.path().display();
    spec.url = Urls::Many(vec![format!("{path}/a"), format!("file://{path}/*/1.parquet")]);
    let error = scanned(&spec).unwrap_err();
    assert_eq!(error.kind, Kind::Spec);
    assert!(
        error.message().contains(&format!("`{path}/a`")) && error.message().contains("/*/1.parquet"),
        "{error}"
    );
}

#[test]
fn nothing_there_says_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "x").unwrap();
    for (url, says) in [("", "1 other objects"), ("nope", "no shards there"), ("*.arrow", "matches the glob")]
    {
        let error = scanned(&spec(format!("{}/{url}", dir.path().display()))).unwrap_err();
        assert_eq!(error.kind, Kind::Data);
        assert!(error.message().contains(says), "{error}");
        assert_eq!(error.place().field.as_deref(), Some("source.url"));
    }
    let bad = scanned(&spec(format!("{}/[", dir.path().display()))).unwrap_err();
    assert_eq!(bad.kind, Kind::Spec, "{bad}");
}

#[test]
fn digest_and_identity() {
    let dir = tempfile::tempdir().unwrap();
    shards(dir.path(), &["1.parquet", "2.parquet"]);
    let scan = || scanned(&spec(dir.path().display())).unwrap();
    let before = scan();
    assert_eq!(before.digest(), scan().digest());
    assert_eq!(before.identity(), scan().identity());
    std::thread::sleep(std::time::Duration::from_millis(5));
    shards(dir.path(), &["2.parquet"]);
    assert_eq!(before.digest(), scan().digest());
    assert_ne!(before.identity(), scan().identity());
    write(&dir.path().join("2.parquet"), Format::Parquet, &[simple(5)], &[]);
    assert_ne!(before.digest(), scan().digest());
}
