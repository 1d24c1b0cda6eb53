//! Standard output: the result of a command, and nothing else.

use std::io::{ErrorKind, Write};

use atomflow_pipeline::{Error, Result};

/// Writes `text` and flushes.
///
/// A reader that has gone away (`atomflow learners | head -1`) is not an error: what a command makes
/// is in the object store, not on standard output.
///
/// # Errors
/// Standard output cannot be written for another reason (a full disk behind a redirection).
pub fn write(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Error::retry(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
