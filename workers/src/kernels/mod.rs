//! The heavy operations, each with a slow obvious reference beside it in the tests.
//!
//! Every sum has one written-down order: products over `d_in` run in ascending order inside one fused
//! multiply-add chain per output, dot products run in [`vector::LANES`] fixed lanes, batch sums run
//! lane by lane in lane order. So the SIMD path, the number of threads and the number of workers do
//! not change a bit of the result. Source of the kernel set: `openai/sparse_autoencoder`, `kernels.py`.

pub mod adam;
pub mod csc;
pub mod encode;
pub mod exp;
pub mod gather;
pub mod lanes;
pub mod nested;
pub mod peak;
pub mod prefetch;
pub mod product;
pub mod real;
pub mod residual;
pub mod simd;
pub mod strip;
pub mod tiled;
pub mod vector;

pub use real::Real;
pub use simd::Path;
