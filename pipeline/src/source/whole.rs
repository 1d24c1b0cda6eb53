//! An object read whole, such as a dictionary that a learner starts from.

use object_store::ObjectStoreExt;

use super::{Location, object::store_fault};
use crate::error::{Error, Result};

/// The content of the object at `url`, written as those of `source.url` are but naming one object.
/// `field` is the field of the spec that says so.
///
/// # Errors
/// It is not there or cannot be read.
pub async fn whole(url: &str, field: &str) -> Result<Vec<u8>> {
    let fault = |e: &object_store::Error| {
        let error = store_fault(e, url).field(field);
        match e {
            object_store::Error::NotFound { .. } => error.hint(format!("check the url in {field}")),
            _ => error,
        }
    };
    let location = Location::open(url).map_err(|e: Error| e.field(field))?;
    let answer = location.store.get(&location.path).await.map_err(|e| fault(&e))?;
    Ok(answer.bytes().await.map_err(|e| fault(&e))?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn what_is_there_is_read_and_what_is_not_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let url = dir.path().join("base.safetensors").display().to_string();
        let error = whole(&url, "learner.base").await.unwrap_err();
        assert_eq!((error.kind, error.place().field.as_deref()), (Kind::Data, Some("learner.base")));
        assert!(error.what_to_do().unwrap().contains("learner.base"), "{error}");
        std::fs::write(&url, b"weights").unwrap();
        assert_eq!(whole(&url, "learner.base").await.unwrap(), b"weights");
        assert_eq!(whole(&format!("file://{url}"), "learner.base").await.unwrap(), b"weights");
        let error = whole(&format!("{url}/cfg.json"), "learner.base").await.unwrap_err();
        assert_eq!(error.kind, Kind::Data, "another try cannot help: {error}");
        let error = whole("ftp://host/x", "learner.base").await.unwrap_err();
        assert_eq!((error.kind, error.place().field.as_deref()), (Kind::Spec, Some("learner.base")));
    }
}
