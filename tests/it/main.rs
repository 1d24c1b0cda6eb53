//! One test binary over the whole.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests too, though clippy sees only functions marked as such"
)]

mod store;
