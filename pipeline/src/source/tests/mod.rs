//! The source as a whole: files written by the Arrow crates, read back through the store.

mod bad_input;
mod beside;
mod corpus;
mod layouts;
mod make;
mod plain;
mod urls;
