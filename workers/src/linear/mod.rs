//! Dense linear algebra, for what happens once per run or per step, not per row.
//!
//! Every output of a product is one fused multiply-add chain in ascending order, so neither the path
//! nor the number of threads changes a bit.

pub mod cholesky;
pub mod eigen;
pub mod kmeans;
pub mod multiplicative;
pub mod muon;
pub mod polar;
pub mod product;
pub mod ridge;
pub mod rotation;
pub mod solve;
pub mod whitening;
