//! The kernels, each with a slow obvious reference beside it in the tests.
//!
//! No atomics on floats and no order that depends on timing: every sum has one written-down order, and
//! integers are counted exactly. So the same card gives the same bits each time.

pub mod adam;
pub mod best;
pub mod by_latent;
pub mod codes;
pub mod collect;
pub mod columns;
mod cut;
pub mod gather;
pub mod lists;
mod order;
mod passing;
pub mod product;
pub mod residual;
pub mod rows;
mod scan;
mod tally;
mod tree;
pub mod update;
