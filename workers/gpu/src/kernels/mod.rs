//! The kernels, each with a slow obvious reference beside it in the tests.
//!
//! No atomics on floats and no order that depends on timing: every sum has one written-down order, and
//! integers are counted exactly. So the same card gives the same bits each time.
//!
//! Where positions can pass 2^32, kernels are made for positions of 64 bits (`address_type`). There a number
//! that is written down counts as 32 bits, and an operation has the type of its left side: write `i * 2`,
//! never `2 * i`. On CUDA a kernel's name stands among C's: none may be called `round` or `max`.

#![allow(clippy::too_many_arguments, reason = "a kernel has an argument for every buffer")]
#![allow(
    clippy::manual_div_ceil,
    clippy::manual_is_multiple_of,
    clippy::assign_op_pattern,
    clippy::collapsible_if,
    reason = "CubeCL has no such functions, and `&&` evaluates both sides there"
)]

pub mod adam;
pub mod best;
pub mod by_latent;
pub mod bytes;
pub mod codes;
pub mod collect;
pub mod columns;
pub mod count;
mod cut;
pub mod dense;
mod descent;
pub mod factors;
mod fixed;
pub mod gather;
pub mod lines;
pub mod lists;
mod long;
pub mod measure;
pub mod moments;
pub mod nested;
pub mod norms;
pub mod offer;
mod order;
mod passing;
pub mod peak;
pub mod product;
pub mod residual;
pub mod rows;
mod scan;
pub mod some;
mod spread;
pub mod squares;
mod tally;
pub mod tensor_product;
pub mod transpose;
mod tree;
pub mod update;
pub mod weights;
pub mod widen;
