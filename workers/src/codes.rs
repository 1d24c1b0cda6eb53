//! Sparse codes: per row, (latent, value) pairs in CSR. They run through the whole system.

use std::cmp::Ordering;

use rayon::prelude::*;

use crate::kernels::Real;

/// Rows that one task looks at.
const BLOCK_ROWS: usize = 256;

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

    /// The codes of some of the rows.
    #[must_use]
    pub fn of_rows(&self, rows: std::ops::Range<usize>) -> Codes {
        let span = self.offsets[rows.start]..self.offsets[rows.end];
        Codes {
            n_latents: self.n_latents,
            offsets: self.offsets[rows.start..=rows.end].iter().map(|at| at - span.start).collect(),
            latents: self.latents[span.clone()].to_vec(),
            values: self.values.get(span).map(<[f32]>::to_vec).unwrap_or_default(),
        }
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
    /// `values` runs parallel to `latents`. Runs on the current rayon pool.
    pub fn largest<R: Real>(&self, values: &[R], k: impl Fn(usize) -> usize + Sync) -> (Codes, Vec<R>) {
        self.largest_by(values, values, k)
    }

    /// The same by a score of each pair instead of its value.
    pub fn largest_by<R: Real>(
        &self,
        scores: &[R],
        values: &[R],
        k: impl Fn(usize) -> usize + Sync,
    ) -> (Codes, Vec<R>) {
        let blocks: Vec<usize> = (0..self.rows()).step_by(BLOCK_ROWS).collect();
        let of = |&first: &usize| {
            let mut kept = Vec::new();
            let rows = first..(first + BLOCK_ROWS).min(self.rows());
            let ends: Vec<usize> = rows
                .map(|row| {
                    self.add_largest(row, scores, k(row), &mut kept);
                    kept.len()
                })
                .collect();
            (ends, kept)
        };
        let (mut codes, mut all) = (Codes::new(self.n_latents), Vec::new());
        for (ends, kept) in blocks.par_iter().map(of).collect::<Vec<_>>() {
            let before = codes.nnz();
            codes.offsets.extend(ends.iter().map(|end| before + end));
            codes.latents.extend(kept.iter().map(|&pair| self.latents[pair]));
            #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
            codes.values.extend(kept.iter().map(|&pair| values[pair].f64() as f32));
            all.extend(kept.iter().map(|&pair| values[pair]));
        }
        (codes, all)
    }

    /// The pairs that `keep` accepts, given latent and value, and the others. Runs on the current rayon pool.
    pub fn partition<R: Real>(
        &self,
        values: &[R],
        keep: impl Fn(u32, R) -> bool + Sync,
    ) -> [(Codes, Vec<R>); 2] {
        let blocks: Vec<usize> = (0..self.rows()).step_by(BLOCK_ROWS).collect();
        let of = |&first: &usize| {
            let mut sides = [0, 1].map(|_| (Vec::new(), Vec::new()));
            for row in first..(first + BLOCK_ROWS).min(self.rows()) {
                let span = self.offsets[row]..self.offsets[row + 1];
                for (&latent, &value) in self.latents[span.clone()].iter().zip(&values[span]) {
                    sides[usize::from(!keep(latent, value))].1.push((latent, value));
                }
                sides.iter_mut().for_each(|(ends, pairs)| ends.push(pairs.len()));
            }
            sides
        };
        let mut out = [0, 1].map(|_| (Codes::new(self.n_latents), Vec::new()));
        for sides in blocks.par_iter().map(of).collect::<Vec<_>>() {
            for ((codes, values), (ends, pairs)) in out.iter_mut().zip(sides) {
                let before = codes.nnz();
                codes.offsets.extend(ends.iter().map(|end| before + end));
                codes.latents.extend(pairs.iter().map(|pair| pair.0));
                #[allow(clippy::cast_possible_truncation, reason = "codes are f32")]
                codes.values.extend(pairs.iter().map(|pair| pair.1.f64() as f32));
                values.extend(pairs.iter().map(|pair| pair.1));
            }
        }
        out
    }

    /// Adds the positions of the `k` largest pairs of a row to `kept`, ascending.
    fn add_largest<R: Real>(&self, row: usize, scores: &[R], k: usize, kept: &mut Vec<usize>) {
        let first = kept.len();
        kept.extend(self.offsets[row]..self.offsets[row + 1]);
        let here = &mut kept[first..];
        let descending = |a: &usize, b: &usize| {
            scores[*b].partial_cmp(&scores[*a]).unwrap_or(Ordering::Equal).then(a.cmp(b))
        };
        if k < here.len() {
            here.select_nth_unstable_by(k, descending);
            here[..k].sort_unstable();
            kept.truncate(first + k);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_has_every_pair_once() {
        let mut codes = Codes::new(9);
        for row in 0..600u32 {
            codes.push_row((0..9).filter(|l| (l + row) % 4 == 0).map(|l| (l, (l * 7 + row) as f32)));
        }
        let [(even, of_even), (odd, of_odd)] = codes.partition(&codes.values, |_, v| v % 2.0 == 0.0);
        assert_eq!((&even.values, &odd.values), (&of_even, &of_odd));
        for row in 0..600 {
            let pairs = |codes: &Codes| -> Vec<(u32, u32)> {
                codes.row(row).0.iter().zip(codes.row(row).1).map(|(&l, &v)| (l, v as u32)).collect()
            };
            let [expected, other]: [Vec<_>; 2] =
                pairs(&codes).into_iter().partition(|pair| pair.1 % 2 == 0).into();
            assert_eq!((pairs(&even), pairs(&odd)), (expected, other));
        }
    }

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
