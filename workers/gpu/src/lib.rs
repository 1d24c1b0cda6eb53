//! The heavy operations of a sparse autoencoder on a graphics card, in CubeCL.
//!
//! What is as large as weights or rows stays on the card: parameters, moments, rows, residuals. What is as
//! large as codes (some pairs of latent and value per row) goes back and forth, so that whoever decides
//! what a code is and what it costs does so on the processor, in the same lines as without a card.
//!
//! One source for every runtime: [`cubecl::Runtime`] is CUDA on NVIDIA cards, and any Vulkan device, a
//! software one among them, in tests.

pub(crate) mod autoencoder;
pub mod card;
#[cfg(feature = "cuda")]
pub mod cuda;
pub(crate) mod dictionary;
pub(crate) mod digest;
pub(crate) mod encoder;
pub(crate) mod held;
pub mod kernels;
pub mod learn;
pub mod lost;
pub mod pairs;
pub(crate) mod replica;
mod scores;
pub mod shield;
pub(crate) mod stack;
#[cfg(feature = "text")]
pub mod text;
pub mod together;
pub mod verify;
pub mod wire;

pub use cubecl::Runtime;
