//! Non-negative codes for features of any sign, by multiplicative updates (Ding, Li, Jordan 2010,
//! *Convex and Semi-Nonnegative Matrix Factorizations*): `min_{g ≥ 0} ‖x − g·F‖²`, row by row.

use rayon::prelude::*;

use super::product::{self, Panels};
use crate::kernels::Path;

/// Keeps quotients of zeros finite.
const TINY: f64 = 1e-300;

/// Features and their products with each other.
#[derive(Debug, Clone)]
pub struct Features {
    n: usize,
    panels: Panels<f64>,
    plus: Vec<f64>,
    minus: Vec<f64>,
}

impl Features {
    /// `features` is `[n, width]`.
    pub fn of(path: Path, features: &[f64], width: usize) -> Self {
        let q = product::gram(path, features, width);
        let (plus, minus) = (q.iter().map(|v| v.max(0.0)), q.iter().map(|v| (-v).max(0.0)));
        let n = features.len() / width.max(1);
        let panels = Panels::of_rows(features, width);
        Features { n, panels, plus: plus.collect(), minus: minus.collect() }
    }

    /// Products of all features with `x`, `[rows, n]`.
    pub fn products(&self, path: Path, x: &[f64]) -> Vec<f64> {
        product::product(path, x, &self.panels)
    }

    /// Where codes start: proportional to the positive products, and a little for the others, as zeros
    /// never leave zero.
    pub fn start(&self, products: &[f64]) -> Vec<f64> {
        let row = |p: &[f64]| {
            let little = 1e-2 * p.iter().map(|v| v.abs()).sum::<f64>() / self.n as f64;
            p.iter().map(|v| v.max(0.0) + little).collect::<Vec<f64>>()
        };
        products.par_chunks(self.n.max(1)).flat_map_iter(row).collect()
    }

    /// `rounds` of `g ← g·√((p⁺ + gQ⁻)/(p⁻ + gQ⁺))`: no round raises the error of a row.
    pub fn refine(&self, path: Path, products: &[f64], codes: &mut [f64], rounds: usize) {
        let (plus, minus) = (Panels::of_columns(&self.plus, self.n), Panels::of_columns(&self.minus, self.n));
        for _ in 0..rounds {
            let up = product::product(path, codes, &minus);
            let down = product::product(path, codes, &plus);
            let factors = up.par_iter().zip(&down).zip(products);
            codes.par_iter_mut().zip(factors).for_each(|(g, ((up, down), p))| *g *= factor(*p, *up, *down));
        }
    }

    /// Keeps the `k` largest of a row of codes (of equals, the first) and refines those alone:
    /// (latent, value), ascending.
    pub fn keep_largest(
        &self,
        products: &[f64],
        codes: &[f64],
        k: usize,
        rounds: usize,
    ) -> Vec<(usize, f64)> {
        let mut order: Vec<usize> = (0..self.n).filter(|&i| codes[i] > 0.0).collect();
        order.sort_by(|&a, &b| codes[b].total_cmp(&codes[a]).then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        let mut kept: Vec<f64> = order.iter().map(|&i| codes[i]).collect();
        let sum = |q: &[f64], kept: &[f64], i: usize| {
            order.iter().zip(kept).map(|(&j, g)| g * q[i * self.n + j]).sum::<f64>()
        };
        for _ in 0..rounds {
            let next = order.iter().zip(&kept).map(|(&i, g)| {
                g * factor(products[i], sum(&self.minus, &kept, i), sum(&self.plus, &kept, i))
            });
            kept = next.collect();
        }
        order.into_iter().zip(kept).collect()
    }
}

fn factor(p: f64, up: f64, down: f64) -> f64 {
    ((p.max(0.0) + up) / ((-p).max(0.0) + down + TINY)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toys::normal;

    #[test]
    fn no_round_raises_the_error_and_what_is_kept_is_refitted() {
        let (rows, d, n) = (20, 12, 9);
        let draw = |seed: u64, len: usize| (0..len).map(|i| normal(&[seed, i as u64])).collect::<Vec<f64>>();
        let (x, f) = (draw(1, rows * d), draw(2, n * d));
        let features = Features::of(Path::best(), &f, d);
        let products = features.products(Path::best(), &x);
        let mut codes = features.start(&products);
        let error = |codes: &[f64]| {
            let x_hat = product::product(Path::best(), codes, &Panels::of_columns(&f, d));
            x.iter().zip(x_hat).map(|(x, h)| (x - h) * (x - h)).sum::<f64>()
        };
        let mut last = error(&codes);
        for _ in 0..100 {
            features.refine(Path::best(), &products, &mut codes, 1);
            let now = error(&codes);
            assert!(now <= last * (1.0 + 1e-12), "{last} became {now}");
            last = now;
        }
        assert!(codes.iter().all(|&g| g >= 0.0));
        let kept = |rounds: usize| {
            let mut sparse = vec![0.0; rows * n];
            for r in 0..rows {
                let row = r * n..(r + 1) * n;
                for (i, g) in features.keep_largest(&products[row.clone()], &codes[row], 3, rounds) {
                    sparse[r * n + i] = g;
                }
            }
            error(&sparse)
        };
        assert!(kept(50) < kept(0), "refitting the three largest helps");
    }
}
