//! The tables and files two programs must agree on. If two programs must agree on it, it is here.
//!
//! `schemas/README.md` is the normative text; code that differs from it is a bug.

pub mod delta;
pub mod manifest;
pub mod partial;
pub mod table;
