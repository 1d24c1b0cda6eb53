//! The gradient of `scale·Σ‖r_k‖²` through all rounds of a pursuit.
//!
//! Backwards from `g = 2·scale·r_k`, round t has `a_t = ⟨g, d_t⟩` and hands `g − a_t·d_t` on; its atom
//! gets `−(c_t·g + a_t·r_{t−1})`. Written out, both vectors are the last residual and atoms picked
//! later, so nothing of size `[rows, k, d]` is kept:
//! `−[(2·scale·c_t + a_t)·r_k + a_t·c_t·d_t + Σ_{s>t} (a_t·c_s − c_t·a_s)·d_s]`.

use rayon::prelude::*;

use super::{NONE, Picks, Pursuit};
use crate::kernels::{
    Path, Real,
    lanes::{self, LaneStarts, Moments},
    simd::Kernel,
    vector,
};

/// What a backward pass leaves for the gradients of single atoms.
#[derive(Debug)]
pub struct Backward<'a, R> {
    atoms: &'a [R],
    residuals: &'a [R],
    d: usize,
    picks: &'a Picks<R>,
    lanes: LaneStarts<'a>,
    /// `a_t` of each pick.
    along: Vec<R>,
    /// Positions of the picks of each latent in `by_latent`.
    offsets: Vec<usize>,
    /// Positions of picks, ascending inside a latent.
    by_latent: Vec<u32>,
    scale: R,
    /// `Σ‖r_k‖²` and the sums of its columns.
    pub moments: Moments,
    /// `∂/∂b` where `r_0 = x − b`, `[d_in]`.
    pub bias: Vec<f64>,
}

impl<'a, R: Real> Backward<'a, R> {
    /// Of `scale·Σ‖r_k‖²`; `residuals` are what [`Pursuit::run`] left, cut into `lanes`.
    pub fn of(
        path: Path,
        pursuit: Pursuit<'a, R>,
        picks: &'a Picks<R>,
        residuals: &'a [R],
        lanes: LaneStarts<'a>,
        scale: R,
    ) -> Self {
        let (d, n) = (pursuit.d_in, pursuit.atoms.len() / pursuit.d_in);
        let (offsets, by_latent) = transposed(&picks.latents, n);
        let mut backward = Backward {
            atoms: pursuit.atoms,
            residuals,
            d,
            picks,
            lanes,
            along: Vec::new(),
            offsets,
            by_latent,
            scale,
            moments: lanes::moments(path, residuals, d, lanes),
            bias: Vec::new(),
        };
        backward.walk(path);
        backward
    }

    /// Finds `a_t` of all picks and the gradient of the bias.
    fn walk(&mut self, path: Path) {
        let blocks = lanes::blocks(self.lanes);
        let of = |block: &lanes::Block| path.run(Rows { of: self, rows: block.rows.clone() });
        let parts: Vec<(Vec<R>, Vec<f64>)> = blocks.par_iter().map(of).collect();
        let sums: Vec<Moments> =
            parts.iter().map(|(_, g)| Moments { squared_norm: 0.0, column_sums: g.clone() }).collect();
        let total = lanes::total(&blocks, &sums, self.d);
        self.bias = total.column_sums.into_iter().map(|g| -g).collect();
        self.along = parts.into_iter().flat_map(|(along, _)| along).collect();
    }

    /// Whether a latent was picked.
    pub fn fired(&self, latent: usize) -> bool {
        self.offsets[latent] < self.offsets[latent + 1]
    }

    /// The gradient of one atom into `out`, `[d_in]`: lane by lane, rows ascending.
    #[inline(always)]
    pub fn atom(&self, latent: usize, lane_sum: &mut [R], out: &mut [R]) {
        out.fill(R::ZERO);
        let picks = &self.by_latent[self.offsets[latent]..self.offsets[latent + 1]];
        let lane_of = |pick: u32| {
            let row = pick as usize / self.picks.k;
            self.lanes.partition_point(|&start| start <= row)
        };
        for lane in picks.chunk_by(|&a, &b| lane_of(a) == lane_of(b)) {
            lane_sum.fill(R::ZERO);
            lane.iter().for_each(|&pick| self.add(pick as usize, lane_sum));
            out.iter_mut().zip(&*lane_sum).for_each(|(out, &sum)| *out = *out - sum);
        }
    }

    /// What one pick subtracts from the gradient of its atom.
    #[inline(always)]
    fn add(&self, pick: usize, sum: &mut [R]) {
        let (d, k) = (self.d, self.picks.k);
        let (row, values) = (pick / k, &self.picks.values);
        let (a, c) = (self.along[pick], values[pick]);
        let last = R::of(2.0) * self.scale * c + a;
        vector::axpy(last, &self.residuals[row * d..][..d], sum);
        vector::axpy(a * c, self.row_of(pick), sum);
        let after = (pick + 1..(row + 1) * k).filter(|&later| self.picks.latents[later] != NONE);
        for later in after {
            let weight = a * values[later] - c * self.along[later];
            vector::axpy(weight, self.row_of(later), sum);
        }
    }

    #[inline(always)]
    fn row_of(&self, pick: usize) -> &[R] {
        &self.atoms[self.picks.latents[pick] as usize * self.d..][..self.d]
    }
}

/// Counting sort of the picks by latent: positions of each latent's picks, and the picks.
#[allow(clippy::cast_possible_truncation, reason = "a batch has fewer than 2^32 picks")]
fn transposed(latents: &[u32], n: usize) -> (Vec<usize>, Vec<u32>) {
    let mut offsets = vec![0usize; n + 1];
    latents.iter().filter(|l| **l != NONE).for_each(|&l| offsets[l as usize + 1] += 1);
    (0..n).for_each(|l| offsets[l + 1] += offsets[l]);
    let mut next = offsets.clone();
    let mut picks = vec![0u32; offsets[n]];
    for (pick, &latent) in latents.iter().enumerate().filter(|(_, l)| **l != NONE) {
        picks[next[latent as usize]] = pick as u32;
        next[latent as usize] += 1;
    }
    (offsets, picks)
}

struct Rows<'b, 'a, R> {
    of: &'b Backward<'a, R>,
    rows: std::ops::Range<usize>,
}

impl<R: Real> Kernel for Rows<'_, '_, R> {
    /// `a_t` of the picks of these rows, `Σ g_0` over them.
    type Output = (Vec<R>, Vec<f64>);

    #[inline(always)]
    fn run(self) -> (Vec<R>, Vec<f64>) {
        let (d, k) = (self.of.d, self.of.picks.k);
        let (mut along, mut total) = (vec![R::ZERO; self.rows.len() * k], vec![0f64; d]);
        let mut g = vec![R::ZERO; d];
        for (row, along) in self.rows.zip(along.chunks_mut(k)) {
            g.copy_from_slice(&self.of.residuals[row * d..][..d]);
            vector::scale(R::of(2.0) * self.of.scale, &mut g);
            for t in (0..k).rev().filter(|t| self.of.picks.latents[row * k + t] != NONE) {
                let atom = self.of.row_of(row * k + t);
                along[t] = vector::dot(&g, atom);
                vector::axpy(-along[t], atom, &mut g);
            }
            total.iter_mut().zip(&g).for_each(|(total, g)| *total += g.f64());
        }
        (along, total)
    }
}
