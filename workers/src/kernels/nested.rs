//! What each prefix of a dictionary leaves unexplained, in one walk over the rows.
//!
//! Latents ascend inside a row, so the pairs of a prefix come first: each atom is gathered once for all
//! prefixes, and what differs between them is one vector a row.

use rayon::prelude::*;

use super::{
    lanes::{self, Block, LaneStarts, Moments},
    prefetch,
    real::Real,
    residual::{Coded, ErrorRow, project},
    simd::{Kernel, Path},
    strip, vector,
};

/// Residuals of nested reconstructions and what backward needs of them. Prefix `j` has the latents below
/// `ends[j]`, and `e_j` is what it leaves.
#[derive(Debug, Clone)]
pub struct Nested<R> {
    /// Per prefix: `Σ_{l ≥ j} weights[l]·e_l`, `[rows, d]`, the weight of the last being 1: so the last is
    /// the residual of all latents.
    pub suffixes: Vec<Vec<R>>,
    /// Per pair: `⟨suffix of the first prefix that has it, atom⟩`.
    pub along_atoms: Vec<R>,
    /// `Σ‖e_j‖²` of each prefix.
    pub squared_errors: Vec<f64>,
    /// Of the residual of all latents.
    pub moments: Moments,
    /// Column sums of the first suffix, `[d]`.
    pub column_sums: Vec<f64>,
}

/// Where prefixes end, and what the errors they leave weigh against that of the last, whose weight is 1.
#[derive(Debug, Clone, Copy)]
pub struct Prefixes<'a, R> {
    /// Ascending; the last is the number of latents.
    pub ends: &'a [usize],
    /// One per prefix.
    pub weights: &'a [R],
}

/// The residuals of `target`, `[rows, d]`. `rooms` are as many buffers to reuse as there are prefixes.
pub fn nested<R: Real>(
    path: Path,
    target: &[R],
    coded: &Coded<R>,
    prefixes: Prefixes<R>,
    lanes: LaneStarts,
    mut rooms: Vec<Vec<R>>,
) -> Nested<R> {
    let d = coded.offset.len();
    rooms.resize_with(prefixes.ends.len(), Vec::new);
    rooms.iter_mut().for_each(|room| room.resize(target.len(), R::ZERO));
    let mut along_atoms = vec![R::ZERO; coded.codes.nnz()];
    let blocks = lanes::blocks(lanes);
    let tasks = cut(&blocks, target, coded, prefixes, &mut rooms, &mut along_atoms);
    let sums: Vec<Sums> = tasks.into_par_iter().map(|task| path.run(task)).collect();
    let total =
        |of: &dyn Fn(&Sums) -> Moments, d| lanes::total(&blocks, &sums.iter().map(of).collect::<Vec<_>>(), d);
    let square = |j: usize| total(&|sums: &Sums| sums.square(j), 0).squared_norm;
    let squared_errors = (0..prefixes.ends.len()).map(square).collect();
    let moments = total(&|sums: &Sums| sums.last.clone(), d);
    let column_sums = total(&|sums: &Sums| sums.first.clone(), d).column_sums;
    Nested { suffixes: rooms, along_atoms, squared_errors, moments, column_sums }
}

/// Sums over one block of rows.
struct Sums {
    squares: Vec<f64>,
    last: Moments,
    first: Moments,
}

impl Sums {
    fn square(&self, prefix: usize) -> Moments {
        Moments { squared_norm: self.squares[prefix], column_sums: Vec::new() }
    }
}

/// The rows of one block, cut out of everything that is per row.
struct Rows<'a, R> {
    coded: &'a Coded<'a, R>,
    prefixes: Prefixes<'a, R>,
    first: usize,
    target: &'a [R],
    levels: Vec<&'a mut [R]>,
    along_atoms: &'a mut [R],
}

fn cut<'a, R: Real>(
    blocks: &[Block],
    target: &'a [R],
    coded: &'a Coded<'a, R>,
    prefixes: Prefixes<'a, R>,
    rooms: &'a mut [Vec<R>],
    mut along_atoms: &'a mut [R],
) -> Vec<Rows<'a, R>> {
    let (d, offsets) = (coded.offset.len(), &coded.codes.offsets);
    let mut left: Vec<&'a mut [R]> = rooms.iter_mut().map(|room| &mut room[..]).collect();
    let mut tasks = Vec::with_capacity(blocks.len());
    for block in blocks {
        let mut levels = Vec::with_capacity(left.len());
        for rest in &mut left {
            let (here, later) = std::mem::take(rest).split_at_mut(block.rows.len() * d);
            levels.push(here);
            *rest = later;
        }
        let pairs = offsets[block.rows.end] - offsets[block.rows.start];
        let (dots, later) = along_atoms.split_at_mut(pairs);
        along_atoms = later;
        let target = &target[block.rows.start * d..block.rows.end * d];
        tasks.push(Rows { coded, prefixes, first: block.rows.start, target, levels, along_atoms: dots });
    }
    tasks
}

impl<R: Real> Kernel for Rows<'_, R> {
    type Output = Sums;

    #[inline(always)]
    fn run(mut self) -> Sums {
        let (d, last) = (self.coded.offset.len(), self.levels.len() - 1);
        let rows = self.target.len() / d;
        let zero = vec![R::ZERO; d];
        let mut ends = vec![0; self.levels.len()];
        let mut sums =
            Sums { squares: vec![0.0; ends.len()], last: Moments::zero(d), first: Moments::zero(d) };
        for row in 0..rows {
            if row + 1 < rows {
                for &latent in self.coded.codes.row(self.first + row + 1).0 {
                    prefetch::soon(&self.coded.w_dec[latent as usize * d..][..d]);
                }
            }
            self.cut_row(row, &mut ends);
            self.errors(row, &ends, &zero, &mut sums.squares);
            self.suffixes(row, &ends);
        }
        sums.last.squared_norm = sums.squares[last];
        lanes::add_columns(self.levels[last], d, &mut sums.last.column_sums);
        lanes::add_columns(self.levels[0], d, &mut sums.first.column_sums);
        sums
    }
}

impl<R: Real> Rows<'_, R> {
    /// Where the pairs of each prefix end in the row.
    #[inline(always)]
    fn cut_row(&self, row: usize, ends: &mut [usize]) {
        let (latents, _) = self.coded.codes.row(self.first + row);
        for (end, &limit) in ends.iter_mut().zip(self.prefixes.ends) {
            *end = latents.partition_point(|&latent| (latent as usize) < limit);
        }
    }

    /// `e_j = e_{j−1} − what the pairs between them decode to`.
    #[inline(always)]
    fn errors(&mut self, row: usize, ends: &[usize], zero: &[R], squares: &mut [f64]) {
        let (d, at) = (zero.len(), self.coded.codes.offsets[self.first + row]);
        let span = row * d..(row + 1) * d;
        let mut begin = 0;
        for (j, &end) in ends.iter().enumerate() {
            let (before, from_here) = self.levels.split_at_mut(j);
            let (target, offset) = match before.last() {
                Some(before) => (&before[span.clone()], zero),
                None => (&self.target[span.clone()], self.coded.offset),
            };
            let e = &mut from_here[0][span.clone()];
            let coded = Coded { offset, ..*self.coded };
            let latents = &coded.codes.latents[at + begin..at + end];
            let values = &coded.values[at + begin..at + end];
            strip::walk::<4>(d, &mut ErrorRow { coded: &coded, latents, values, target, e });
            squares[j] += vector::dot(e, e).f64();
            begin = end;
        }
    }

    /// From errors to their weighted sums from a prefix on, and the products with the atoms it adds.
    #[inline(always)]
    fn suffixes(&mut self, row: usize, ends: &[usize]) {
        let d = self.coded.offset.len();
        let (offsets, span) = (&self.coded.codes.offsets, row * d..(row + 1) * d);
        let at = offsets[self.first + row];
        let dots = at - offsets[self.first];
        for j in (0..ends.len()).rev() {
            let (here, after) = self.levels.split_at_mut(j + 1);
            let e = &mut here[j][span.clone()];
            if let Some(after) = after.first() {
                let weight = self.prefixes.weights[j];
                let after = &after[span.clone()];
                e.iter_mut().zip(after).for_each(|(e, &sum)| *e = weight.fma(*e, sum));
            }
            let begin = if j == 0 { 0 } else { ends[j - 1] };
            let latents = &self.coded.codes.latents[at + begin..at + ends[j]];
            project(e, latents, self.coded.w_dec, &mut self.along_atoms[dots + begin..dots + ends[j]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        codes::Codes,
        kernels::residual::residual,
        random::{hash, unit},
    };

    fn uniform(n: usize, stream: u64) -> Vec<f64> {
        (0..n).map(|i| unit(hash(&[stream, i as u64])) * 2.0 - 1.0).collect()
    }

    /// Each prefix by itself, with the kernel for one.
    #[test]
    fn prefixes_equal_reconstructions_of_their_own() {
        let (rows, n, d, lanes) = (150, 30, 23, [0, 70, 70, 150]);
        let (ends, weights) = ([4, 11, 30], [0.5, 2.0, 1.0]);
        let mut codes = Codes::new(n);
        for row in 0..rows as u64 {
            let fires = |l: &u32| hash(&[7, row, u64::from(*l)]) % n as u64 <= row % 10;
            let pairs = (0..n as u32).filter(fires).map(|l| (l, unit(hash(&[8, row, l.into()])) as f32));
            codes.push_row(pairs.collect::<Vec<_>>());
        }
        let values: Vec<f64> = codes.values.iter().map(|&v| f64::from(v)).collect();
        let (x, w_dec, offset) = (uniform(rows * d, 1), uniform(n * d, 2), uniform(d, 3));
        let of_prefix = |end: usize| {
            let kept = |i: &usize| (codes.latents[*i] as usize) < end;
            let zeroed: Vec<f64> =
                (0..values.len()).map(|i| if kept(&i) { values[i] } else { 0.0 }).collect();
            let coded = Coded { codes: &codes, values: &zeroed, w_dec: &w_dec, offset: &offset };
            residual(Path::Portable, &x, &coded, &lanes, Vec::new())
        };
        let apart = ends.map(of_prefix);
        let suffix = |j: usize| -> Vec<f64> {
            (0..rows * d).map(|i| (j..3).map(|l| weights[l] * apart[l].e[i]).sum()).collect()
        };
        for path in Path::available() {
            let coded = Coded { codes: &codes, values: &values, w_dec: &w_dec, offset: &offset };
            let prefixes = Prefixes { ends: &ends, weights: &weights };
            let fast = nested(path, &x, &coded, prefixes, &lanes, vec![vec![f64::NAN; 7]]);
            let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{path:?}: {a} is not {b}");
            for (j, apart) in apart.iter().enumerate() {
                near(fast.squared_errors[j], apart.moments.squared_norm);
                fast.suffixes[j].iter().zip(suffix(j)).for_each(|(&a, b)| near(a, b));
            }
            let sums = |y: &[f64], c: usize| y.chunks(d).map(|row| row[c]).sum::<f64>();
            for c in 0..d {
                near(fast.column_sums[c], sums(&suffix(0), c));
                near(fast.moments.column_sums[c], sums(&apart[2].e, c));
            }
            for row in 0..rows {
                for i in codes.offsets[row]..codes.offsets[row + 1] {
                    let latent = codes.latents[i] as usize;
                    let group = ends.iter().filter(|&&end| latent >= end).count();
                    let y = &suffix(group)[row * d..][..d];
                    near(fast.along_atoms[i], vector::dot(y, &w_dec[latent * d..][..d]));
                }
            }
        }
    }
}
