//! What a sparse code leaves unexplained: decode, error and the gradient of the code values in one
//! walk over the rows, while a row's atoms are still in the cache.
//!
//! Apart, the error would be written and read three times more and every atom gathered twice, the
//! second time from memory again: at `d_in` 768 and k 32 a row's atoms are 96 KiB, more than L1 and
//! far less than L2.

mod along;
mod few;

use rayon::prelude::*;

pub use self::{
    along::{Along, along},
    few::residual_of_few,
};
use super::{
    gather::decoded,
    lanes::{self, Block, LaneStarts, Moments},
    prefetch,
    real::Real,
    simd::{Kernel, Path},
    strip::{self, Columns, Strip},
    vector,
};
use crate::codes::Codes;

/// A sparse code and the atoms it refers to.
#[derive(Debug, Clone, Copy)]
pub struct Coded<'a, R> {
    /// Which latents.
    pub codes: &'a Codes,
    /// Their values, parallel to `codes.latents`.
    pub values: &'a [R],
    /// Atoms `[n_latents, d]`.
    pub w_dec: &'a [R],
    /// Added to every decoded row, `[d]`.
    pub offset: &'a [R],
}

/// `e = target − offset − codes·w_dec` and what backward needs of it.
#[derive(Debug, Clone)]
pub struct Residual<R> {
    /// `[rows, d]`.
    pub e: Vec<R>,
    /// `⟨e, atom⟩` of every pair, parallel to `codes.latents`.
    pub along_atoms: Vec<R>,
    /// Of the rows of `e`.
    pub moments: Moments,
}

/// The residual of `target`, `[rows, d]`. `room` is memory to reuse for it, of any length.
pub fn residual<R: Real>(
    path: Path,
    target: &[R],
    coded: &Coded<R>,
    lanes: LaneStarts,
    mut room: Vec<R>,
) -> Residual<R> {
    let d = coded.offset.len();
    room.resize(target.len(), R::ZERO);
    let mut along_atoms = vec![R::ZERO; coded.codes.nnz()];
    let blocks = lanes::blocks(lanes);
    let tasks = cut(&blocks, target, coded, &mut room, &mut along_atoms);
    let sums: Vec<Moments> = tasks.into_par_iter().map(|task| path.run(task)).collect();
    Residual { e: room, along_atoms, moments: lanes::total(&blocks, &sums, d) }
}

/// The rows of one block, cut out of everything that is per row.
struct Rows<'a, R> {
    coded: &'a Coded<'a, R>,
    first: usize,
    target: &'a [R],
    e: &'a mut [R],
    along_atoms: &'a mut [R],
}

fn cut<'a, R: Real>(
    blocks: &[Block],
    target: &'a [R],
    coded: &'a Coded<'a, R>,
    mut e: &'a mut [R],
    mut along_atoms: &'a mut [R],
) -> Vec<Rows<'a, R>> {
    let (d, offsets) = (coded.offset.len(), &coded.codes.offsets);
    let mut tasks = Vec::with_capacity(blocks.len());
    for block in blocks {
        let (here, rest) = e.split_at_mut(block.rows.len() * d);
        let pairs = offsets[block.rows.end] - offsets[block.rows.start];
        let (dots, later) = along_atoms.split_at_mut(pairs);
        (e, along_atoms) = (rest, later);
        let target = &target[block.rows.start * d..block.rows.end * d];
        tasks.push(Rows { coded, first: block.rows.start, target, e: here, along_atoms: dots });
    }
    tasks
}

impl<R: Real> Kernel for Rows<'_, R> {
    type Output = Moments;

    #[inline(always)]
    fn run(self) -> Moments {
        let (d, offsets) = (self.coded.offset.len(), &self.coded.codes.offsets);
        let mut moments = Moments::zero(d);
        let rows = self.target.chunks_exact(d).zip(self.e.chunks_exact_mut(d));
        let start = offsets[self.first];
        let n_rows = self.target.len() / d;
        for (row, (target, e)) in (self.first..).zip(rows) {
            let span = offsets[row]..offsets[row + 1];
            let dots = &mut self.along_atoms[span.start - start..span.end - start];
            let (latents, values) = (&self.coded.codes.latents[span.clone()], &self.coded.values[span]);
            if row + 1 < self.first + n_rows {
                for &latent in self.coded.codes.row(row + 1).0 {
                    prefetch::soon(&self.coded.w_dec[latent as usize * d..][..d]);
                }
            }
            strip::walk::<4>(d, &mut ErrorRow { coded: self.coded, latents, values, target, e });
            moments.squared_norm += vector::dot(e, e).f64();
            project(e, latents, self.coded.w_dec, dots);
        }
        lanes::add_columns(self.e, d, &mut moments.column_sums);
        moments
    }
}

/// `e = target − offset − Σ value·atom` for one row.
pub(super) struct ErrorRow<'a, R> {
    pub(super) coded: &'a Coded<'a, R>,
    pub(super) latents: &'a [u32],
    pub(super) values: &'a [R],
    pub(super) target: &'a [R],
    pub(super) e: &'a mut [R],
}

impl<R: Real> Columns for ErrorRow<'_, R> {
    #[inline(always)]
    fn strip<const N: usize, const L: usize>(&mut self, at: usize) {
        let (w_dec, offset) = (self.coded.w_dec, self.coded.offset);
        let x_hat: Strip<R, N, L> = decoded(self.latents, self.values, w_dec, offset, at);
        let mut e: Strip<R, N, L> = strip::load(self.target, at);
        for n in 0..N {
            for i in 0..L {
                e[n][i] = e[n][i] - x_hat[n][i];
            }
        }
        strip::store(&e, self.e, at);
    }
}

/// `dots[j] = ⟨e, w_dec[latents[j]]⟩`, four at a time: one dot product alone waits for its own sums.
#[inline(always)]
pub(super) fn project<R: Real>(e: &[R], latents: &[u32], w_dec: &[R], dots: &mut [R]) {
    let d = e.len();
    let (fours, rest) = latents.as_chunks::<4>();
    let (dots_of_four, dots_of_rest) = dots.as_chunks_mut::<4>();
    for (latents, dots) in fours.iter().zip(dots_of_four) {
        let mut atoms = [e; 4];
        for j in 0..4 {
            atoms[j] = &w_dec[latents[j] as usize * d..][..d];
        }
        *dots = vector::dot4(e, atoms);
    }
    // The last ones with a fourth more than once: two or three single products take as long each.
    if let Some(&last) = rest.last() {
        let atom = |j: usize| &w_dec[*rest.get(j).unwrap_or(&last) as usize * d..][..d];
        let four = vector::dot4(e, [atom(0), atom(1), atom(2), atom(3)]);
        dots_of_rest.copy_from_slice(&four[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    fn uniform(n: usize, stream: u64) -> Vec<f32> {
        (0..n).map(|i| (unit(hash(&[stream, i as u64])) * 2.0 - 1.0) as f32).collect()
    }

    /// Signed values, rows of 0 to 9 pairs.
    fn code(rows: usize, n: usize) -> Codes {
        let mut codes = Codes::new(n);
        for row in 0..rows as u64 {
            let fires = |l: &u32| hash(&[7, row, u64::from(*l)]) % n as u64 <= row % 10;
            let pairs =
                (0..n as u32).filter(fires).map(|l| (l, unit(hash(&[8, row, l.into()])) as f32 - 0.5));
            codes.push_row(pairs.collect::<Vec<_>>());
        }
        codes
    }

    /// Decode, subtract, square and project, each by itself and element by element.
    #[test]
    fn every_path_and_width_equals_the_definition() {
        let (rows, n, lanes) = (150, 30, [0, 70, 70, 150]);
        let codes = code(rows, n);
        let latents: Vec<u32> = (0..n as u32).collect();
        for d in [1, 7, 16, 33, 64, 100, 144] {
            let (x, w_dec, offset) = (uniform(rows * d, 1), uniform(n * d, 2), uniform(d, 3));
            let coded = Coded { codes: &codes, values: &codes.values, w_dec: &w_dec, offset: &offset };
            let (mut e, mut along_atoms) = (x.clone(), Vec::new());
            for (r, e) in e.chunks_mut(d).enumerate() {
                let (latents, values) = codes.row(r);
                for c in 0..d {
                    let pairs = latents.iter().zip(values);
                    e[c] -= pairs.fold(offset[c], |sum, (&l, &v)| v.mul_add(w_dec[l as usize * d + c], sum));
                }
                along_atoms.extend(latents.iter().map(|&l| vector::dot(e, &w_dec[l as usize * d..][..d])));
            }
            let squares: f64 = e.iter().map(|&v| f64::from(v).powi(2)).sum();
            for path in Path::available() {
                let fast = residual(path, &x, &coded, &lanes, vec![f32::NAN; 9]);
                assert_eq!(fast.e, e, "{path:?} d={d}");
                assert_eq!(fast.along_atoms, along_atoms, "{path:?} d={d}");
                let few = residual_of_few(path, &x, &coded, &latents, &lanes, vec![f32::NAN; 9]);
                assert_eq!((&few.e, &few.along_atoms), (&e, &along_atoms), "{path:?} d={d}");
                assert_eq!(few.moments, fast.moments, "{path:?} d={d}");
                assert!((fast.moments.squared_norm - squares).abs() < 1e-5 * squares, "{path:?} d={d}");
                let sums = (0..d).map(|c| e.chunks(d).map(|row| f64::from(row[c])).sum::<f64>());
                fast.moments.column_sums.iter().zip(sums).for_each(|(a, b)| assert!((a - b).abs() < 1e-9));
            }
        }
    }
}
