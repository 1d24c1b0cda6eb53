//! Which coordinates are hidden in a step, codes of what is seen, and the gradient of what is not.

use rayon::prelude::*;

use crate::{
    coders::{AnyCoder, Gram, block::Coded, omp::Omp},
    kernels::{
        Path, Real,
        csc::{ByLatent, SumRows, lane_runs},
        lanes::LaneStarts,
        product::Panels,
        simd::Kernel,
        vector,
    },
    random::hash,
};

/// How many of `d` coordinates are hidden; one is always seen.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of d")]
pub(super) fn hidden_count(share: f64, d: usize) -> usize {
    ((share * d as f64).round() as usize).min(d.saturating_sub(1))
}

/// The coordinates a coder sees, and those the loss is taken on.
#[derive(Debug, PartialEq)]
pub(super) struct Mask {
    pub(super) seen: Vec<usize>,
    /// Parallel to the coordinates.
    pub(super) counts: Vec<bool>,
}

impl Mask {
    /// Hides `hidden` of `d` coordinates; if that is none, all are seen and all count.
    pub(super) fn draw(d: usize, hidden: usize, words: &[u64]) -> Mask {
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by_cached_key(|&c| (hash(&[words, &[c as u64]].concat()), c));
        let mut seen = order[hidden..].to_vec();
        seen.sort_unstable();
        let mut counts = vec![hidden == 0; d];
        order[..hidden].iter().for_each(|&c| counts[c] = true);
        Mask { seen, counts }
    }

    /// OMP on the seen coordinates of `x`, `[rows, d]`, with atoms renormalised there.
    pub(super) fn code<R: Real>(&self, path: Path, k: usize, atoms: &[R], x: &[R]) -> Coded<R> {
        let m = self.seen.len();
        let mut part = self.visible(atoms);
        let norms: Vec<R> = part.chunks_exact(m).map(|atom| vector::dot(atom, atom).sqrt()).collect();
        part.chunks_exact_mut(m).for_each(vector::normalize);
        let (panels, n) = (Panels::of_rows(&part, m), norms.len());
        let mut gram = vec![R::ZERO; n * n];
        panels.times(path, &part, &mut gram);
        let gram = Gram::new(&part, m, Some(&gram));
        let mut coded = AnyCoder::Omp(Omp { k }).code(path, &panels, gram, &self.visible(x));
        for (value, &latent) in coded.values.iter_mut().zip(&coded.codes.latents) {
            *value = *value / norms[latent as usize];
        }
        coded
    }

    fn visible<R: Real>(&self, rows: &[R]) -> Vec<R> {
        let d = self.counts.len();
        rows.par_chunks(d).flat_map_iter(|row| self.seen.iter().map(|&c| row[c])).collect()
    }

    /// The mean over rows of the squared error that counts; the rest of `e`, `[rows, d]`, becomes 0.
    pub(super) fn loss<R: Real>(&self, e: &mut [R], d: usize) -> f64 {
        let rows: Vec<f64> = e
            .par_chunks_mut(d)
            .map(|e| {
                e.iter_mut()
                    .zip(&self.counts)
                    .for_each(|(e, &counts)| *e = if counts { *e } else { R::ZERO });
                e.iter().map(|e| e.f64() * e.f64()).sum()
            })
            .collect();
        rows.iter().sum::<f64>() / rows.len().max(1) as f64
    }
}

/// Of the mean squared error with respect to the atoms, codes held: `−2/rows · Σ α_j·e`, `[n_latents, d]`.
pub(super) fn gradient<R: Real>(
    path: Path,
    coded: &Coded<R>,
    e: &[R],
    d: usize,
    lanes: LaneStarts,
) -> Vec<R> {
    let share = R::of(-2.0 / coded.codes.rows().max(1) as f64);
    let weights: Vec<R> = coded.values.iter().map(|&value| share * value).collect();
    let by_latent = ByLatent::of(&coded.codes, &weights, &weights);
    let mut g = vec![R::ZERO; coded.codes.n_latents * d];
    g.par_chunks_mut(d).enumerate().for_each(|(latent, total)| {
        let entries = by_latent.entries(latent);
        let mut runs = Vec::new();
        lane_runs(entries.rows, lanes, &mut runs);
        let (rows, weights) = (entries.rows, entries.decoder);
        path.run(Sum(SumRows { runs: &runs, rows, weights, y: e, centre: None, total }));
    });
    g
}

struct Sum<'a, R>(SumRows<'a, R>);

impl<R: Real> Kernel for Sum<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.0.run();
    }
}
