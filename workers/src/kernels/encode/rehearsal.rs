//! A batch encoded for its time alone: whoever has a clock decides by it whether to screen.

use super::{Encoder, Screen, Screening, Selection};
use crate::{
    kernels::{Path, simd::Kernel, vector},
    random::{hash, unit},
    threads::Threads,
};

/// An encoder of random unit directions, as a learner's is at its start, and rows to encode.
#[derive(Debug)]
pub struct Rehearsal {
    w_enc: Vec<f32>,
    b_enc: Vec<f32>,
    b_dec: Vec<f32>,
    x: Vec<f32>,
}

impl Rehearsal {
    /// For rows like those of `sample`, `[rows, d_in]`, which are repeated or cut to `rows`.
    ///
    /// Real rows matter: how many latents the integers leave depends on them.
    pub fn new(n_latents: usize, d_in: usize, rows: usize, sample: &[f32]) -> Self {
        let mut w_enc: Vec<f32> = (0..n_latents * d_in).map(|i| draw(i as u64)).collect();
        Path::best().run(Normalise { rows: &mut w_enc, d_in });
        let x: Vec<f32> = sample.iter().copied().cycle().take(rows * d_in).collect();
        let mut b_dec = vec![0f32; d_in];
        for row in sample.chunks_exact(d_in) {
            vector::add(row, &mut b_dec);
        }
        vector::scale(1.0 / (sample.len() / d_in).max(1) as f32, &mut b_dec);
        Rehearsal { w_enc, b_enc: vec![0.0; n_latents], b_dec, x }
    }

    /// Encodes the rows once, weights made ready included, as a training step does.
    pub fn run(&self, threads: &Threads, screen: Screen, k: usize) -> Screening {
        let encoder = Encoder::all(&self.w_enc, &self.b_enc, self.b_dec.len());
        let selection = Selection::TopK(k);
        threads.install(|| encoder.select(Path::best(), screen, &self.x, &self.b_dec, selection).screening)
    }
}

/// Sum of three uniform numbers, about 0.
#[allow(clippy::cast_possible_truncation, reason = "directions need no more digits")]
fn draw(i: u64) -> f32 {
    (0..3).map(|part| unit(hash(&[i, part])) - 0.5).sum::<f64>() as f32
}

struct Normalise<'a> {
    rows: &'a mut [f32],
    d_in: usize,
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        self.rows.chunks_exact_mut(self.d_in).for_each(vector::normalize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_screens_where_it_can() {
        let threads = Threads::new(1).unwrap();
        let sample: Vec<f32> = (0..40 * 64).map(|i| draw(1_000_000 + i)).collect();
        let rehearsal = Rehearsal::new(1500, 64, 100, &sample);
        let rows = if Screen::Int8.available() { 100 } else { 0 };
        assert_eq!(rehearsal.run(&threads, Screen::Int8, 8).rows, rows);
        assert_eq!(rehearsal.run(&threads, Screen::Off, 8).rows, 0);
    }
}
