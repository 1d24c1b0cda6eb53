//! Codes by latent instead of by row: each weight gradient is written once, in one fixed order.
//!
//! Scattering by row needs atomics or a buffer per thread. Transposed, every latent owns its rows,
//! threads own latents, and the sum over rows runs lane by lane, so that one machine and several
//! machines that each hold some lanes add the same numbers in the same order.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    lanes::LaneStarts,
    real::Real,
    strip::{self, Columns, Strip},
};
use crate::codes::Codes;

/// The transpose of [`Codes`] with two weights per pair. Kept in parts, each of some consecutive
/// latents, made side by side; how many parts there are shows nowhere.
#[derive(Debug, Clone)]
pub struct ByLatent<R> {
    first: usize,
    part_latents: usize,
    parts: Vec<Part<R>>,
}

#[derive(Debug, Clone)]
struct Part<R> {
    /// Positions of each latent's entries, one more than there are latents.
    offsets: Vec<usize>,
    rows: Vec<u32>,
    decoder: Vec<R>,
    encoder: Vec<R>,
}

/// The entries of one latent, rows ascending.
#[derive(Debug, Clone, Copy)]
pub struct Entries<'a, R> {
    /// Rows the latent fires in.
    pub rows: &'a [u32],
    /// Weight of each row in the gradient of the atom.
    pub decoder: &'a [R],
    /// Weight of each row in the gradient of the encoder row.
    pub encoder: &'a [R],
}

impl<R> Entries<'_, R> {
    fn none() -> Self {
        Entries { rows: &[], decoder: &[], encoder: &[] }
    }
}

impl<R: Real> ByLatent<R> {
    /// Counting sort by latent; stable, so rows ascend. `decoder` and `encoder` run parallel to
    /// `codes.latents`. Runs on the current rayon pool, one part per thread.
    pub fn of(codes: &Codes, decoder: &[R], encoder: &[R]) -> Self {
        ByLatent::of_latents(codes, decoder, encoder, 0..codes.n_latents)
    }

    /// The same of some latents; the others have no entries.
    #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
    pub fn of_latents(codes: &Codes, decoder: &[R], encoder: &[R], latents: Range<usize>) -> Self {
        let part_latents = latents.len().div_ceil(rayon::current_num_threads()).max(1);
        let starts: Vec<usize> = latents.clone().step_by(part_latents).collect();
        let part = |&first: &usize| {
            let latents = first as u32..(first + part_latents).min(latents.end) as u32;
            Part::of(codes, decoder, encoder, latents)
        };
        ByLatent { first: latents.start, part_latents, parts: starts.par_iter().map(part).collect() }
    }

    /// Multiplies all weights by `factor`.
    pub fn scale(&mut self, factor: R) {
        let weights = self.parts.iter_mut().flat_map(|part| part.decoder.iter_mut().chain(&mut part.encoder));
        weights.for_each(|weight| *weight = *weight * factor);
    }

    /// Entries of one latent.
    #[inline(always)]
    pub fn entries(&self, latent: usize) -> Entries<'_, R> {
        let latent = latent.wrapping_sub(self.first);
        let Some(part) = self.parts.get(latent / self.part_latents) else { return Entries::none() };
        let at = latent % self.part_latents;
        if at + 1 >= part.offsets.len() {
            return Entries::none();
        }
        let span = part.offsets[at]..part.offsets[at + 1];
        Entries {
            rows: &part.rows[span.clone()],
            decoder: &part.decoder[span.clone()],
            encoder: &part.encoder[span],
        }
    }
}

impl<R: Real> Part<R> {
    #[allow(clippy::cast_possible_truncation, reason = "a step has fewer than 2^32 rows")]
    fn of(codes: &Codes, decoder: &[R], encoder: &[R], latents: Range<u32>) -> Self {
        let spans: Vec<Range<usize>> = (0..codes.rows()).map(|row| span(codes, row, &latents)).collect();
        let first = latents.start as usize;
        let mut offsets = vec![0usize; latents.len() + 1];
        for pair in spans.iter().cloned().flatten() {
            offsets[codes.latents[pair] as usize - first + 1] += 1;
        }
        (0..latents.len()).for_each(|l| offsets[l + 1] += offsets[l]);
        let (nnz, mut next) = (offsets[latents.len()], offsets.clone());
        let mut part =
            Part { offsets, rows: vec![0; nnz], decoder: vec![R::ZERO; nnz], encoder: vec![R::ZERO; nnz] };
        for (row, span) in spans.into_iter().enumerate() {
            for pair in span {
                let slot = &mut next[codes.latents[pair] as usize - first];
                part.rows[*slot] = row as u32;
                (part.decoder[*slot], part.encoder[*slot]) = (decoder[pair], encoder[pair]);
                *slot += 1;
            }
        }
        part
    }
}

/// Positions of the pairs of `row` whose latent is in `latents`; latents ascend inside a row.
fn span(codes: &Codes, row: usize, latents: &Range<u32>) -> Range<usize> {
    let start = codes.offsets[row];
    let (of_row, _) = codes.row(row);
    start + of_row.partition_point(|&l| l < latents.start)
        ..start + of_row.partition_point(|&l| l < latents.end)
}

/// Cuts ascending `rows` into the runs that lie in one lane, into `runs` (emptied first).
pub fn lane_runs(rows: &[u32], lanes: LaneStarts, runs: &mut Vec<Range<usize>>) {
    runs.clear();
    let (mut start, mut lane) = (0, 0);
    while start < rows.len() {
        while rows[start] as usize >= lanes[lane + 1] {
            lane += 1;
        }
        let end = start + rows[start..].iter().take_while(|&&row| (row as usize) < lanes[lane + 1]).count();
        runs.push(start..end);
        start = end;
    }
}

/// `total += Σ_runs Σ_{i in run} weights[i]·(y[rows[i]] − centre)`: the sum of each run apart, the
/// runs added in order. `y` is `[rows, d]`, `centre` (if any) and `total` `[d]`.
#[derive(Debug)]
pub struct SumRows<'a, R> {
    /// Lanes of `rows`.
    pub runs: &'a [Range<usize>],
    /// Which rows of `y`.
    pub rows: &'a [u32],
    /// One per row.
    pub weights: &'a [R],
    /// What is summed.
    pub y: &'a [R],
    /// Subtracted from every row of `y`.
    pub centre: Option<&'a [R]>,
    /// Where it is added.
    pub total: &'a mut [R],
}

impl<R: Real> SumRows<'_, R> {
    /// Does it.
    #[inline(always)]
    pub fn run(mut self) {
        strip::walk::<4>(self.total.len(), &mut self);
    }
}

impl<R: Real> Columns for SumRows<'_, R> {
    #[inline(always)]
    fn strip<const N: usize, const L: usize>(&mut self, at: usize) {
        let d = self.total.len();
        let mut total: Strip<R, N, L> = strip::load(self.total, at);
        let centre = match self.centre {
            Some(centre) => strip::load(centre, at),
            None => strip::zero(),
        };
        for run in self.runs {
            let mut sum = strip::zero();
            for (&row, &weight) in self.rows[run.clone()].iter().zip(&self.weights[run.clone()]) {
                let row = &self.y[row as usize * d..][..d];
                if self.centre.is_some() {
                    strip::fma_centred(weight, row, &centre, at, &mut sum);
                } else {
                    strip::fma(weight, row, at, &mut sum);
                }
            }
            strip::add(&sum, &mut total);
        }
        strip::store(&total, self.total, at);
    }
}

/// `Σ_runs Σ_{i in run} weights[i]`, run by run like [`SumRows`].
#[inline(always)]
pub fn sum_weights<R: Real>(runs: &[Range<usize>], weights: &[R]) -> R {
    let mut total = R::ZERO;
    for run in runs {
        let mut sum = R::ZERO;
        for &weight in &weights[run.clone()] {
            sum += weight;
        }
        total += sum;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::simd::{Kernel, Path};

    fn codes() -> Codes {
        let mut codes = Codes::new(4);
        codes.push_row([(0, 1.0), (3, 2.0)]);
        codes.push_row([]);
        codes.push_row([(3, 3.0)]);
        codes
    }

    #[test]
    fn the_transpose_lists_rows_ascending_whatever_the_parts() {
        for threads in [1, 2, 3, 4, 9] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let by_latent = pool.install(|| ByLatent::of(&codes(), &[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]));
            let entries = |latent| {
                let e = by_latent.entries(latent);
                (e.rows.to_vec(), e.decoder.to_vec(), e.encoder.to_vec())
            };
            assert_eq!(entries(0), (vec![0], vec![1.0], vec![4.0]));
            assert_eq!(entries(1), (vec![], vec![], vec![]));
            assert_eq!(entries(3), (vec![0, 2], vec![2.0, 3.0], vec![5.0, 6.0]));
        }
    }

    #[test]
    fn some_latents_have_the_entries_they_have_among_all() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (decoder, encoder) = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]);
            let all = ByLatent::of(&codes(), &decoder, &encoder);
            for latents in [0..4, 0..0, 1..3, 3..4] {
                let of = || ByLatent::of_latents(&codes(), &decoder, &encoder, latents.clone());
                let some = pool.install(of);
                for latent in 0..4 {
                    let expected = if latents.contains(&latent) { all.entries(latent).rows } else { &[] };
                    assert_eq!(some.entries(latent).rows, expected, "{latent} of {latents:?}");
                }
            }
        }
    }

    #[test]
    fn runs_end_where_lanes_end() {
        let runs = |rows: &[u32], lanes: &[usize]| {
            let mut runs: Vec<Range<usize>> = std::iter::once(0..1).collect();
            lane_runs(rows, lanes, &mut runs);
            runs
        };
        assert_eq!(runs(&[0, 1, 2, 3], &[0, 2, 4]), [0..2, 2..4]);
        assert_eq!(runs(&[1, 3], &[0, 1, 1, 3, 4]), [0..1, 1..2]);
        assert!(runs(&[], &[0, 4]).is_empty());
    }

    struct Sum<'a>(SumRows<'a, f32>);

    impl Kernel for Sum<'_> {
        type Output = ();

        #[inline(always)]
        fn run(self) {
            self.0.run();
        }
    }

    fn sum(
        path: Path,
        lanes: &[usize],
        rows: &[u32],
        weights: &[f32],
        y: &[f32],
        centre: &[f32],
    ) -> Vec<f32> {
        let (mut runs, mut total) = (Vec::new(), vec![0.0; centre.len()]);
        lane_runs(rows, lanes, &mut runs);
        let centre = Some(centre);
        path.run(Sum(SumRows { runs: &runs, rows, weights, y, centre, total: &mut total }));
        total
    }

    #[test]
    fn lanes_are_summed_apart_and_added_in_order() {
        // 1e8 + 1 loses the 1 in f32: only the lane-wise order keeps it.
        let y = [1e8f32, 1.0, -1e8, 1.0];
        let of = |lanes: &[usize]| sum(Path::best(), lanes, &[0, 1, 2, 3], &[1.0; 4], &y, &[0.0])[0];
        assert_eq!(of(&[0, 4]), 1.0);
        assert_eq!(of(&[0, 2, 4]), 0.0);
        assert_eq!(of(&[0, 1, 1, 3, 4]), 1.0);
    }

    /// Widths that end in every kind of strip, against the definition element by element.
    #[test]
    fn every_path_and_width_equals_the_definition() {
        let (lanes, rows) = ([0, 3, 3, 8], [0u32, 2, 4, 5, 7]);
        for d in [1, 15, 16, 17, 64, 100, 128, 200] {
            let value = |i: usize| ((i * 37 + 11) % 97) as f32 / 31.0 - 1.0;
            let y: Vec<f32> = (0..8 * d).map(value).collect();
            let (weights, centre): (Vec<f32>, Vec<f32>) =
                ((0..5).map(|i| value(i + 3)).collect(), (0..d).map(|i| value(i * 5)).collect());
            let definition = |c: usize| {
                let run = |entries: Range<usize>| {
                    entries
                        .fold(0f32, |sum, i| weights[i].mul_add(y[rows[i] as usize * d + c] - centre[c], sum))
                };
                0.0 + run(0..2) + run(2..5)
            };
            let expected: Vec<f32> = (0..d).map(definition).collect();
            for path in Path::available() {
                assert_eq!(sum(path, &lanes, &rows, &weights, &y, &centre), expected, "{path:?} d={d}");
            }
        }
    }
}
