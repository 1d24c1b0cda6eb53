//! Codes drawn from N(μ, σ²): which survive, and how they depend on σ.
//!
//! Noise is a function of (seed, step, row, latent), so that a run that is resumed draws the same. It is
//! drawn for the candidates alone: a number per row and latent would cost more than the encoder.

use rayon::prelude::*;

use super::{Noise, divergence::BOUNDS};
use crate::{
    codes::Codes,
    kernels::{
        Real,
        lanes::{self, Block},
        simd::Kernel,
    },
    skeleton::objective::Step,
};

/// The k drawn codes of largest magnitude of each row.
pub(super) struct Sampled<R> {
    /// Which latents.
    pub(super) codes: Codes,
    /// `ζ = μ + σε`.
    pub(super) values: Vec<R>,
    /// `∂ζ/∂log σ² = ½σε`; 0 where log σ² is at its bounds, or not learned.
    pub(super) by_variance: Vec<R>,
}

/// σ of a latent.
#[derive(Clone, Copy)]
pub(super) enum Deviation<'a, R> {
    /// The same everywhere.
    Fixed(f64),
    /// `log σ² = (x − b_dec)·w_varᵀ + b_var`: the products of the candidates, and biases.
    Learned(&'a [R], &'a [R]),
}

/// What is drawn from.
pub(super) struct Draw<'a, R> {
    pub(super) step: Step<'a, 'a, R>,
    /// Candidates and their μ.
    pub(super) codes: &'a Codes,
    pub(super) means: &'a [R],
    pub(super) deviation: Deviation<'a, R>,
    pub(super) noise: Noise,
    pub(super) seed: u64,
    pub(super) k: usize,
}

/// A candidate after the draw.
type Drawn<R> = (u32, R, R);

impl<R: Real> Draw<'_, R> {
    /// Draws. Runs on the current rayon pool; rows do not depend on each other.
    pub(super) fn run(&self) -> Sampled<R> {
        let of = |block: &Block| self.step.path.run(Rows { draw: self, block });
        let blocks: Vec<Vec<Vec<Drawn<R>>>> = lanes::blocks(self.step.lanes).par_iter().map(of).collect();
        let (mut values, mut by_variance) = (Vec::new(), Vec::new());
        let mut codes = Codes::new(self.codes.n_latents);
        for row in blocks.iter().flatten() {
            #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
            codes.push_row(row.iter().map(|&(latent, value, _)| (latent, value.f64() as f32)));
            values.extend(row.iter().map(|&(_, value, _)| value));
            by_variance.extend(row.iter().map(|&(_, _, slope)| slope));
        }
        Sampled { codes, values, by_variance }
    }

    /// σ, and whether it can learn.
    #[inline(always)]
    fn deviation(&self, pair: usize) -> (f64, bool) {
        match self.deviation {
            Deviation::Fixed(sigma) => (sigma, false),
            Deviation::Learned(products, biases) => {
                let free = (products[pair] + biases[self.codes.latents[pair] as usize]).f64();
                let bounded = free.clamp(BOUNDS.0, BOUNDS.1);
                ((0.5 * bounded).exp(), free == bounded)
            }
        }
    }
}

struct Rows<'a, R> {
    draw: &'a Draw<'a, R>,
    block: &'a Block,
}

impl<R: Real> Kernel for Rows<'_, R> {
    type Output = Vec<Vec<Drawn<R>>>;

    #[inline(always)]
    fn run(self) -> Vec<Vec<Drawn<R>>> {
        let (draw, mut out) = (self.draw, Vec::with_capacity(self.block.rows.len()));
        for row in self.block.rows.clone() {
            let span = draw.codes.offsets[row]..draw.codes.offsets[row + 1];
            let mut drawn: Vec<Drawn<R>> = Vec::with_capacity(span.len());
            for pair in span {
                let (latent, mean) = (draw.codes.latents[pair], draw.means[pair]);
                let noise = (draw.noise)([draw.seed, draw.step.number, row as u64, u64::from(latent)]);
                let (sigma, learns) = draw.deviation(pair);
                let slope = if learns { R::of(0.5 * sigma * noise) } else { R::ZERO };
                drawn.push((latent, mean + R::of(sigma * noise), slope));
            }
            keep_largest(&mut drawn, draw.k);
            out.push(drawn);
        }
        out
    }
}

/// The k of largest magnitude, ascending by latent; ties go to the lower latent.
#[inline(always)]
fn keep_largest<R: Real>(drawn: &mut Vec<Drawn<R>>, k: usize) {
    drawn.retain(|&(_, value, _)| value != R::ZERO);
    if drawn.len() > k {
        let size = |pair: &Drawn<R>| pair.1.f64().abs();
        drawn.select_nth_unstable_by(k, |a, b| size(b).total_cmp(&size(a)).then(a.0.cmp(&b.0)));
        drawn.truncate(k);
        drawn.sort_unstable_by_key(|pair| pair.0);
    }
}
