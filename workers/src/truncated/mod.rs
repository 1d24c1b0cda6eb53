//! EM for models with binary hidden causes, `y ~ N(v·W, σ²I)`, by expectation truncation: of all states
//! of a row, those are weighed that can matter (Lücke & Eggert 2010; `ml-uol/prosper`, `prosper/em`).
//!
//! Weighed are: nothing active; each latent alone; and all sets of two to `active` of the `candidates`
//! best latents, those that explain the row best alone. The sums of the M-step are additive over rows,
//! so a step decays the old ones and adds those of its batch. With all latents candidates and active,
//! it is EM itself. The M-step is that of the truncated posterior as it is: ProSper's correction of π
//! and its cutting of rows, which need the planted π to be far below `active / n_latents`, are left out.

pub mod coder;
pub mod digits;
pub mod em;
pub mod posterior;
pub mod prior;
pub mod slab;
pub mod spec;
pub mod states;
pub mod sums;

#[cfg(test)]
mod tests;
