//! The whole, tested end to end, in one test binary.

mod cli;
mod spec;
