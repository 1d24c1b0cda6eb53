//! The whole, tested end to end, in one test binary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests are tests too, though clippy sees only functions marked as such"
)]

mod bad_input;
mod cli;
mod coder;
mod columns;
mod convert;
mod end_to_end;
mod kill;
mod learners;
mod many;
mod readers;
mod sae_lens;
mod same_bytes;
mod spec;
mod store;
mod tidy;
