//! The whole, tested end to end, in one test binary.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail the test")]

mod cli;
mod spec;
