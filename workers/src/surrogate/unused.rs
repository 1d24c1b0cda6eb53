//! Atoms that no row uses: each starts again as a row of the batch.

use super::{Statistics, sweep::used};
use crate::{
    kernels::{Real, vector},
    random::{hash, unit},
};

/// Stream of the random numbers used here.
const RESAMPLE: u64 = 0x5245_5341;

/// Share of an element's typical size that is added as noise: equal atoms would never part.
const NOISE: f64 = 0.01;

/// Replaces every atom of `atoms`, `[n_latents, d]`, whose `A_jj` is at most [`UNUSED`](super::sweep::UNUSED) by a row of `x`,
/// `[rows, d]`, scaled to norm 1, and forgets its statistics. Returns how many there were.
///
/// What is drawn depends on (`seed`, `step`, latent) alone.
pub fn resample<R: Real>(s: &mut Statistics<R>, x: &[R], atoms: &mut [R], seed: u64, step: u64) -> usize {
    let (n, d) = (s.n_latents(), s.d);
    let unused: Vec<usize> = (0..n).filter(|&j| !used(s.a[j * n + j])).collect();
    for &j in &unused {
        draw(x, &mut atoms[j * d..][..d], &[seed, RESAMPLE, step, j as u64]);
        s.forget(j);
    }
    unused.len()
}

/// A random row of `x` and noise, scaled to norm 1, into `atom`. Without a row there is noise alone.
pub fn draw<R: Real>(x: &[R], atom: &mut [R], words: &[u64]) {
    let d = atom.len();
    let rows = (x.len() / d.max(1)) as u64;
    let row = hash(words).checked_rem(rows).map(|row| &x[row as usize * d..][..d]);
    let norm = row.map_or(0.0, |row| vector::dot(row, row).f64().sqrt());
    let size = NOISE * if norm > 0.0 { norm } else { 1.0 } / (d as f64).sqrt();
    for (i, out) in atom.iter_mut().enumerate() {
        let noise = size * 12f64.sqrt() * (unit(hash(&[words, &[i as u64]].concat())) - 0.5);
        *out = row.map_or(R::ZERO, |row| row[i]) + R::of(noise);
    }
    vector::normalize(atom);
}
