//! `A = Σ αᵀα` and `B = Σ αᵀx`, with decay: what the rows seen so far leave behind.

use std::ops::Range;

use rayon::prelude::*;

use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        csc::{ByLatent, SumRows, lane_runs},
        lanes::LaneStarts,
        simd::Kernel,
        vector,
    },
};

/// Latents of a task.
const TASK_LATENTS: usize = 16;

/// The two sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Statistics<R> {
    /// Width of the vectors.
    pub d: usize,
    /// `A`, `[n_latents, n_latents]`, symmetric.
    pub a: Vec<R>,
    /// `B`, `[n_latents, d]`.
    pub b: Vec<R>,
}

/// How old and new rows weigh: `A ← old·A + new·Σ αᵀα`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decay {
    /// Weight of what is there.
    pub old: f64,
    /// Weight of each new row.
    pub new: f64,
}

/// Rows and their codes.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a, R> {
    /// The codes.
    pub codes: &'a Codes,
    /// Their values, parallel to `codes.latents`.
    pub values: &'a [R],
    /// The rows, `[rows, d]`.
    pub x: &'a [R],
    /// First row of each lane.
    pub lanes: LaneStarts<'a>,
}

impl<R: Real> Statistics<R> {
    /// Of no rows.
    pub fn zero(n_latents: usize, d: usize) -> Self {
        Statistics { d, a: vec![R::ZERO; n_latents * n_latents], b: vec![R::ZERO; n_latents * d] }
    }

    /// Number of latents.
    pub fn n_latents(&self) -> usize {
        self.b.len() / self.d.max(1)
    }

    /// Adds rows: lane by lane in lane order, each latent by one task. Runs on the current rayon pool.
    pub fn absorb(&mut self, path: Path, decay: Decay, rows: &Rows<R>) {
        let by_latent = ByLatent::of(rows.codes, rows.values, rows.values);
        let (n, d) = (self.n_latents(), self.d);
        let tasks =
            self.a.par_chunks_mut((TASK_LATENTS * n).max(1)).zip(self.b.par_chunks_mut(TASK_LATENTS * d));
        tasks.enumerate().for_each(|(task, (a, b))| {
            path.run(Absorb { decay, rows, by_latent: &by_latent, first: task * TASK_LATENTS, n, a, b });
        });
    }

    /// `A` and `B` of both, for rows that were seen apart.
    pub fn merge(&mut self, other: &Statistics<R>) {
        vector::add(&other.a, &mut self.a);
        vector::add(&other.b, &mut self.b);
    }

    /// Forgets all about one latent.
    pub fn forget(&mut self, latent: usize) {
        let (n, d) = (self.n_latents(), self.d);
        self.a[latent * n..][..n].fill(R::ZERO);
        self.a.iter_mut().skip(latent).step_by(n).for_each(|a| *a = R::ZERO);
        self.b[latent * d..][..d].fill(R::ZERO);
    }

    /// `½ tr(D·Dᵀ·A) − tr(Dᵀ·B)` at `atoms`, `[n_latents, d]`: what a sweep lowers.
    pub fn objective(&self, atoms: &[R]) -> f64 {
        let (n, d) = (self.n_latents(), self.d);
        let atom = |j: usize| &atoms[j * d..][..d];
        let of = |j: usize| {
            let square: f64 =
                (0..n).map(|i| self.a[j * n + i].f64() * vector::dot(atom(i), atom(j)).f64()).sum();
            0.5 * square - vector::dot(&self.b[j * d..][..d], atom(j)).f64()
        };
        (0..n).map(of).sum()
    }
}

/// The rows of `A` and `B` of some latents.
struct Absorb<'a, R> {
    decay: Decay,
    rows: &'a Rows<'a, R>,
    by_latent: &'a ByLatent<R>,
    first: usize,
    n: usize,
    a: &'a mut [R],
    b: &'a mut [R],
}

impl<R: Real> Kernel for Absorb<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let (old, new) = (R::of(self.decay.old), R::of(self.decay.new));
        let d = self.b.len() / (self.a.len() / self.n).max(1);
        let (mut runs, mut weights) = (Vec::new(), Vec::new());
        let mut lane_sum = vec![R::ZERO; self.n];
        for (at, (a, b)) in self.a.chunks_exact_mut(self.n).zip(self.b.chunks_exact_mut(d)).enumerate() {
            let entries = self.by_latent.entries(self.first + at);
            lane_runs(entries.rows, self.rows.lanes, &mut runs);
            weights.clear();
            weights.extend(entries.decoder.iter().map(|&value| value * new));
            vector::scale(old, a);
            vector::scale(old, b);
            for run in &runs {
                lane_sum.fill(R::ZERO);
                self.rows.outer(&entries.rows[run.clone()], &weights[run.clone()], &mut lane_sum);
                vector::add(&lane_sum, a);
            }
            let rows = entries.rows;
            SumRows { runs: &runs, rows, weights: &weights, y: self.rows.x, centre: None, total: b }.run();
        }
    }
}

impl<R: Real> Rows<'_, R> {
    /// `sum += Σ weights[i]·α_{rows[i]}`.
    #[inline(always)]
    fn outer(&self, rows: &[u32], weights: &[R], sum: &mut [R]) {
        for (&row, &weight) in rows.iter().zip(weights) {
            let span: Range<usize> = self.codes.offsets[row as usize]..self.codes.offsets[row as usize + 1];
            for (&latent, &value) in self.codes.latents[span.clone()].iter().zip(&self.values[span]) {
                let sum = &mut sum[latent as usize];
                *sum = weight.fma(value, *sum);
            }
        }
    }
}
