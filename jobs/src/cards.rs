//! The cards that this build can use.

use atomflow_workers::card::Cards;

/// NVIDIA cards.
#[cfg(feature = "cuda")]
pub fn cards() -> &'static dyn Cards {
    &atomflow_gpu::cuda::CudaCards
}

/// None: this build has no feature `cuda`.
#[cfg(not(feature = "cuda"))]
pub fn cards() -> &'static dyn Cards {
    &atomflow_workers::card::NoCards
}
