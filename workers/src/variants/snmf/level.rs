//! One factorisation of semi-NMF: features, the sums they are solved from, and codes.

use rayon::prelude::*;

use super::Snmf;
use crate::{
    batchwise::Task,
    kernels::Path,
    linear::{multiplicative::Features, product, solve::ridge_solve},
    skeleton::init::{self, Start},
};

/// One factorisation and its sums.
#[derive(Debug, Clone)]
pub(super) struct Level {
    pub(super) n: usize,
    pub(super) width: usize,
    /// `[n, width]`, unit rows.
    pub(super) features: Vec<f64>,
    /// `GᵀG`, `[n, n]`.
    pub(super) gg: Vec<f64>,
    /// `GᵀX`, `[n, width]`.
    pub(super) gx: Vec<f64>,
}

impl Level {
    pub(super) fn random(n: usize, width: usize, seed: u64) -> Self {
        let rows = init::parameters(&Start::plain(n, width, &[], seed)).w_dec.value;
        let features = rows.into_iter().map(f64::from).collect();
        Level { n, width, features, gg: vec![0.0; n * n], gx: vec![0.0; n * width] }
    }

    /// Codes of `x`, `[rows, n]`.
    pub(super) fn codes(&self, path: Path, x: &[f64], rounds: usize) -> Vec<f64> {
        let features = Features::of(path, &self.features, self.width);
        let products = features.products(path, x);
        let mut codes = features.start(&products);
        features.refine(path, &products, &mut codes, rounds);
        codes
    }

    /// New features from the old sums, of which `keep` is kept, and those of `codes` and `x`.
    pub(super) fn update(&mut self, task: &Task, codes: &[f64], x: &[f64], spec: &Snmf) {
        let gg = product::cross(task.path, task.lanes, (codes, self.n), (codes, self.n));
        let gx = product::cross(task.path, task.lanes, (codes, self.n), (x, self.width));
        self.gg.iter_mut().zip(gg).for_each(|(sum, v)| *sum = spec.keep * *sum + v);
        self.gx.iter_mut().zip(gx).for_each(|(sum, v)| *sum = spec.keep * *sum + v);
        self.features = ridge_solve(task.path, &self.gg, &self.gx, &self.features, self.n);
        if spec.winners < 1.0 {
            let kept = (spec.winners * self.width as f64).ceil() as usize;
            self.features.par_chunks_mut(self.width).for_each(|row| keep_largest(row, kept));
        }
        self.normalise();
    }

    /// Unit features; the sums become those of codes that make up for it.
    fn normalise(&mut self) {
        let norm = |row: &[f64]| row.iter().map(|v| v * v).sum::<f64>().sqrt();
        let norms: Vec<f64> = self.features.chunks(self.width).map(norm).collect();
        let norms: Vec<f64> = norms.into_iter().map(|v| if v > 0.0 { v } else { 1.0 }).collect();
        for (i, &norm) in norms.iter().enumerate() {
            self.features[i * self.width..][..self.width].iter_mut().for_each(|v| *v /= norm);
            self.gx[i * self.width..][..self.width].iter_mut().for_each(|v| *v *= norm);
            self.gg[i * self.n..][..self.n].iter_mut().zip(&norms).for_each(|(v, other)| *v *= norm * other);
        }
    }
}

/// Sets all but the `kept` entries of largest magnitude to zero; of equals, the first stay.
pub(super) fn keep_largest(row: &mut [f64], kept: usize) {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|&a, &b| row[b].abs().total_cmp(&row[a].abs()).then(a.cmp(&b)));
    order.into_iter().skip(kept).for_each(|i| row[i] = 0.0);
}
