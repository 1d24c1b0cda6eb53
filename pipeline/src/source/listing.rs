//! Which objects the spec's URLs name.

use std::collections::BTreeMap;

use futures::{TryStreamExt, future};
use globset::{GlobBuilder, GlobMatcher};
use object_store::{ObjectMeta, ObjectStoreExt, path::Path};

use super::{
    Urls,
    location::{Location, split_glob},
    object::{Object, store_fault},
};
use crate::error::{Error, Result};

/// What below a prefix is taken for a shard. Single objects and globs are taken as they are.
const SUFFIXES: [&str; 5] = [".parquet", ".arrow", ".arrows", ".ipc", ".feather"];

/// All objects of all URLs, in the order of their names, none twice.
pub(crate) async fn list(urls: &Urls) -> Result<Vec<Object>> {
    let mut found: BTreeMap<String, Object> = BTreeMap::new();
    let mut owners: BTreeMap<String, (String, String)> = BTreeMap::new();
    for url in urls.iter() {
        for object in list_one(url).await? {
            let owner = (url.to_owned(), object.url.clone());
            if let Some(earlier) = owners.insert(identity(&object.url), owner.clone()) {
                return Err(duplicate(&earlier, &owner));
            }
            found.insert(object.url.clone(), object);
        }
    }
    match found.is_empty() {
        true => Err(Error::spec("names no URL").field("source.url")),
        false => Ok(found.into_values().collect()),
    }
}

fn duplicate(earlier: &(String, String), later: &(String, String)) -> Error {
    let message = format!(
        "the same shard is named twice: `{}` (by `{}`) and `{}` (by `{}`)",
        earlier.1, earlier.0, later.1, later.0
    );
    Error::spec(message)
        .field("source.url")
        .hint("name every shard once: a shard read twice would count twice")
}

/// One name per object, however it was written: local names are resolved on this machine.
fn identity(url: &str) -> String {
    let local = url.strip_prefix("file://").unwrap_or(url);
    match local.contains("://") {
        true => url.to_owned(),
        false => std::fs::canonicalize(local).map_or(url.to_owned(), |p| p.to_string_lossy().into_owned()),
    }
}

async fn list_one(url: &str) -> Result<Vec<Object>> {
    let (literal, pattern) = split_glob(url);
    let location = Location::open(literal).map_err(|e| e.object(url).field("source.url"))?;
    let metas = match pattern {
        Some(pattern) => globbed(&location, url, pattern).await?,
        None => single_or_below(&location, literal).await?,
    };
    Ok(metas.into_iter().map(|meta| object(&location, meta)).collect())
}

fn object(location: &Location, meta: ObjectMeta) -> Object {
    let url = location.url_of(&meta.location);
    Object { store: location.store.clone(), path: meta.location, url, size: meta.size, etag: None }
}

/// The object of exactly this name if there is one, otherwise the shards below. Stores answer "no"
/// in several ways to a name that is only a prefix, so a refusal counts only if nothing is below.
async fn single_or_below(location: &Location, url: &str) -> Result<Vec<ObjectMeta>> {
    if url.ends_with('/') || location.path.as_ref().is_empty() {
        return below(location, url).await;
    }
    match location.store.head(&location.path).await {
        Ok(meta) => Ok(vec![meta]),
        Err(object_store::Error::NotFound { .. }) => below(location, url).await,
        Err(refused) => {
            below(location, url).await.map_err(|_| store_fault(&refused, url).field("source.url"))
        }
    }
}

async fn below(location: &Location, url: &str) -> Result<Vec<ObjectMeta>> {
    let all = listing(location, url, |_| true).await?;
    let others = all.len();
    let shards: Vec<ObjectMeta> = all.into_iter().filter(|m| is_shard(location, &m.location)).collect();
    if shards.is_empty() {
        let ignored = if others > 0 { format!(" ({others} other objects are)") } else { String::new() };
        return Err(Error::data(format!("no shards there{ignored}")).object(url).field("source.url").hint(
            format!(
                "below a prefix, objects ending in {} are read; name others by a glob",
                SUFFIXES.join(", ")
            ),
        ));
    }
    Ok(shards)
}

/// Names beginning with `_` or `.` belong to table formats and editors, by common habit.
fn is_shard(location: &Location, path: &Path) -> bool {
    let hidden = relative(location, path).split('/').any(|part| part.starts_with(['_', '.']));
    !hidden && SUFFIXES.iter().any(|suffix| path.as_ref().ends_with(suffix))
}

async fn globbed(location: &Location, url: &str, pattern: &str) -> Result<Vec<ObjectMeta>> {
    let matcher = matcher(pattern).map_err(|e| e.object(url).field("source.url"))?;
    let metas = listing(location, url, |path| matcher.is_match(relative(location, path))).await?;
    match metas.is_empty() {
        true => Err(Error::data("no shards there: no object matches the glob")
            .object(url)
            .field("source.url")
            .hint("`*` and `?` stop at a slash, `**` does not")),
        false => Ok(metas),
    }
}

fn matcher(pattern: &str) -> Result<GlobMatcher> {
    let glob = GlobBuilder::new(pattern).literal_separator(true).build();
    glob.map(|g| g.compile_matcher()).map_err(|e| Error::spec(format!("not a glob: {}", e.kind())))
}

fn relative<'a>(location: &Location, path: &'a Path) -> &'a str {
    path.as_ref().strip_prefix(location.path.as_ref()).unwrap_or(path.as_ref()).trim_start_matches('/')
}

async fn listing(location: &Location, url: &str, keep: impl Fn(&Path) -> bool) -> Result<Vec<ObjectMeta>> {
    let prefix = (!location.path.as_ref().is_empty()).then_some(&location.path);
    let all = location.store.list(prefix).try_filter(|meta| future::ready(keep(&meta.location)));
    all.try_collect().await.map_err(|e| store_fault(&e, url).field("source.url"))
}
