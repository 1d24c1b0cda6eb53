//! Atoms as points of a hull: `e^s·(W·C + Λ)`, each row of W a few weights that sum to 1.

use crate::{
    kernels::{
        Path, Real,
        encode::{Encoder, Screen, Selection},
        vector,
    },
    random::hash,
};

/// Candidates that an atom mixes, at most.
const SUPPORT: usize = 16;
/// Stream of the random candidates.
const MIXES: u64 = 0x004d_4958_4553;

/// Candidates and, for each atom, those it may mix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Hull<R> {
    /// `[n, d]`.
    pub(super) candidates: Vec<R>,
    /// Width of a candidate.
    pub(super) d: usize,
    /// Numbers of candidates, `[n_latents, width]`.
    pub(super) support: Vec<u32>,
    /// Candidates of one atom.
    pub(super) width: usize,
}

impl<R: Real> Hull<R> {
    /// Atom `i` may mix candidate `i` (counted round) and others at random.
    #[allow(clippy::cast_possible_truncation, reason = "candidates are few")]
    pub(super) fn new(candidates: Vec<R>, d: usize, n_latents: usize, seed: u64) -> Self {
        let n = candidates.len() / d;
        let width = SUPPORT.min(n);
        let mut support = Vec::with_capacity(n_latents * width);
        for atom in 0..n_latents {
            let begin = support.len();
            support.push((atom % n) as u32);
            let mut draw = 0;
            while support.len() < begin + width {
                let other = (hash(&[seed, MIXES, atom as u64, draw]) % n as u64) as u32;
                draw += 1;
                if !support[begin..].contains(&other) {
                    support.push(other);
                }
            }
        }
        Hull { candidates, d, support, width }
    }

    fn number(&self) -> usize {
        self.candidates.len() / self.d
    }

    /// The candidates of an atom.
    #[inline(always)]
    fn of(&self, atom: usize) -> impl Iterator<Item = &[R]> {
        let numbers = &self.support[atom * self.width..][..self.width];
        numbers.iter().map(|&c| &self.candidates[c as usize * self.d..][..self.d])
    }

    /// The first weights: one candidate, or two where there are more atoms than candidates, since equal
    /// atoms would stay equal.
    pub(super) fn first_weights(&self, seed: u64) -> Vec<R> {
        let mut weights = vec![R::ZERO; self.support.len()];
        for (atom, weights) in weights.chunks_mut(self.width).enumerate() {
            let share = crate::random::unit(hash(&[seed, MIXES, atom as u64]));
            let other = if atom < self.number() || self.width < 2 { 0.0 } else { 0.25 + 0.5 * share };
            weights[0] = R::of(1.0 - other);
            if let Some(second) = weights.get_mut(1) {
                *second = R::of(other);
            }
        }
        weights
    }

    /// `out = scale·(weights·C + relaxation)`.
    #[inline(always)]
    pub(super) fn compose(&self, atom: usize, weights: &[R], relaxation: &[R], scale: R, out: &mut [R]) {
        out.copy_from_slice(relaxation);
        for (&weight, candidate) in weights.iter().zip(self.of(atom)) {
            if weight != R::ZERO {
                vector::axpy(weight, candidate, out);
            }
        }
        vector::scale(scale, out);
    }

    /// Gradients of the weights and the relaxation, given that of the atom.
    #[inline(always)]
    pub(super) fn pull_back(&self, atom: usize, g: &[R], scale: R, weights: &mut [R], relaxation: &mut [R]) {
        for (weight, candidate) in weights.iter_mut().zip(self.of(atom)) {
            *weight = scale * vector::dot(g, candidate);
        }
        relaxation.copy_from_slice(g);
        vector::scale(scale, relaxation);
    }
}

impl Hull<f32> {
    /// Lets each atom mix the candidate that lowers its loss fastest (a Frank–Wolfe vertex), in the place
    /// of one that weighs nothing; `g` are gradients of atoms, `[n_latents, d]`. Says which places changed.
    pub(super) fn look_around(&mut self, path: Path, g: &[f32], weights: &[f32]) -> Vec<usize> {
        let downhill: Vec<f32> = g.iter().map(|v| -v).collect();
        let (zeros, bias) = (vec![0.0; self.d], vec![0.0; self.number()]);
        let encoder = Encoder::all(&self.candidates, &bias, self.d);
        let best = encoder.select(path, Screen::Off, &downhill, &zeros, Selection::TopK(1)).codes;
        let mut places = Vec::new();
        for atom in 0..best.rows() {
            let span = atom * self.width..(atom + 1) * self.width;
            let Some(&candidate) = best.row(atom).0.first() else { continue };
            let free = weights[span.clone()].iter().rposition(|&weight| weight == 0.0);
            if let Some(free) = free.filter(|_| !self.support[span.clone()].contains(&candidate)) {
                self.support[span.start + free] = candidate;
                places.push(span.start + free);
            }
        }
        places
    }
}

/// Back to weights that are not negative and sum to 1: what is below 0 is cut, the rest divided by its sum
/// (`KempnerInstitute/overcomplete`); if nothing is left, the largest has it all.
#[inline(always)]
pub(super) fn to_simplex(weights: &mut [f32]) {
    let largest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if largest <= 0.0 {
        let at = weights.iter().position(|&w| w == largest);
        weights.fill(0.0);
        at.into_iter().for_each(|at| weights[at] = 1.0);
        return;
    }
    weights.iter_mut().for_each(|w| *w = if *w < 0.0 { 0.0 } else { *w });
    let sum: f32 = weights.iter().sum();
    vector::scale(1.0 / sum, weights);
}

/// Shortens a row to at most `radius`.
#[inline(always)]
pub(super) fn clip(row: &mut [f32], radius: f32) {
    let norm = vector::dot(row, row).sqrt();
    if norm > radius {
        vector::scale(radius / norm, row);
    }
}
