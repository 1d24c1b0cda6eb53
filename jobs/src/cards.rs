//! The cards that this build can use.

use atomflow_workers::card::Cards;

/// NVIDIA cards.
#[cfg(feature = "cuda")]
pub fn cards() -> &'static dyn Cards {
    &atomflow_gpu::cuda::CudaCards
}

/// Whether a panic on this thread is about to become an ordinary error about a card.
#[cfg(feature = "cuda")]
pub fn shielded() -> bool {
    atomflow_gpu::shield::active()
}

/// None: this build has no feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub fn cards() -> &'static dyn Cards {
    &atomflow_workers::card::NoCards
}

/// Nothing can panic about a card.
#[cfg(not(feature = "cuda"))]
pub fn shielded() -> bool {
    false
}
