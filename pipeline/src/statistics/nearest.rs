//! Nearest latents by decoder cosine: candidates from the encoder's kernel, ranked by their own products.

use std::ops::Range;

use atomflow_workers::kernels::{
    Path,
    encode::{Encoder, Screen, Selection},
    simd::Kernel,
    vector::dot,
};
use rayon::prelude::*;

/// Latents looked at beyond those asked for: a candidate is chosen by a product that is rounded once
/// more than the cosine it is ranked by.
const SLACK: usize = 8;
/// Added to every product, so that all of them are positive: the kernel selects among positive ones.
const OFFSET: f32 = 2.0;

/// For each latent of `latents`, the `count` other latents with the largest cosine, best first, ties to
/// the smaller latent. `atoms` is row-major `[n_latents, d_in]`, of unit norm or zero.
///
/// Costs `latents · n_latents · d_in` multiply-adds at the speed of the encoder. The sum of one pair has
/// a fixed order, so the number of threads does not matter.
pub fn nearest(atoms: &[f32], d_in: usize, latents: Range<usize>, count: usize) -> Vec<Vec<(u32, f32)>> {
    let (bias, zero) = (vec![OFFSET; atoms.len() / d_in], vec![0.0; d_in]);
    let of = &atoms[latents.start * d_in..latents.end * d_in];
    let selection = Selection::TopK(count + 1 + SLACK);
    let chosen =
        Encoder::all(atoms, &bias, d_in).select(Path::best(), Screen::Off, of, &zero, selection).codes;
    let ranked = |row: usize| {
        let cosines = Cosines { atoms, d_in, latent: latents.start + row, others: chosen.row(row).0 };
        let mut ranked = Path::best().run(cosines);
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        ranked.truncate(count);
        ranked
    };
    (0..latents.len()).into_par_iter().map(ranked).collect()
}

/// The cosines of one latent with some others, itself left out.
struct Cosines<'a> {
    atoms: &'a [f32],
    d_in: usize,
    latent: usize,
    others: &'a [u32],
}

impl Kernel for Cosines<'_> {
    type Output = Vec<(u32, f32)>;

    #[inline(always)]
    fn run(self) -> Vec<(u32, f32)> {
        let own = &self.atoms[self.latent * self.d_in..][..self.d_in];
        let (square, mut cosines) = (dot(own, own), Vec::with_capacity(self.others.len()));
        for &other in self.others {
            if other as usize != self.latent {
                let atom = &self.atoms[other as usize * self.d_in..][..self.d_in];
                let scale = (square * dot(atom, atom)).sqrt();
                let cosine = if scale > 0.0 { dot(own, atom) / scale } else { 0.0 };
                cosines.push((other, cosine));
            }
        }
        cosines
    }
}

#[cfg(test)]
mod tests {
    use atomflow_workers::random::{hash, unit};

    use super::*;

    #[test]
    fn nearest_equal_a_sort_of_all_cosines() {
        let (n, d) = (137, 19);
        let mut atoms: Vec<f32> = (0..n * d).map(|i| (unit(hash(&[i as u64])) - 0.5) as f32).collect();
        atoms.chunks_mut(d).for_each(atomflow_workers::kernels::vector::normalize);
        atoms[5 * d..6 * d].fill(0.0);
        atoms.copy_within(20 * d..21 * d, 40 * d);
        for (range, count) in [(0..n, 4), (30..61, 10), (3..4, n)] {
            let found = nearest(&atoms, d, range.clone(), count);
            for (latent, found) in range.zip(found) {
                let others: Vec<u32> = (0..n as u32).collect();
                let mut all = Cosines { atoms: &atoms, d_in: d, latent, others: &others }.run();
                all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                all.truncate(count);
                assert_eq!(found, all, "latent {latent}");
            }
        }
    }
}
