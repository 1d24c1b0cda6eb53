//! How batches and tables move: plan, source, operators, sink, checkpoint.
//!
//! The path of one activation, top to bottom: [`source`] (object → rows) → [`plan`] (which window,
//! which lane, which slot) → [`graph`] and [`operators`] (the timely dataflow) → [`device`] (a
//! learner of `atomflow-workers` on its own thread) → [`statistics`] (differential totals) →
//! [`sink`] (Parquet parts, then one create-if-absent commit). [`run`] is the order in which it happens.
//! [`convert`] goes another, shorter way: source → shards in the fast layout.
//!
//! Async lives in [`source`] and [`sink`] alone; timely and differential are named only in this crate.

pub mod batch;
pub mod calibrate;
pub mod chooser;
pub mod convert;
pub mod device;
mod engine;
pub mod error;
pub mod failures;
mod feed;
mod flow;
pub mod graph;
pub mod learners;
pub mod operators;
pub mod outside;
pub mod plan;
pub mod resolved;
pub mod run;
pub mod seat;
pub mod sight;
pub mod sink;
pub mod source;
pub mod statistics;
pub mod stop;

pub use error::{Error, Result};
