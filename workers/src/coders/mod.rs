//! Coders: the codes of a row for atoms that are given, found by search instead of by an encoder.
//!
//! Every coder works on products alone: `q = D·x` of the row and the Gram matrix `G = D·Dᵀ` of the
//! atoms. Taking `δ` of atom `j` out of the row is `q −= δ·G_j`, so the row itself is never touched.

pub mod atoms;
pub mod block;
pub mod fista;
pub mod gradient_pursuit;
pub mod gram;
pub mod lars;
pub mod lasso_cd;
pub mod mp;
pub mod nnomp;
pub mod omp;
mod peak;
pub mod recoded;
pub mod room;
pub mod rows;
pub mod searched;
pub mod spec;

pub use atoms::CodedAtoms;
pub use gram::Gram;
pub use recoded::Recoded;
pub use room::Room;
pub use searched::Searched;
pub use spec::{AnyCoder, CoderSpec};

use crate::kernels::Real;

/// Finds the codes of one row.
///
/// Implementations are `#[inline(always)]`: they take the vector width of the kernel they run in.
pub trait Coder<R: Real>: Send + Sync {
    /// The codes of the row whose products with all atoms are `q`, `[n_latents]`, into `room`: latents
    /// in any order, no latent twice. `q` becomes the products of what is left of the row.
    fn code(&self, gram: Gram<R>, q: &mut [R], room: &mut Room<R>);
}

#[cfg(test)]
mod tests;
