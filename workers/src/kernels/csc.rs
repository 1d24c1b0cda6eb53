//! Codes by latent instead of by row: each weight gradient is written once, in one fixed order.
//!
//! Scattering by row needs atomics or a buffer per thread. Transposed, every latent owns its rows,
//! threads own latents, and the sum over rows runs lane by lane, so that one machine and several
//! machines that each hold some lanes add the same numbers in the same order.

use super::{lanes::LaneStarts, real::Real, vector};
use crate::codes::Codes;

/// The transpose of [`Codes`]: per latent, the rows it fires in (ascending) and where its values are.
#[derive(Debug, Clone)]
pub struct ByLatent {
    /// `n_latents + 1` positions into `rows` and `pairs`.
    pub offsets: Vec<usize>,
    /// Row of each entry.
    pub rows: Vec<u32>,
    /// Position of each entry in the CSR arrays.
    pub pairs: Vec<u32>,
}

impl ByLatent {
    /// Counting sort by latent; stable, so rows ascend.
    #[allow(clippy::cast_possible_truncation, reason = "a step has fewer than 2^32 pairs")]
    pub fn of(codes: &Codes) -> Self {
        let mut offsets = vec![0usize; codes.n_latents + 1];
        codes.latents.iter().for_each(|&l| offsets[l as usize + 1] += 1);
        (0..codes.n_latents).for_each(|l| offsets[l + 1] += offsets[l]);
        let mut next = offsets.clone();
        let (mut rows, mut pairs) = (vec![0u32; codes.nnz()], vec![0u32; codes.nnz()]);
        for row in 0..codes.rows() {
            for pair in codes.offsets[row]..codes.offsets[row + 1] {
                let slot = &mut next[codes.latents[pair] as usize];
                (rows[*slot], pairs[*slot]) = (row as u32, pair as u32);
                *slot += 1;
            }
        }
        ByLatent { offsets, rows, pairs }
    }

    /// Entries of one latent as (row, position in the CSR arrays).
    pub fn entries(&self, latent: usize) -> impl Iterator<Item = (usize, usize)> + Clone + '_ {
        let span = self.offsets[latent]..self.offsets[latent + 1];
        self.rows[span.clone()].iter().zip(&self.pairs[span]).map(|(&r, &p)| (r as usize, p as usize))
    }
}

/// `total += Σ_lanes (Σ_{rows of the lane} weight·y[row])`, for the weights of one latent.
///
/// `y` is `[rows, d]`, `total` and `lane_sum` (scratch) `[d]`.
#[inline(always)]
pub fn add_rows_by_lane<R: Real>(
    entries: impl Iterator<Item = (usize, R)>,
    lanes: LaneStarts,
    y: &[R],
    total: &mut [R],
    lane_sum: &mut [R],
) {
    let d = total.len();
    let (mut lane, mut open) = (0, false);
    for (row, weight) in entries {
        while row >= lanes[lane + 1] {
            close(&mut open, total, lane_sum);
            lane += 1;
        }
        if !open {
            lane_sum.fill(R::ZERO);
            open = true;
        }
        vector::axpy(weight, &y[row * d..][..d], lane_sum);
    }
    close(&mut open, total, lane_sum);
}

#[inline(always)]
fn close<R: Real>(open: &mut bool, total: &mut [R], lane_sum: &[R]) {
    if std::mem::take(open) {
        vector::add(lane_sum, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes() -> Codes {
        let mut codes = Codes::new(4);
        codes.push_row([(0, 1.0), (3, 2.0)]);
        codes.push_row([]);
        codes.push_row([(3, 3.0)]);
        codes
    }

    #[test]
    fn the_transpose_lists_rows_ascending() {
        let by_latent = ByLatent::of(&codes());
        assert_eq!(by_latent.entries(0).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(by_latent.entries(1).count(), 0);
        assert_eq!(by_latent.entries(3).collect::<Vec<_>>(), [(0, 1), (2, 2)]);
    }

    #[test]
    fn lanes_are_summed_apart_and_added_in_order() {
        // 1e8 + 1 loses the 1 in f32: only the lane-wise order keeps it.
        let y = [1e8f32, 1.0, -1e8, 1.0];
        let sum = |lanes: &[usize]| {
            let (mut total, mut scratch) = ([0.0f32], [0.0f32]);
            add_rows_by_lane((0..4).map(|r| (r, 1.0)), lanes, &y, &mut total, &mut scratch);
            total[0]
        };
        assert_eq!(sum(&[0, 4]), 1.0);
        assert_eq!(sum(&[0, 2, 4]), 0.0);
        assert_eq!(sum(&[0, 1, 1, 3, 4]), 1.0);
    }
}
