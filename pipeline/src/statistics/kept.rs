//! Objects of partials that were fetched, kept for the next range of latents that needs them.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use atomflow_schemas::partial::Partial;
use bytes::Bytes;

use crate::Result;

/// Bytes that are kept; what comes after is fetched anew each time. A shard of 3072 latents has 21 MB.
const BYTES_MAX: usize = 256 << 20;

/// Objects, and how many bytes they are together.
type Objects = (HashMap<(u32, Partial), Bytes>, usize);

/// Objects by shard and kind.
#[derive(Debug, Default)]
pub(super) struct Kept {
    objects: Mutex<Objects>,
}

impl Kept {
    /// The object, fetched if it is not kept.
    pub(super) fn get(
        &self,
        shard: u32,
        partial: Partial,
        fetch: impl FnOnce() -> Result<Bytes>,
    ) -> Result<Bytes> {
        let lock = || self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = lock().0.get(&(shard, partial)) {
            return Ok(bytes.clone());
        }
        let bytes = fetch()?;
        let (objects, held) = &mut *lock();
        if *held + bytes.len() <= BYTES_MAX && objects.insert((shard, partial), bytes.clone()).is_none() {
            *held += bytes.len();
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_fits_is_fetched_once() {
        let (kept, fetched) = (Kept::default(), Cell::new(0));
        let get = |shard: u32, len: usize| {
            let fetch = || {
                fetched.set(fetched.get() + 1);
                Ok(Bytes::from(vec![0; len]))
            };
            kept.get(shard, Partial::Pool, fetch).unwrap().len()
        };
        assert_eq!((get(0, 7), get(0, 9), fetched.get()), (7, 7, 1));
        assert_eq!((get(1, BYTES_MAX), get(1, 3), fetched.get()), (BYTES_MAX, 3, 3));
        assert_eq!((get(1, 9), fetched.get()), (3, 3));
    }
}
