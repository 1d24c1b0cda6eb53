//! The kernels, each with a slow obvious reference beside it in the tests.
//!
//! No atomics on floats and no order that depends on timing: every sum has one written-down order, and
//! integers are counted exactly. So the same card gives the same bits each time.

pub mod adam;
pub mod by_latent;
pub mod codes;
pub mod columns;
pub mod gather;
pub mod lists;
pub mod product;
pub mod residual;
pub mod rows;
mod scan;
mod tree;
pub mod update;
