//! Mergeable statistics of codes: integers only, so that adding and taking away are exact.
//!
//! [`ShardStatistics`] takes the rows of one shard in storage order ([`HarvestBlock`]) and gives a
//! [`ShardPartial`]: the tables of `atomflow_schemas::partial`. Each row's contribution is computed in
//! f64, rounded once at a power-of-two scale ([`FixedPoint`]) and added as an integer; therefore
//! blocks, workers and the order of shards cannot change a bit of any total.

pub mod block;
mod collected;
pub mod description;
mod digested;
pub mod fixed;
pub mod histogram;
pub mod latents;
pub mod pairs;
pub mod quality;
pub mod shard;
mod tables;
mod triangle;

pub use block::{Encoded, HarvestBlock, RowSplit, Tokens};
pub use fixed::FixedPoint;
pub use quality::{Figures, QualitySums};
pub use shard::{ShardPartial, ShardStatistics, StatsError, StatsSpec};

#[cfg(test)]
mod tests;
