//! Foreign bytes must not bring the process down: a panic inside a reader becomes an error.
//!
//! The Parquet and Arrow crates check most, not all, of what a file claims; a corrupt length can
//! still end in a slice out of bounds. Decoding therefore runs behind `run`, and a panic hook can
//! ask [`active`] in order to stay quiet about a panic that is about to become an ordinary error.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::error::{Error, Result};

thread_local! {
    static ACTIVE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is decoding foreign bytes, so that a panic here will be turned into an error.
pub fn active() -> bool {
    ACTIVE.get()
}

/// Runs `work`; a panic inside becomes a data error that quotes it.
pub(crate) fn run<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = ACTIVE.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(work));
    ACTIVE.set(before);
    outcome.unwrap_or_else(|panic| Err(nonsense(&said(panic.as_ref()))))
}

/// The error for bytes that no reader understands.
pub(crate) fn nonsense(detail: &str) -> Error {
    Error::data(format!("the reader could not make sense of it: {detail}")).hint(
        "the object is damaged or was cut short: write it again, or set on_bad = \"quarantine\" to leave it out",
    )
}

/// What bytes may expand to at most: 64 MiB, or 65,536 times what is stored. No codec does better on
/// activations, and a damaged length is usually far beyond it.
const EXPANSION: u64 = 1 << 16;
const EXPANSION_FREE: u64 = 64 << 20;

/// Refuses a claim of `bytes` decoded bytes made by `stored` bytes if it cannot be true.
pub(crate) fn believable(bytes: u64, stored: u64) -> Result<()> {
    if bytes <= stored.saturating_mul(EXPANSION).saturating_add(EXPANSION_FREE) {
        return Ok(());
    }
    Err(nonsense(&format!("{stored} stored bytes claim to hold {bytes}")))
}

/// Like [`believable`], and asks whether the memory can be had: an allocation that fails inside a
/// reader would end the process, and no shield catches that.
pub(crate) fn plausible(bytes: u64, stored: u64) -> Result<()> {
    believable(bytes, stored)?;
    let mut probe: Vec<u8> = Vec::new();
    let fits = usize::try_from(bytes).is_ok_and(|n| probe.try_reserve_exact(n).is_ok());
    // Without this the compiler may leave the allocation out and call it a success.
    std::hint::black_box(&probe);
    if fits { Ok(()) } else { Err(nonsense(&format!("{bytes} bytes are more than the memory there is"))) }
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it gave up".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn a_panic_is_an_error_and_the_flag_falls_back() {
        let error = run::<()>(|| {
            assert!(active());
            panic!("index 9 out of range")
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind, Kind::Data);
        assert!(error.message().contains("index 9 out of range"));
        assert!(!active());
    }

    #[test]
    fn absurd_claims_are_refused() {
        assert!(plausible(1 << 20, 100).is_ok());
        assert!(plausible(1 << 50, 100).is_err());
        assert!(plausible(u64::MAX, u64::MAX).is_err());
    }
}
