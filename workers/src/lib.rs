//! What happens to a batch on one device: learners, kernels, statistics, candidates, export.
//!
//! Three things to know: [`learner::DictLearner`] is what the pipeline trains,
//! [`learner::Dictionary`] is what it becomes when it is frozen, and [`codes::Codes`] is what both
//! speak. Nothing here sees a path, a stream, a clock or an environment variable.

pub mod batchwise;
pub mod card;
pub mod coders;
pub mod codes;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod export;
pub mod frozen;
pub mod interp;
pub mod kernels;
pub mod learner;
pub mod linear;
pub mod made;
pub mod memory;
#[cfg(test)]
pub(crate) mod planted;
pub mod pursuit;
pub mod random;
pub mod skeleton;
pub mod state;
pub mod stats;
pub mod surrogate;
pub mod threads;
#[cfg(test)]
pub(crate) mod toys;
pub mod truncated;
pub mod variants;
