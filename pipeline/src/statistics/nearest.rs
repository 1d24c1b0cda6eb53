//! Nearest latents by decoder cosine: exact, block by block.

use std::ops::Range;

use rayon::prelude::*;

/// Atoms compared at a time; a block of them stays in the cache.
const BLOCK: usize = 64;

/// For each latent of `latents`, the `count` other latents with the largest cosine, best first, ties to
/// the smaller latent. `atoms` is row-major `[n_latents, d_in]`.
///
/// Costs `latents · n_latents · d_in` multiply-adds. The sum of one pair has a fixed order, so the
/// number of threads does not matter.
pub fn nearest(atoms: &[f32], d_in: usize, latents: Range<usize>, count: usize) -> Vec<Vec<(u32, f32)>> {
    let norms: Vec<f32> = atoms.chunks_exact(d_in).map(|atom| dot(atom, atom).sqrt()).collect();
    let blocks: Vec<Range<usize>> =
        latents.clone().step_by(BLOCK).map(|from| from..latents.end.min(from + BLOCK)).collect();
    blocks
        .into_par_iter()
        .flat_map_iter(|block| nearest_of_block(atoms, d_in, &norms, block, count))
        .collect()
}

fn nearest_of_block(
    atoms: &[f32],
    d_in: usize,
    norms: &[f32],
    block: Range<usize>,
    count: usize,
) -> Vec<Vec<(u32, f32)>> {
    let mut best = vec![Vec::with_capacity(count + 1); block.len()];
    for (other, atom) in atoms.chunks_exact(d_in).enumerate() {
        for latent in block.clone().filter(|&latent| latent != other) {
            let scale = norms[latent] * norms[other];
            let product = dot(&atoms[latent * d_in..(latent + 1) * d_in], atom);
            let cosine = if scale > 0.0 { product / scale } else { 0.0 };
            insert(&mut best[latent - block.start], count, (other as u32, cosine));
        }
    }
    best
}

/// Keeps the list sorted; others come in ascending order, so an equal cosine goes behind.
fn insert(best: &mut Vec<(u32, f32)>, count: usize, candidate: (u32, f32)) {
    if best.len() == count && best.last().is_none_or(|last| last.1 >= candidate.1) {
        return;
    }
    let at = best.partition_point(|kept| kept.1 >= candidate.1);
    best.insert(at, candidate);
    best.truncate(count);
}

/// Eight running sums, so that the loop vectorises in a fixed order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a8, a_rest), (b8, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut sums = [0f32; 8];
    for (a, b) in a8.iter().zip(b8) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}
