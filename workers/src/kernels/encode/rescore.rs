//! The candidates in f32: first approximately, to see which can be among the best, then exactly.

use super::{
    Encoder,
    avx512::{self, SIDE},
    candidates::Candidates,
    order,
    quantise::{Quantised, QuantisedRows, gamma},
    rows::Rows,
};
use crate::kernels::simd::Kernel;

/// A block of rows after screening.
pub(super) struct Rescore<'a> {
    pub(super) encoder: Encoder<'a, f32>,
    pub(super) weights: &'a Quantised,
    /// `[rows, d_in]`, without `b_dec`.
    pub(super) centred: &'a [f32],
    pub(super) rows: &'a QuantisedRows,
    pub(super) candidates: Candidates,
    pub(super) k: usize,
}

/// The codes of a block, and the rows that are not among them.
pub(super) struct Rescored {
    /// Empty where the row was given up.
    pub(super) rows: Rows<f32>,
    /// Rows, counted in the block, for which the bound did not separate.
    pub(super) given_up: Vec<usize>,
    /// Candidates that the integers left.
    pub(super) candidates: usize,
}

impl Kernel for Rescore<'_> {
    type Output = Rescored;

    #[inline(always)]
    fn run(mut self) -> Rescored {
        let n_rows = self.rows.step.len();
        self.candidates.prune_all();
        self.approximate();
        let candidates = self.candidates.lengths.iter().sum();
        let mut out =
            Rescored { rows: Rows::with_capacity(n_rows, n_rows * self.k), given_up: Vec::new(), candidates };
        for row in 0..n_rows {
            match self.exact(row) {
                Some(pairs) => out.rows.push(pairs),
                None => {
                    out.given_up.push(row);
                    out.rows.push([]);
                }
            }
        }
        out
    }
}

impl Rescore<'_> {
    fn row(&self, row: usize) -> &[f32] {
        &self.centred[row * self.encoder.d_in..][..self.encoder.d_in]
    }

    /// Pre-activations of all candidates as dot products, latent by latent, so that a row of weights is
    /// read once for the block. (Fewer rows at a time, to stay in L2, were slower.)
    #[inline(always)]
    fn approximate(&mut self) {
        let by_latent = ByLatent::of(&self.candidates, self.rows.step.len(), self.encoder.columns());
        for column in 0..self.encoder.columns() {
            let mut entries = by_latent.entries(column);
            if entries.is_empty() {
                continue;
            }
            let (w, bias) = (self.encoder.weights(column), self.encoder.bias(column));
            while !entries.is_empty() {
                let (now, later) = entries.split_at(entries.len().min(4));
                let x = |i: usize| self.row(now[i].0 as usize);
                let mut dots = [0f32; 4];
                match now.len() {
                    1 => dots[..1].copy_from_slice(&avx512::dots([x(0)], w)),
                    2 => dots[..2].copy_from_slice(&avx512::dots([x(0), x(1)], w)),
                    3 => dots[..3].copy_from_slice(&avx512::dots([x(0), x(1), x(2)], w)),
                    _ => dots = avx512::dots([x(0), x(1), x(2), x(3)], w),
                }
                let values = self.candidates.values_mut();
                now.iter().zip(dots).for_each(|(entry, dot)| values[entry.1 as usize] = dot + bias);
                entries = later;
            }
        }
    }

    /// The codes of one row, or `None` if the bound does not separate or the guess was too high.
    #[inline(always)]
    fn exact(&self, row: usize) -> Option<Vec<(u32, f32)>> {
        let guess = self.candidates.thresholds[row];
        if guess == f32::INFINITY {
            return None;
        }
        let span = self.candidates.span(row);
        let (bound, norm) = (gamma(self.encoder.d_in), self.rows.norm[row]);
        let slack = |column: u32| {
            let bias = self.encoder.bias(column as usize).abs();
            bound * 2.0f32.mul_add(bias, 2.0 * norm * self.weights.norm(column as usize))
        };
        let columns = self.candidates.columns(row);
        let widest = columns.iter().fold(0f32, |widest, &column| widest.max(slack(column)));
        let values = &self.candidates.values()[span];
        let reaching = values.iter().fold(0u32, |n, &v| n + u32::from(v >= 0.0)) as usize;
        let kth = if reaching >= self.k {
            (order::near_kth(values, |v| v, self.k, 0, 0.0).bound - widest).max(0.0)
        } else {
            0.0
        };
        if kth < guess {
            return None;
        }
        // What is not a number has to be looked at.
        let survives = |v: f32| v + widest >= kth || v.is_nan();
        let listed = self.candidates.columns(row).iter().zip(values);
        let mut columns: Vec<u32> = listed.filter(|(_, v)| survives(**v)).map(|(&c, _)| c).collect();
        let mut values = self.chains(row, &columns);
        Some(best(&mut columns, &mut values, self.k))
    }

    /// Pre-activations as the f32 encoder computes them, sixteen chains beside each other.
    #[inline(always)]
    fn chains(&self, row: usize, columns: &[u32]) -> Vec<f32> {
        let mut values = Vec::with_capacity(columns.len().next_multiple_of(SIDE));
        for columns in columns.chunks(SIDE) {
            let of = |c: usize| columns[c.min(columns.len() - 1)] as usize;
            let rows = std::array::from_fn(|c| self.encoder.weights(of(c)));
            let bias = std::array::from_fn(|c| self.encoder.bias(of(c)));
            values.extend(avx512::chains(self.row(row), rows, bias).unwrap_or_else(|| {
                std::array::from_fn(|c| {
                    let pairs = self.row(row).iter().zip(rows[c]);
                    pairs.fold(bias[c], |sum, (x, w)| x.mul_add(*w, sum))
                })
            }));
        }
        values.truncate(columns.len());
        values
    }
}

/// The best `k` positive pairs.
fn best(columns: &mut [u32], values: &mut [f32], k: usize) -> Vec<(u32, f32)> {
    let kept = order::retain(columns, values, |v| v > 0.0);
    let (columns, values) = (&mut columns[..kept], &mut values[..kept]);
    let kept = if kept > k {
        let kth = order::kth(values, |v| v, k);
        order::retain_best(columns, values, |v| v, k, kth)
    } else {
        kept
    };
    columns[..kept].iter().copied().zip(values[..kept].iter().copied()).collect()
}

/// Candidates by latent.
struct ByLatent {
    offsets: Vec<usize>,
    /// (row, where the value goes).
    entries: Vec<(u32, u32)>,
}

impl ByLatent {
    #[allow(clippy::cast_possible_truncation, reason = "a block has fewer than 2^32 candidates")]
    fn of(candidates: &Candidates, rows: usize, columns: usize) -> Self {
        let mut offsets = vec![0usize; columns + 2];
        for row in 0..rows {
            candidates.columns(row).iter().for_each(|&c| offsets[c as usize + 2] += 1);
        }
        (2..columns + 2).for_each(|c| offsets[c] += offsets[c - 1]);
        let mut entries = vec![(0, 0); offsets[columns + 1]];
        for row in 0..rows {
            let begin = candidates.span(row).start;
            for (i, &c) in candidates.columns(row).iter().enumerate() {
                let slot = &mut offsets[c as usize + 1];
                entries[*slot] = (row as u32, (begin + i) as u32);
                *slot += 1;
            }
        }
        ByLatent { offsets, entries }
    }

    fn entries(&self, column: usize) -> &[(u32, u32)] {
        &self.entries[self.offsets[column]..self.offsets[column + 1]]
    }
}
