//! `mean ‖xxᵀ − Σ f_i·l_i·r_iᵀ‖² + α·mean Hoyer density of f`, and its gradient.
//!
//! The first part is `1 − 2Σf² + f·K·f` with `K = LLᵀ ∘ RRᵀ`: nothing of size d_in² is made. K and
//! `M = Σ fᵀf / rows` are worked out for [`PANEL`] latents at a time, so nothing of size n² is, either.
//!
//! The ordered form is the mean of that over the dictionaries of the first 1, 2, … n latents. With
//! `ω_i = (n − i)/n`, the share of them that hold latent i, `f_i²` has the weight ω_i and `f_i·f_j` that of
//! the later of the two: a factor for each entry of K and M.

use rayon::prelude::*;

use crate::{
    kernels::{Path, Real, lanes::LaneStarts, vector},
    linear::product::{self, Panels},
};

/// Latents whose products with all others are held at once.
const PANEL: usize = 512;

/// A batch seen through both sides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Features<R> {
    /// `x·Lᵀ`, `[rows, n]`.
    pub(super) a: Vec<R>,
    /// `x·Rᵀ`, `[rows, n]`.
    pub(super) b: Vec<R>,
    /// Their products, `[rows, n]`.
    pub(super) f: Vec<R>,
}

impl<R: Real> Features<R> {
    /// Of unit rows `x`, `[rows, d]`; `left` and `right` are `[n, d]`.
    pub(super) fn of(path: Path, x: &[R], d: usize, (left, right): (&[R], &[R])) -> Self {
        let side = |side: &[R]| product::product(path, x, &Panels::of_rows(side, d));
        let (a, b) = (side(left), side(right));
        let f = product_of(&a, &b);
        Features { a, b, f }
    }
}

/// Loss and gradient.
#[derive(Debug, Clone, Default)]
pub(super) struct Gradient<R> {
    /// Both parts.
    pub(super) loss: f64,
    /// `∂/∂L`, `[n, d]`.
    pub(super) left: Vec<R>,
    /// `∂/∂R`, `[n, d]`.
    pub(super) right: Vec<R>,
}

/// What the loss is taken of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a, R> {
    pub(super) path: Path,
    pub(super) lanes: LaneStarts<'a>,
    /// Unit rows (or zero), `[rows, d]`.
    pub(super) x: &'a [R],
    pub(super) d: usize,
    pub(super) left: &'a [R],
    pub(super) right: &'a [R],
    /// Weight of the density.
    pub(super) alpha: f64,
    /// Whether all prefixes of the latents reconstruct.
    pub(super) ordered: bool,
}

impl<R: Real> Problem<'_, R> {
    /// Of features of these rows.
    pub(super) fn gradient(&self, features: &Features<R>) -> Gradient<R> {
        let n = self.left.len() / self.d;
        let rows = self.x.len() / self.d;
        let (mut slope, density) = self.density(&features.f, n);
        let sides = (Panels::of_columns(self.left, self.d), Panels::of_columns(self.right, self.d));
        let turned = (Panels::of_rows(self.left, self.d), Panels::of_rows(self.right, self.d));
        let norms = self.x.par_chunks_exact(self.d).map(|x| vector::dot(x, x).f64().powi(2));
        let mut loss = norms.collect::<Vec<f64>>().iter().sum::<f64>();
        let mut out = Gradient { loss: 0.0, left: Vec::new(), right: Vec::new() };
        for first in (0..n).step_by(PANEL) {
            let latents = first..(first + PANEL).min(n);
            let rows_of = |side: &[R]| side[latents.start * self.d..latents.end * self.d].to_vec();
            let ll = product::product(self.path, &rows_of(self.left), &turned.0);
            let rr = product::product(self.path, &rows_of(self.right), &turned.1);
            let mut k = product_of(&ll, &rr);
            self.order(&mut k, n, first);
            let f = columns(&features.f, n, latents.clone());
            let fk = product::product(self.path, &features.f, &Panels::of_rows(&k, n));
            let shares: Vec<R> = latents.clone().map(|latent| R::of(self.share(latent, n))).collect();
            let own = |((&f, fk), share): ((&R, &R), &R)| f.f64() * (fk.f64() - 2.0 * (*share * f).f64());
            loss += f.iter().zip(&fk).zip(shares.iter().cycle()).map(own).sum::<f64>();
            let scale = R::of(2.0 / rows as f64);
            let mut g = columns(&slope, n, latents.clone());
            let terms = g.par_chunks_mut(shares.len()).zip(f.par_chunks(shares.len()));
            terms.zip(fk.par_chunks(shares.len())).for_each(|((g, f), fk)| {
                for (((g, &f), &fk), &share) in g.iter_mut().zip(f).zip(fk).zip(&shares) {
                    let f = share * f;
                    *g += scale * (fk - f - f);
                }
            });
            // 2·M, of the latents of this panel with all.
            let mut m = product::cross(self.path, self.lanes, (&f, latents.len()), (&features.f, n));
            m.par_iter_mut().for_each(|m| *m = *m * scale);
            self.order(&mut m, n, first);
            let direct = |other: &[R]| {
                let weights = product_of(&g, &columns(other, n, latents.clone()));
                product::cross(self.path, self.lanes, (&weights, latents.len()), (self.x, self.d))
            };
            let through =
                |gram: &[R], side: &Panels<R>| product::product(self.path, &product_of(&m, gram), side);
            out.left.extend(sum_of(&direct(&features.b), &through(&rr, &sides.0)));
            out.right.extend(sum_of(&direct(&features.a), &through(&ll, &sides.1)));
        }
        slope.clear();
        out.loss = loss / rows as f64 + self.alpha * density;
        out
    }

    /// Share of the dictionaries that hold a latent.
    fn share(&self, latent: usize, n: usize) -> f64 {
        if self.ordered { (n - latent) as f64 / n as f64 } else { 1.0 }
    }

    /// Multiplies the entry of each two latents by the share of the later one; rows are latents from `first`
    /// on, columns all `n`.
    fn order(&self, matrix: &mut [R], n: usize, first: usize) {
        if !self.ordered {
            return;
        }
        let shares: Vec<R> = (0..n).map(|latent| R::of(self.share(latent, n))).collect();
        matrix.par_chunks_mut(n).enumerate().for_each(|(row, entries)| {
            let at = first + row;
            entries.iter_mut().zip(&shares).enumerate().for_each(|(other, (entry, &share))| {
                *entry = *entry * if other < at { shares[at] } else { share };
            });
        });
    }

    /// `α/rows·∂h/∂f` of all rows, and the mean of `h = (‖f‖₁/‖f‖₂ − 1)/(√n − 1)`: 1 if all latents are
    /// equal, 0 if there is one (`tdooms/bae`, `hoyer_density`).
    fn density(&self, f: &[R], n: usize) -> (Vec<R>, f64) {
        let rows = f.len() / n;
        let span = (n as f64).sqrt() - 1.0;
        let mut slope = vec![R::ZERO; f.len()];
        if self.alpha == 0.0 || n < 2 {
            return (slope, 0.0);
        }
        let of = |(f, slope): (&[R], &mut [R])| {
            let l1: f64 = f.iter().map(|f| f.f64().abs()).sum();
            let l2 = f.iter().map(|f| f.f64() * f.f64()).sum::<f64>().sqrt();
            if l2 == 0.0 {
                return 0.0;
            }
            let weight = self.alpha / (rows as f64 * span * l2);
            for (slope, f) in slope.iter_mut().zip(f) {
                let sign = if *f == R::ZERO { 0.0 } else { f.f64().signum() };
                *slope = R::of(weight * (sign - l1 / (l2 * l2) * f.f64()));
            }
            (l1 / l2 - 1.0) / span
        };
        let each: Vec<f64> = f.par_chunks(n).zip(slope.par_chunks_mut(n)).map(of).collect();
        (slope, each.iter().sum::<f64>() / rows as f64)
    }
}

/// Some columns of a matrix with `n`, `[rows, columns]`.
fn columns<R: Real>(matrix: &[R], n: usize, columns: std::ops::Range<usize>) -> Vec<R> {
    matrix.chunks_exact(n).flat_map(|row| &row[columns.clone()]).copied().collect()
}

/// Element by element.
pub(super) fn product_of<R: Real>(a: &[R], b: &[R]) -> Vec<R> {
    a.par_iter().zip(b).map(|(&a, &b)| a * b).collect()
}

fn sum_of<R: Real>(a: &[R], b: &[R]) -> Vec<R> {
    a.par_iter().zip(b).map(|(&a, &b)| a + b).collect()
}
