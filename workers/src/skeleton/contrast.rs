//! InfoNCE on sparse codes: a row's code in one view has to be most like its own code in the other.
//!
//! van den Oord et al. 2018 (arXiv:1807.03748). `−mean_b ln softmax_c(⟨f̂_b, ĝ_c⟩/τ)_b` over all rows of the
//! batch, f̂ and ĝ of unit norm. Rows that share no latent have logit 0: those that do are found through the
//! codes by latent, and nothing of size rows × rows is stored.

use rayon::prelude::*;

use crate::{
    codes::Codes,
    kernels::{Real, csc::ByLatent},
};

/// Rows that one task looks at; its scratch is one number per row of the batch.
const BLOCK_ROWS: usize = 64;

/// The codes of one view, not negative.
#[derive(Debug, Clone, Copy)]
pub struct View<'a, R> {
    /// Which latents.
    pub codes: &'a Codes,
    /// Their values.
    pub values: &'a [R],
}

/// The loss and its gradients.
#[derive(Debug, Clone)]
pub struct Contrast<R> {
    /// Mean over rows.
    pub loss: f64,
    /// With respect to the values of each view.
    pub slopes: [Vec<R>; 2],
}

/// The loss of two views of the same rows. Runs on the current rayon pool.
pub fn info_nce<R: Real>(views: [View<R>; 2], temperature: f64) -> Contrast<R> {
    let sides = views.map(Unit::of);
    let indices = sides.each_ref().map(|side| ByLatent::of(side.codes, &side.values, &side.values));
    let [left, right] = &sides;
    let forth = Side { of: left, others: &indices[1], temperature };
    let rows = left.norms.len();
    let starts: Vec<usize> = (0..rows).step_by(BLOCK_ROWS).collect();
    let softmax = |&first: &usize| forth.in_block(first, rows, |side, row, near| side.softmax(row, near));
    let softmaxes: Vec<Softmax<R>> = starts.par_iter().flat_map_iter(softmax).collect();
    let loss = softmaxes.iter().map(|row| row.loss).sum::<f64>() / rows.max(1) as f64;
    let log_sums: Vec<f64> = softmaxes.iter().map(|row| row.log_sum).collect();
    let to_left = softmaxes.into_iter().flat_map(|row| row.slopes).collect();
    let back = Side { of: right, others: &indices[0], temperature };
    let pull = |side: &Side<R>, row: usize, near: &mut Near| {
        let share = |other: usize| (near.logits[other] / temperature - log_sums[other]).exp();
        side.pull(row, share)
    };
    let pull = |&first: &usize| back.in_block(first, rows, pull);
    let to_right: Vec<Vec<R>> = starts.par_iter().flat_map_iter(pull).collect();
    Contrast { loss, slopes: [to_left, to_right.concat()] }
}

/// A view with rows of unit norm.
struct Unit<'a, R> {
    codes: &'a Codes,
    values: Vec<R>,
    norms: Vec<f64>,
}

impl<'a, R: Real> Unit<'a, R> {
    fn of(view: View<'a, R>) -> Self {
        let (codes, mut values) = (view.codes, view.values.to_vec());
        let scale = |row: usize| {
            let here = &mut values[codes.offsets[row]..codes.offsets[row + 1]];
            let norm = here.iter().map(|v| v.f64() * v.f64()).sum::<f64>().sqrt();
            if norm > 0.0 {
                here.iter_mut().for_each(|v| *v = R::of(v.f64() / norm));
            }
            norm
        };
        let norms = (0..codes.rows()).map(scale).collect();
        Unit { codes, values, norms }
    }
}

/// What rows of one side have in common with those of the other.
struct Near {
    /// `⟨row, other⟩`, 0 for all that are not listed.
    logits: Vec<f64>,
    seen: Vec<bool>,
    listed: Vec<u32>,
}

/// The softmax of one row, and its pull on the row.
struct Softmax<R> {
    loss: f64,
    log_sum: f64,
    slopes: Vec<R>,
}

struct Side<'a, R> {
    of: &'a Unit<'a, R>,
    others: &'a ByLatent<R>,
    temperature: f64,
}

impl<R: Real> Side<'_, R> {
    /// `work` on each row of a block, given what is near it.
    fn in_block<T>(&self, first: usize, rows: usize, work: impl Fn(&Self, usize, &mut Near) -> T) -> Vec<T> {
        let mut near = Near { logits: vec![0.0; rows], seen: vec![false; rows], listed: Vec::new() };
        let each = |row: usize| {
            self.look(row, &mut near);
            let out = work(self, row, &mut near);
            for other in near.listed.drain(..) {
                (near.logits[other as usize], near.seen[other as usize]) = (0.0, false);
            }
            out
        };
        (first..(first + BLOCK_ROWS).min(rows)).map(each).collect()
    }

    fn pairs(&self, row: usize) -> impl Iterator<Item = (usize, f64)> {
        let span = self.of.codes.offsets[row]..self.of.codes.offsets[row + 1];
        span.map(|pair| (self.of.codes.latents[pair] as usize, self.of.values[pair].f64()))
    }

    /// All rows of the other side that share a latent with `row`.
    fn look(&self, row: usize, near: &mut Near) {
        for (latent, value) in self.pairs(row) {
            let entries = self.others.entries(latent);
            for (&other, weight) in entries.rows.iter().zip(entries.decoder) {
                near.logits[other as usize] += value * weight.f64();
                if !std::mem::replace(&mut near.seen[other as usize], true) {
                    near.listed.push(other);
                }
            }
        }
    }

    fn softmax(&self, row: usize, near: &mut Near) -> Softmax<R> {
        let others = near.logits.len();
        let logit = |other: usize| near.logits[other] / self.temperature;
        // Cosines are not above 1: the largest exponent is known without looking.
        let most = 1.0 / self.temperature;
        let far = (others - near.listed.len()) as f64 * (-most).exp();
        let sum = near.listed.iter().fold(far, |sum, &other| sum + (logit(other as usize) - most).exp());
        let log_sum = most + sum.ln();
        let slopes = self.pull(row, |other| (logit(other) - log_sum).exp());
        Softmax { loss: log_sum - logit(row), log_sum, slopes }
    }

    /// `Σ_c (share(c) − [c = row])·ĉ/τ` over the support of the row, through the normalisation, by rows.
    fn pull(&self, row: usize, share: impl Fn(usize) -> f64) -> Vec<R> {
        let of_latent = |(latent, _)| {
            let entries = self.others.entries(latent);
            let weighted = entries.rows.iter().zip(entries.decoder).map(|(&other, weight)| {
                let own = if other as usize == row { 1.0 } else { 0.0 };
                (share(other as usize) - own) * weight.f64()
            });
            weighted.sum::<f64>()
        };
        let raw: Vec<f64> = self.pairs(row).map(of_latent).collect();
        let along: f64 = self.pairs(row).zip(&raw).map(|((_, value), raw)| value * raw).sum();
        let norm = self.of.norms[row] * self.temperature * self.of.norms.len() as f64;
        let rate = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        self.pairs(row).zip(raw).map(|((_, value), raw)| R::of(rate * (raw - along * value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::{
            Path,
            encode::{Encoder, Screen, Selection},
        },
        skeleton::golden::{self, B, D, F, close, norm},
    };

    /// Golden codes: TopK 3 of `pre_acts·factor`; pairs that are not selected stay in with value 0, so that
    /// the gradient beside the support is seen as well.
    fn view(factor: impl Fn(usize) -> f64) -> (Codes, Vec<f64>) {
        let p = golden::parameters::<f64>();
        let x: Vec<f64> = golden::rows();
        let (mut codes, mut values) = (Codes::new(F), Vec::new());
        for row in 0..B {
            let pre = |l: usize| {
                let dot: f64 =
                    (0..D).map(|c| (x[row * D + c] - p.b_dec.value[c]) * p.w_enc.value[l * D + c]).sum();
                (dot + p.b_enc.value[l]) * factor(row * F + l)
            };
            let mut order: Vec<usize> = (0..F).collect();
            order.sort_by(|&a, &b| pre(b).total_cmp(&pre(a)));
            let value = |l: usize| if order[..3].contains(&l) { pre(l).max(0.0) } else { 0.0 };
            values.extend((0..F).map(value));
            codes.push_row((0..F).map(|l| (l as u32, value(l) as f32)));
        }
        (codes, values)
    }

    fn golden_views() -> [(Codes, Vec<f64>); 2] {
        let noise: Vec<f64> = golden::fill(17, B * F, 0.1);
        [view(|_| 1.0), view(|i| 1.0 + noise[i])]
    }

    fn run(views: &[(Codes, Vec<f64>); 2]) -> Contrast<f64> {
        info_nce(views.each_ref().map(|(codes, values)| View { codes, values }), 0.2)
    }

    #[test]
    fn golden_numbers() {
        let contrast = run(&golden_views());
        close(contrast.loss, 0.182_243_802_7, 1e-10);
        close(norm(&contrast.slopes[0]), 0.191_724_30, 5e-9);
        close(contrast.slopes[0][0], 0.004_429_47, 5e-9);
    }

    #[test]
    fn both_gradients_equal_central_differences() {
        let views = golden_views();
        let contrast = run(&views);
        for side in 0..2 {
            for i in 0..B * F {
                let at = |delta: f64| {
                    let mut views = views.clone();
                    views[side].1[i] += delta;
                    run(&views).loss
                };
                close(contrast.slopes[side][i], (at(1e-6) - at(-1e-6)) / 2e-6, 1e-8);
            }
        }
    }

    /// Nothing tells rows apart, or nothing connects them.
    #[test]
    fn identical_rows_cost_the_logarithm_of_their_number() {
        let (mut same, mut apart) = (Codes::new(9), Codes::new(300));
        (0..200).for_each(|row| {
            same.push_row([(2, 0.5), (7, 1.5)]);
            apart.push_row([(row, 2.0)]);
        });
        let of = |codes: &Codes| {
            let view = View { codes, values: &codes.values };
            info_nce([view, view], 0.2)
        };
        let contrast = of(&same);
        close(contrast.loss, 200f64.ln(), 1e-6);
        assert!(contrast.slopes.iter().flatten().all(|v| v.abs() < 1e-6));
        close(of(&apart).loss, (1.0 + 199.0 * (-5f64).exp()).ln(), 1e-6);
    }

    /// Only the support: the same bits as with zeros written out, and rows without a code are no trouble.
    #[test]
    fn sparse_codes_equal_dense_ones() {
        let views = golden_views();
        let p = golden::parameters::<f64>();
        let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, D);
        let x: Vec<f64> = golden::rows();
        let selection = Selection::TopK(3);
        let of = encoder.select(Path::Portable, Screen::Off, &x, &p.b_dec.value, selection);
        let view = View { codes: &of.codes, values: &of.values };
        let dense = (views[0].0.clone(), views[0].1.clone());
        let [sparse, dense] = [info_nce([view, view], 0.2), run(&[dense.clone(), dense])];
        close(sparse.loss, dense.loss, 1e-12);
        let kept = (0..B * F).filter(|&i| views[0].1[i] > 0.0).map(|i| dense.slopes[0][i]);
        sparse.slopes[0].iter().zip(kept).for_each(|(&a, b)| close(a, b, 1e-12));
        let empty = Codes { n_latents: 3, offsets: vec![0; 4], latents: Vec::new(), values: Vec::new() };
        let none = View { codes: &empty, values: &[] as &[f64] };
        close(info_nce([none, none], 0.2).loss, 3f64.ln(), 1e-12);
    }
}
