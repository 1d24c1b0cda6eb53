//! Small dense linear algebra that learners and coders share.

pub mod cholesky;
pub mod rotation;
