//! Frozen atoms made ready for coders: packed for products, with their Gram matrix where it fits.

use rayon::prelude::*;

use super::{AnyCoder, Gram};
use crate::{
    codes::Codes,
    kernels::{Path, gather, product::Panels, simd::Kernel, vector},
    made::Made,
    threads::Threads,
};

/// Most latents whose Gram matrix is stored: 8192² floats are 256 MiB.
const STORED: usize = 8192;

/// Atoms, what is subtracted from rows first, and what coders need of both.
#[derive(Debug)]
pub struct CodedAtoms {
    d: usize,
    atoms: Vec<f32>,
    b_dec: Vec<f32>,
    path: Path,
    threads: Threads,
    ready: Made<(Panels<f32>, Option<Vec<f32>>)>,
}

impl CodedAtoms {
    /// `atoms` is `[n_latents, d]`, `b_dec` `[d]`.
    pub fn new(atoms: Vec<f32>, b_dec: Vec<f32>, threads: Threads) -> Self {
        CodedAtoms { d: b_dec.len(), atoms, b_dec, path: Path::best(), threads, ready: Made::default() }
    }

    /// Width of the vectors.
    pub fn d(&self) -> usize {
        self.d
    }

    /// Number of latents.
    pub fn n_latents(&self) -> usize {
        self.atoms.len() / self.d.max(1)
    }

    /// The atoms, `[n_latents, d]`.
    pub fn atoms(&self) -> &[f32] {
        &self.atoms
    }

    /// What is subtracted from rows before they are coded, `[d]`.
    pub fn b_dec(&self) -> &[f32] {
        &self.b_dec
    }

    /// Codes of `x − b_dec`, `x` `[rows, d]`; with `unit`, each row is brought to norm 1 for the coder and
    /// its codes are multiplied with the norm.
    pub fn encode(&self, coder: &AnyCoder<f32>, unit: bool, x: &[f32]) -> Codes {
        self.threads.install(|| {
            let (panels, stored) = self.ready.get(|| self.prepare());
            let gram = Gram::new(&self.atoms, self.d, stored.as_deref());
            let mut centred = x.to_vec();
            let tasks = centred.par_chunks_mut(64 * self.d);
            let norms: Vec<f32> = tasks
                .flat_map_iter(|rows| self.path.run(Centre { rows, b_dec: &self.b_dec, unit }))
                .collect();
            let mut codes = coder.code(self.path, panels, gram, &centred).codes;
            rescale(&mut codes, &norms);
            codes
        })
    }

    /// Reconstruction of `codes` into `x_hat`, `[rows, d]`, overwritten.
    pub fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let decode = || gather::decode(self.path, codes, &codes.values, &self.atoms, &self.b_dec, x_hat);
        self.threads.install(decode);
    }

    fn prepare(&self) -> (Panels<f32>, Option<Vec<f32>>) {
        let (panels, n) = (Panels::of_rows(&self.atoms, self.d), self.n_latents());
        let gram = (n <= STORED).then(|| {
            let mut gram = vec![0f32; n * n];
            panels.times(self.path, &self.atoms, &mut gram);
            gram
        });
        (panels, gram)
    }
}

/// Multiplies the codes of each row with its norm. What underflows to 0 has no place in codes.
fn rescale(codes: &mut Codes, norms: &[f32]) {
    let mut scaled = Codes::new(codes.n_latents);
    for (row, norm) in norms.iter().enumerate() {
        let (latents, values) = codes.row(row);
        let pairs = latents.iter().zip(values).map(|(&latent, &value)| (latent, value * norm));
        scaled.push_row(pairs.filter(|&(_, value)| value != 0.0));
    }
    *codes = scaled;
}

/// Subtracts `b_dec` and, with `unit`, divides by the norm; returns what codes are to be multiplied with.
struct Centre<'a> {
    rows: &'a mut [f32],
    b_dec: &'a [f32],
    unit: bool,
}

impl Kernel for Centre<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(self) -> Vec<f32> {
        let mut norms = Vec::new();
        for row in self.rows.chunks_exact_mut(self.b_dec.len()) {
            row.iter_mut().zip(self.b_dec).for_each(|(x, b)| *x -= b);
            let norm = if self.unit { vector::dot(row, row).sqrt() } else { 1.0 };
            if norm > 0.0 {
                vector::scale(1.0 / norm, row);
            }
            norms.push(norm);
        }
        norms
    }
}
