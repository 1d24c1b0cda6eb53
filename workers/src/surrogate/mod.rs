//! The quadratic surrogate of online dictionary learning (Mairal et al. 2010): all that past rows have
//! to say about the atoms, in two sums, and the sweep over the atoms that minimises it.
//!
//! `½ tr(D·Dᵀ·A) − tr(Dᵀ·B)` with `A = Σ αᵀα`, `B = Σ αᵀx`: additive over rows, whatever coded them.

pub mod online;
pub mod statistics;
pub mod sweep;
pub mod unused;

pub use online::Online;
pub use statistics::{Decay, Statistics};
