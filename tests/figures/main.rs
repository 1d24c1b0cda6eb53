//! Programs that print figures: `figures decoding`, `figures learners`, `figures front`, `figures reading` and `figures memory`.
//! Ratios within one run are what counts; absolute times depend on the machine. Not part of the tests.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program of tables"
)]

mod decoding;
mod learners;
mod memory;
mod reading;
mod shards;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("decoding") => decoding::print(),
        Some("learners") => learners::print(),
        Some("front") => learners::front(),
        Some("reading") => reading::print(),
        Some("memory") => memory::print(),
        _ => println!(
            "figures decoding | learners | front | reading | memory\n\nBuild with --release, on an otherwise idle machine."
        ),
    }
}
