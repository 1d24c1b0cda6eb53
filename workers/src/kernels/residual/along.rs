//! Products of a vector per row with the atoms of the row's code, where nothing is decoded.

use rayon::prelude::*;

use super::project;
use crate::{
    codes::Codes,
    kernels::{
        lanes::{self, LaneStarts, Moments},
        prefetch,
        real::Real,
        simd::{Kernel, Path},
        vector,
    },
};

/// What [`along`] finds.
#[derive(Debug, Clone)]
pub struct Along<R> {
    /// `⟨y, atom⟩` of every pair, parallel to `codes.latents`.
    pub along_atoms: Vec<R>,
    /// Of the rows of `y`.
    pub moments: Moments,
}

/// `⟨y, atom⟩` of every pair of `codes`; `y` is `[rows, d]`, atoms are `[n_latents, d]`.
pub fn along<R: Real>(
    path: Path,
    y: &[R],
    codes: &Codes,
    (w_dec, d): (&[R], usize),
    lanes: LaneStarts,
) -> Along<R> {
    let mut along_atoms = vec![R::ZERO; codes.nnz()];
    let (blocks, mut rest) = (lanes::blocks(lanes), &mut along_atoms[..]);
    let mut tasks = Vec::with_capacity(blocks.len());
    for block in &blocks {
        let pairs = codes.offsets[block.rows.end] - codes.offsets[block.rows.start];
        let (dots, later) = rest.split_at_mut(pairs);
        rest = later;
        let y = &y[block.rows.start * d..block.rows.end * d];
        tasks.push(Rows { codes, w_dec, d, first: block.rows.start, y, dots });
    }
    let sums: Vec<Moments> = tasks.into_par_iter().map(|task| path.run(task)).collect();
    Along { along_atoms, moments: lanes::total(&blocks, &sums, d) }
}

/// The rows of one block.
struct Rows<'a, R> {
    codes: &'a Codes,
    w_dec: &'a [R],
    d: usize,
    first: usize,
    y: &'a [R],
    dots: &'a mut [R],
}

impl<R: Real> Kernel for Rows<'_, R> {
    type Output = Moments;

    #[inline(always)]
    fn run(self) -> Moments {
        let Rows { codes, w_dec, d, first, y, dots } = self;
        let (mut moments, mut dots) = (Moments::zero(d), dots);
        let end = first + y.len() / d;
        for (row, y) in (first..).zip(y.chunks_exact(d)) {
            if row + 1 < end {
                for &latent in codes.row(row + 1).0 {
                    prefetch::soon(&w_dec[latent as usize * d..][..d]);
                }
            }
            let (latents, _) = codes.row(row);
            let (here, later) = std::mem::take(&mut dots).split_at_mut(latents.len());
            dots = later;
            project(y, latents, w_dec, here);
            moments.squared_norm += vector::dot(y, y).f64();
        }
        lanes::add_columns(y, d, &mut moments.column_sums);
        moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{hash, unit};

    /// Rows without a pair, and whole lanes without a row.
    #[test]
    fn every_path_equals_the_definition() {
        let (rows, n, d, lanes) = (150, 30, 23, [0, 70, 70, 150]);
        let uniform = |len: usize, stream: u64| -> Vec<f32> {
            (0..len).map(|i| unit(hash(&[stream, i as u64])) as f32 * 2.0 - 1.0).collect()
        };
        let (y, w_dec, mut codes) = (uniform(rows * d, 1), uniform(n * d, 2), Codes::new(n));
        for row in 0..rows as u64 {
            let fires = |l: &u32| hash(&[7, row, u64::from(*l)]) % n as u64 <= row % 10;
            codes.push_row((0..n as u32).filter(fires).filter(|_| row % 7 > 0).map(|l| (l, 1.0)));
        }
        let of_row = |row: usize| {
            let (y, w_dec) = (&y[row * d..][..d], &w_dec);
            codes.row(row).0.iter().map(move |&l| vector::dot(y, &w_dec[l as usize * d..][..d]))
        };
        let expected: Vec<f32> = (0..rows).flat_map(of_row).collect();
        for path in Path::available() {
            let Along { along_atoms, moments } = along(path, &y, &codes, (&w_dec, d), &lanes);
            assert_eq!(along_atoms, expected, "{path:?}");
            assert_eq!(moments, lanes::moments(path, &y, d, &lanes), "{path:?}");
        }
    }
}
