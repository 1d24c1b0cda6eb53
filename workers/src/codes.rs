//! Sparse codes: per row, (latent, value) pairs in CSR. They run through the whole system.

use std::cmp::Ordering;

use crate::kernels::Real;

/// The codes of a block of rows, compressed by row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Codes {
    /// Number of latents the codes refer to.
    pub n_latents: usize,
    /// `rows + 1` positions into `latents` and `values`.
    pub offsets: Vec<usize>,
    /// Latent of each pair, ascending inside a row.
    pub latents: Vec<u32>,
    /// Value of each pair, never zero.
    pub values: Vec<f32>,
}

impl Codes {
    /// No rows yet.
    pub fn new(n_latents: usize) -> Self {
        Codes { n_latents, offsets: vec![0], ..Codes::default() }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Latents and values of one row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let span = self.offsets[row]..self.offsets[row + 1];
        (&self.latents[span.clone()], &self.values[span])
    }

    /// Appends one row: pairs in ascending order of latent, zero values left out by the caller.
    pub fn push_row(&mut self, pairs: impl IntoIterator<Item = (u32, f32)>) {
        for (latent, value) in pairs {
            self.latents.push(latent);
            self.values.push(value);
        }
        self.offsets.push(self.latents.len());
    }

    /// Pairs in all rows.
    pub fn nnz(&self) -> usize {
        self.latents.len()
    }

    /// `Σ` of a number per pair over the pairs of each latent, in their order, `[n_latents]`.
    pub fn sum_by_latent<R: Real>(&self, per_pair: impl IntoIterator<Item = R>) -> Vec<R> {
        let mut sums = vec![0f64; self.n_latents];
        self.latents.iter().zip(per_pair).for_each(|(&latent, v)| sums[latent as usize] += v.f64());
        sums.into_iter().map(R::of).collect()
    }

    /// Codes of the `k(row)` pairs of largest value in each row (ties: lower latent), and their values;
    /// `values` runs parallel to `latents`.
    pub fn largest<R: Real>(&self, values: &[R], k: impl Fn(usize) -> usize) -> (Codes, Vec<R>) {
        let (mut codes, mut kept) = (Codes::new(self.n_latents), Vec::new());
        let mut order: Vec<usize> = Vec::new();
        for row in 0..self.rows() {
            order.clear();
            order.extend(self.offsets[row]..self.offsets[row + 1]);
            let descending = |a: &usize, b: &usize| {
                values[*b].partial_cmp(&values[*a]).unwrap_or(Ordering::Equal).then(a.cmp(b))
            };
            order.sort_unstable_by(descending);
            order.truncate(k(row));
            order.sort_unstable();
            #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
            codes.push_row(order.iter().map(|&pair| (self.latents[pair], values[pair].f64() as f32)));
            kept.extend(order.iter().map(|&pair| values[pair]));
        }
        (codes, kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_keep_their_order_and_ties_go_to_the_lower_latent() {
        let mut codes = Codes::new(9);
        codes.push_row([(1, 0.5), (3, 2.0), (4, 2.0), (8, 3.0)]);
        codes.push_row([(0, 1.0)]);
        let (kept, values) = codes.largest(&codes.values, |row| 2 - row);
        assert_eq!((kept.row(0).0, kept.row(1).0), (&[3, 8][..], &[0][..]));
        assert_eq!(values, [2.0, 3.0, 1.0]);
        assert_eq!(kept.values, values);
    }
}
