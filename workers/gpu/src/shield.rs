//! Panics of the libraries below that become errors: they say so on the thread they happen on, so that whoever ends
//! the process at a panic lets them pass.

use std::{
    any::Any,
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

thread_local! {
    static UP: Cell<usize> = const { Cell::new(0) };
}

/// Whether a panic on this thread is about to become an error.
pub fn active() -> bool {
    UP.get() > 0
}

/// Does `work`; what a panic said is the error.
pub(crate) fn shielded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    UP.set(UP.get() + 1);
    let done = catch_unwind(AssertUnwindSafe(work));
    UP.set(UP.get() - 1);
    done.map_err(|panic| said(&*panic).to_owned())
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_is_known_while_it_happens() {
        assert_eq!(shielded(active), Ok(true));
        assert_eq!(shielded(|| panic!("no memory")), Err::<(), _>("no memory".to_owned()));
        assert!(!active());
    }
}
