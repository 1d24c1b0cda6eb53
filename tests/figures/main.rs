//! Programs that print figures: `figures decoding`, `figures reading`, `figures memory` and `figures many`.
//! Ratios within one run are what counts; absolute times depend on the machine. Not part of the tests.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program of tables"
)]

mod decoding;
mod many;
mod memory;
mod reading;
mod shards;

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("decoding") => decoding::print(),
        Some("reading") => reading::print(),
        Some("many") => many::print(),
        Some("memory") => memory::print(),
        _ => println!(
            "figures decoding | reading | memory | many\n\nBuild with --release, on an otherwise idle machine."
        ),
    }
}
