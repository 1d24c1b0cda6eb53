//! Real parts for the tests: an S3 server in the test process with faults on demand, and moto, an
//! independent second one, where a Python with it is at hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "test code: a broken test environment is best told by where it broke"
)]

pub mod beside;
pub mod client;
pub mod data;
pub mod disk;
pub mod fault;
pub mod moto;
pub mod overwrites;
pub mod run;
pub mod s3;

pub use fault::Fault;
