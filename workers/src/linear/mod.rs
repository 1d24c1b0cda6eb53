//! Dense linear algebra of learners that need more than rows: products, solves, polar factors.
//!
//! Every output of a product is one fused multiply-add chain in ascending order, so neither the path
//! nor the number of threads changes a bit.

pub mod multiplicative;
pub mod polar;
pub mod product;
pub mod solve;
pub mod whitening;
