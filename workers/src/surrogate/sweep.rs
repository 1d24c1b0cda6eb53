//! One pass of block coordinate descent over the atoms (Mairal et al. 2010, Algorithm 2).
//!
//! `d_j ← d_j + (B_j − A_j·D)/A_jj`, projected; every atom sees those before it as they are by now.
//! Atom by atom that is `n_latents` products of a vector with the whole dictionary from memory. Here
//! `A·D` of a group of atoms is one dense product, and inside the group each atom's change is taken out
//! of the atoms after it: the same sums at the speed of a matrix product.

use rayon::prelude::*;

use super::Statistics;
use crate::kernels::{
    Path, Real,
    product::{COLS, Panels, interleave, tile},
    simd::Kernel,
    vector,
};

/// Atoms of a group: a multiple of every tile's height.
const GROUP: usize = 24;
/// Below this `A_jj` an atom has nothing to go by (scikit-learn, SPAMS).
pub const UNUSED: f64 = 1e-6;

/// Whether this `A_jj` says that atom `j` is used; NaN does not.
pub fn used<R: Real>(a: R) -> bool {
    a.f64() > UNUSED
}

/// What atoms must satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Constraint {
    /// Elements are not negative.
    pub positive: bool,
    /// Norm 1 instead of at most 1.
    pub unit: bool,
}

/// Sweeps once over all atoms `[n_latents, d]` that are used. Runs on the current rayon pool.
pub fn sweep<R: Real>(path: Path, statistics: &Statistics<R>, constraint: Constraint, atoms: &mut [R]) {
    let mut panels = Panels::of_columns(atoms, statistics.d);
    for first in (0..statistics.n_latents()).step_by(GROUP) {
        match path {
            Path::Avx512 => group::<R, 12>(path, statistics, constraint, first, &mut panels),
            _ => group::<R, 3>(path, statistics, constraint, first, &mut panels),
        }
    }
    panels.columns_into(atoms);
}

/// The atoms `first..first + GROUP`.
fn group<R: Real, const ROWS: usize>(
    path: Path,
    s: &Statistics<R>,
    constraint: Constraint,
    first: usize,
    panels: &mut Panels<R>,
) {
    let n = s.n_latents();
    let a = &s.a[first * n..(first + GROUP).min(n) * n];
    let tiles = interleave::<R, ROWS>(a, n);
    let all: Vec<&[R]> = panels.panels().collect();
    let residual =
        |(p, panel): (usize, &&[R])| path.run(Residual::<R, ROWS> { s, tiles: &tiles, first, p, panel });
    let residuals: Vec<Vec<R>> = all.par_iter().enumerate().map(residual).collect();
    path.run(Settle { a, n, first, constraint, residuals, panels });
}

/// `B − A·D` of a group at the columns of one panel, `[GROUP, COLS]`.
struct Residual<'a, R, const ROWS: usize> {
    s: &'a Statistics<R>,
    tiles: &'a [R],
    first: usize,
    p: usize,
    panel: &'a [R],
}

impl<R: Real, const ROWS: usize> Kernel for Residual<'_, R, ROWS> {
    type Output = Vec<R>;

    #[inline(always)]
    fn run(self) -> Vec<R> {
        let (n, d) = (self.s.n_latents(), self.s.d);
        let columns = self.p * COLS..((self.p + 1) * COLS).min(d);
        let mut out = vec![R::ZERO; GROUP * COLS];
        for (t, rows) in self.tiles.chunks_exact(n * ROWS).enumerate() {
            let product = tile::<R, ROWS>(rows, self.panel);
            for (r, sums) in product.iter().enumerate().take((n - self.first).saturating_sub(t * ROWS)) {
                let row = t * ROWS + r;
                let b = &self.s.b[(self.first + row) * d..][columns.clone()];
                let out = &mut out[row * COLS..][..COLS];
                out.iter_mut().zip(b.iter().zip(sums)).for_each(|(out, (&b, &sum))| *out = b - sum);
            }
        }
        out
    }
}

/// The sequential part: the atoms of a group one after the other.
struct Settle<'a, R> {
    /// Rows of `A` of the group.
    a: &'a [R],
    n: usize,
    first: usize,
    constraint: Constraint,
    /// `B − A·D` by panel.
    residuals: Vec<Vec<R>>,
    panels: &'a mut Panels<R>,
}

impl<R: Real> Kernel for Settle<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run(mut self) {
        let mut delta = vec![R::ZERO; self.residuals.len() * COLS];
        for (at, a) in self.a.chunks_exact(self.n).enumerate() {
            let scale = a[self.first + at];
            if used(scale) {
                self.move_atom(at, R::ONE / scale, &mut delta);
                self.pass_on(at, &a[self.first..], &delta);
            }
        }
    }
}

impl<R: Real> Settle<'_, R> {
    /// Moves atom `at` of the group; `delta` becomes its change.
    #[inline(always)]
    fn move_atom(&mut self, at: usize, rate: R, delta: &mut [R]) {
        let row = (self.first + at) * COLS;
        let panels = self.panels.panels_mut().zip(&self.residuals).zip(delta.chunks_exact_mut(COLS));
        let mut square = R::ZERO;
        for ((panel, residual), new) in panels {
            let old = &panel[row..row + COLS];
            for ((new, &r), &old) in new.iter_mut().zip(&residual[at * COLS..][..COLS]).zip(old) {
                let value = rate.fma(r, old);
                *new = if self.constraint.positive && value < R::ZERO { R::ZERO } else { value };
            }
            square += vector::dot(new, new);
        }
        let shrink = self.constraint.scale(square);
        for (panel, new) in self.panels.panels_mut().zip(delta.chunks_exact_mut(COLS)) {
            for (new, old) in new.iter_mut().zip(&mut panel[row..row + COLS]) {
                let (value, before) = (*new * shrink, *old);
                (*old, *new) = (value, value - before);
            }
        }
    }

    /// Takes the change of atom `at` out of the residuals of those after it.
    #[inline(always)]
    fn pass_on(&mut self, at: usize, a: &[R], delta: &[R]) {
        let group = self.a.len() / self.n;
        for (residual, delta) in self.residuals.iter_mut().zip(delta.chunks_exact(COLS)) {
            for (after, out) in residual.chunks_exact_mut(COLS).enumerate().take(group).skip(at + 1) {
                vector::axpy(-a[after], delta, out);
            }
        }
    }
}

impl Constraint {
    /// What an atom of this squared norm is multiplied with.
    #[inline(always)]
    fn scale<R: Real>(self, square: R) -> R {
        let fine = square > R::ZERO && square.is_finite();
        if fine && (self.unit || square > R::ONE) { R::ONE / square.sqrt() } else { R::ONE }
    }
}

#[cfg(test)]
mod tests;
