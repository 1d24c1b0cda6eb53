//! Matching pursuit with unit atoms, signed: in each of k rounds a row gives the atom it has most of
//! what it has of it (Mallat & Zhang 1993).
//!
//! Up to [`gram::MOST_ATOMS`] atoms the products of all atoms with the residual are kept up to date with
//! the Gram matrix, `q ← q − c·G[j]`: n per round instead of n·d. Beyond that the residuals of all
//! rows meet all atoms again in every round, through the kernel of encoders.

pub mod backward;
pub mod gram;
mod rounds;

use rayon::prelude::*;

use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        encode::{Encoder, Screen, Selection},
        simd::Kernel,
        vector,
    },
};

pub use self::{gram::Gram, rounds::Rounds};

/// Rows whose products with all atoms are held at once.
const CHUNK_ROWS: usize = 256;
/// A round that did not happen.
pub const NONE: u32 = u32::MAX;

/// Atoms to pursue with.
#[derive(Debug, Clone, Copy)]
pub struct Pursuit<'a, R> {
    /// Unit norm or zero, `[n_latents, d_in]`.
    pub atoms: &'a [R],
    /// Width of the vectors.
    pub d_in: usize,
    /// Rounds.
    pub k: usize,
    /// Take the largest product by magnitude, not by value.
    pub absolute: bool,
    /// Of these atoms; without it, residuals meet all atoms again in every round.
    pub gram: Option<&'a Gram<R>>,
}

/// What was picked, in order.
#[derive(Debug, Clone, PartialEq)]
pub struct Picks<R> {
    /// Rounds.
    pub k: usize,
    /// Latent of each round, `[rows, k]`; [`NONE`] from the round on in which nothing was left.
    pub latents: Vec<u32>,
    /// How much of it, `[rows, k]`.
    pub values: Vec<R>,
}

impl<R: Real> Pursuit<'_, R> {
    /// Codes `rows`, `[rows, d_in]`, which become what is left of them.
    pub fn run(&self, path: Path, rows: &mut [R]) -> Picks<R> {
        let pairs = rows.len() / self.d_in * self.k;
        let mut picks = Picks { k: self.k, latents: vec![NONE; pairs], values: vec![R::ZERO; pairs] };
        let chunks = rows.chunks_mut(CHUNK_ROWS * self.d_in);
        let (latents, values) = (&mut picks.latents, &mut picks.values);
        let places = latents.chunks_mut(CHUNK_ROWS * self.k).zip(values.chunks_mut(CHUNK_ROWS * self.k));
        for (rows, (latents, values)) in chunks.zip(places) {
            match self.gram {
                Some(gram) => self.by_gram(path, gram, rows, latents, values),
                None => (0..self.k).for_each(|t| self.round(path, t, rows, latents, values)),
            }
        }
        picks
    }

    fn by_gram(&self, path: Path, gram: &Gram<R>, rows: &mut [R], latents: &mut [u32], values: &mut [R]) {
        if gram.atoms() == 0 {
            return;
        }
        let mut q = gram.products(path, rows);
        let places = latents.par_chunks_mut(self.k).zip(values.par_chunks_mut(self.k));
        q.par_chunks_mut(gram.atoms()).zip(rows.par_chunks_mut(self.d_in)).zip(places).for_each(
            |((q, residual), (latents, values))| {
                let pursuit = self;
                path.run(OneRow { pursuit, gram, q, residual, latents, values });
            },
        );
    }

    /// Round `t` of all rows at once.
    fn round(&self, path: Path, t: usize, rows: &mut [R], latents: &mut [u32], values: &mut [R]) {
        let (d, n) = (self.d_in, self.atoms.len() / self.d_in);
        if n == 0 {
            return;
        }
        let select = if self.absolute { Selection::AbsTopK(1) } else { Selection::TopK(1) };
        let zeros = vec![R::ZERO; d.max(n)];
        let encoder = Encoder::all(self.atoms, &zeros[..n], d);
        let best = encoder.select(path, Screen::Off, rows, &zeros[..d], select).codes;
        let places = latents.par_chunks_mut(self.k).zip(values.par_chunks_mut(self.k));
        rows.par_chunks_mut(d).zip(places).enumerate().for_each(|(row, (residual, (latents, values)))| {
            let picked = best.row(row).0.first();
            let going = t == 0 || latents[t - 1] != NONE;
            if let (Some(&latent), true) = (picked, going) {
                let atom = &self.atoms[latent as usize * d..][..d];
                path.run(Take { absolute: self.absolute, latent, atom, residual, t, latents, values });
            }
        });
    }
}

impl<R: Real> Picks<R> {
    /// As codes: picks of one latent added up, sums of zero left out.
    #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
    pub fn codes(&self, n_latents: usize) -> Codes {
        let mut codes = Codes::new(n_latents);
        for (latents, values) in self.latents.chunks(self.k).zip(self.values.chunks(self.k)) {
            let mut pairs: Vec<(u32, f64)> = Vec::with_capacity(self.k);
            for (&latent, value) in latents.iter().zip(values).filter(|(latent, _)| **latent != NONE) {
                match pairs.iter_mut().find(|(known, _)| *known == latent) {
                    Some((_, sum)) => *sum += value.f64(),
                    None => pairs.push((latent, value.f64())),
                }
            }
            pairs.sort_unstable_by_key(|pair| pair.0);
            let kept = pairs.into_iter().map(|(latent, sum)| (latent, sum as f32));
            codes.push_row(kept.filter(|pair| pair.1 != 0.0));
        }
        codes
    }
}

/// Takes one atom out of a residual.
struct Take<'a, R> {
    absolute: bool,
    latent: u32,
    atom: &'a [R],
    residual: &'a mut [R],
    t: usize,
    latents: &'a mut [u32],
    values: &'a mut [R],
}

impl<R: Real> Kernel for Take<'_, R> {
    /// How much was taken; `None` if there was nothing to take.
    type Output = Option<R>;

    #[inline(always)]
    fn run(self) -> Option<R> {
        let value = vector::dot(self.atom, self.residual);
        let something = value > R::ZERO || self.absolute && value < R::ZERO;
        something.then(|| {
            vector::axpy(-value, self.atom, self.residual);
            (self.latents[self.t], self.values[self.t]) = (self.latent, value);
            value
        })
    }
}

/// All rounds of one row in the Gram form.
struct OneRow<'a, R> {
    pursuit: &'a Pursuit<'a, R>,
    gram: &'a Gram<R>,
    q: &'a mut [R],
    residual: &'a mut [R],
    latents: &'a mut [u32],
    values: &'a mut [R],
}

impl<R: Real> Kernel for OneRow<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (d, absolute) = (self.pursuit.d_in, self.pursuit.absolute);
        for t in 0..self.pursuit.k {
            let Some(latent) = largest(self.q, absolute) else { break };
            let atom = &self.pursuit.atoms[latent * d..][..d];
            #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
            let (residual, number) = (&mut *self.residual, latent as u32);
            let (latents, values) = (&mut *self.latents, &mut *self.values);
            let Some(value) = (Take { absolute, latent: number, atom, residual, t, latents, values }).run()
            else {
                break;
            };
            vector::axpy(-value, self.gram.row(latent), self.q);
        }
    }
}

/// Where the largest positive value is (or the largest magnitude), the first of equals.
#[inline(always)]
fn largest<R: Real>(q: &[R], absolute: bool) -> Option<usize> {
    let size = |v: R| if absolute && v < R::ZERO { -v } else { v };
    let mut most = [R::ZERO; vector::LANES];
    let (blocks, tail) = q.as_chunks::<{ vector::LANES }>();
    for block in blocks {
        for lane in 0..vector::LANES {
            let v = size(block[lane]);
            most[lane] = if v > most[lane] { v } else { most[lane] };
        }
    }
    let all = most.into_iter().chain(tail.iter().map(|&v| size(v)));
    let top = all.fold(R::ZERO, |top, v| if v > top { v } else { top });
    let holds = |block: &[R]| block.iter().fold(false, |held, &v| held | (size(v) == top));
    let block = (top > R::ZERO).then(|| q.chunks(vector::LANES).position(holds))??;
    let first = block * vector::LANES;
    q[first..].iter().position(|&v| size(v) == top).map(|at| first + at)
}

#[cfg(test)]
mod tests;
