//! A Cholesky factor that grows by one row at a time: least squares on a support that is being chosen.

use crate::kernels::{Real, vector};

/// Smallest pivot, as a share of the diagonal: below it a row is taken for a combination of the others.
pub const LEAST_PIVOT: f64 = 1e-6;

/// `L` of `L·Lᵀ = M`, rows packed one after the other.
#[derive(Debug, Clone, Default)]
pub struct Cholesky<R> {
    len: usize,
    packed: Vec<R>,
}

impl<R: Real> Cholesky<R> {
    /// Back to no rows.
    #[inline(always)]
    pub fn clear(&mut self) {
        self.len = 0;
        self.packed.clear();
    }

    /// Number of rows.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no rows.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline(always)]
    fn row(&self, i: usize) -> &[R] {
        &self.packed[i * (i + 1) / 2..][..i + 1]
    }

    /// Adds the row of `M` that has `cross` left of its `diagonal`. False, and nothing changes, if what
    /// is left of the diagonal is at most [`LEAST_PIVOT`] of it, or is not a number.
    #[inline(always)]
    pub fn push(&mut self, cross: impl Iterator<Item = R>, diagonal: R) -> bool {
        let start = self.packed.len();
        self.packed.extend(cross.take(self.len));
        let mut pivot = diagonal;
        for i in 0..self.len {
            let (done, new) = self.packed.split_at_mut(start);
            let row = &done[i * (i + 1) / 2..][..i + 1];
            let value = (new[i] - vector::dot(&row[..i], &new[..i])) / row[i];
            new[i] = value;
            pivot = (-value).fma(value, pivot);
        }
        let fine = pivot > diagonal * R::of(LEAST_PIVOT);
        if fine {
            self.packed.push(pivot.sqrt());
            self.len += 1;
        } else {
            self.packed.truncate(start);
        }
        fine
    }

    /// `M⁻¹·b` in place; `b` has one element per row.
    #[inline(always)]
    pub fn solve(&self, b: &mut [R]) {
        for i in 0..self.len {
            let row = self.row(i);
            b[i] = (b[i] - vector::dot(&row[..i], &b[..i])) / row[i];
        }
        for i in (0..self.len).rev() {
            let row = self.row(i);
            b[i] = b[i] / row[i];
            let value = b[i];
            vector::axpy(-value, &row[..i], &mut b[..i]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_and_refuses_dependent_rows() {
        let m = [[4.0f64, 2.0, 0.4], [2.0, 5.0, 1.0], [0.4, 1.0, 3.0]];
        let mut factor = Cholesky::default();
        for (i, row) in m.iter().enumerate() {
            assert!(factor.push(row.iter().copied(), row[i]));
        }
        assert!(!factor.push(m[1].iter().copied(), 5.0), "the second row once more");
        assert_eq!(factor.len(), 3);
        let mut x = [1.0, -2.0, 0.5];
        factor.solve(&mut x);
        for (row, b) in m.iter().zip([1.0, -2.0, 0.5]) {
            let product: f64 = row.iter().zip(x).map(|(m, x)| m * x).sum();
            assert!((product - b).abs() < 1e-14);
        }
    }
}
