//! The two traits the pipeline knows: a learner while it learns, a dictionary once it is frozen.

use crate::codes::Codes;

/// A frozen dictionary in the units of the input data: what harvest encodes with and what is exported.
///
/// Encoding is a function of the rows alone: any grouping of rows into blocks gives the same codes.
pub trait Dictionary: Send + Sync {
    /// Width of the vectors.
    fn d_in(&self) -> usize;
    /// Number of latents.
    fn n_latents(&self) -> usize;
    /// Codes of `x`, row-major `[rows, d_in]`.
    fn encode(&self, x: &[f32]) -> Codes;
    /// Reconstruction of `codes` into `x_hat`, row-major `[rows, d_in]`, overwritten.
    fn decode(&self, codes: &Codes, x_hat: &mut [f32]);
    /// Atoms, row-major `[n_latents, d_in]`, unit norm.
    fn atoms(&self) -> &[f32];
    /// Encoder directions, row-major `[n_latents, d_in]`.
    fn encoder_rows(&self) -> &[f32];
    /// Encoder bias, `[n_latents]`.
    fn encoder_bias(&self) -> &[f32];
}
