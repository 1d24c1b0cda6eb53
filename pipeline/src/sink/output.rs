//! The output of one job: a place in an object store where objects are written once.

use crate::source::Location;

/// The output place of a run and the token that marks what this process wrote.
#[derive(Debug, Clone)]
pub struct Output {
    /// Where; object names are relative to it.
    pub location: Location,
    /// Unique to this process: tells a lost answer to our own write from somebody else's write.
    pub writer: String,
}
