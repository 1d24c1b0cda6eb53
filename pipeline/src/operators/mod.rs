//! One file per operator, in the order an activation meets them.

pub mod accumulate;
pub mod block;
pub mod encode;
pub mod read;
pub mod share;
pub mod shuffle;
pub mod train;
