//! InfoNCE on sparse codes: a row's code in one view has to be most like its own code in the other.
//!
//! van den Oord et al. 2018 (arXiv:1807.03748). `−mean_b ln softmax_c(⟨f̂_b, ĝ_c⟩/τ)_b` over all rows of the
//! batch, f̂ and ĝ of unit norm. Cosines come from the codes by latent, a row at a time: nothing of size
//! rows × rows is stored.

use rayon::prelude::*;

use crate::{
    codes::Codes,
    kernels::{Path, Real, csc::ByLatent, exp::exp, simd::Kernel},
};

/// Rows that one task looks at; its scratch is one number per row of the batch.
const BLOCK_ROWS: usize = 64;
/// Partial sums of the powers.
const SUMS: usize = 16;

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
pub fn info_nce<R: Real>(path: Path, views: [View<R>; 2], temperature: f64) -> Contrast<R> {
    let sides = views.map(Unit::of);
    let indices = sides.each_ref().map(|side| ByLatent::of(side.codes, &side.values, &side.values));
    let [left, right] = &sides;
    let rows = left.norms.len();
    let starts: Vec<usize> = (0..rows).step_by(BLOCK_ROWS).collect();
    let forth = Side { of: left, others: &indices[1], temperature, sums: None };
    let pull = |side: Side<R>| -> Vec<Pulled<R>> {
        starts.par_iter().flat_map_iter(|&first| path.run(Block { side, first, rows })).collect()
    };
    let to_left = pull(forth);
    let loss = to_left.iter().map(|row| row.loss).sum::<f64>() / rows.max(1) as f64;
    let sums: Vec<f64> = to_left.iter().map(|row| row.sum).collect();
    let to_right = pull(Side { of: right, others: &indices[0], temperature, sums: Some(&sums) });
    let slopes = |pulled: Vec<Pulled<R>>| pulled.into_iter().flat_map(|row| row.slopes).collect();
    Contrast { loss, slopes: [slopes(to_left), slopes(to_right)] }
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

/// One view in front of the other.
#[derive(Clone, Copy)]
struct Side<'a, R> {
    of: &'a Unit<'a, R>,
    others: &'a ByLatent<R>,
    temperature: f64,
    /// What powers are divided by, one per row of the others; otherwise by their own sum.
    sums: Option<&'a [f64]>,
}

/// What the others make of one row.
struct Pulled<R> {
    /// `−ln` of the row's own share.
    loss: f64,
    /// Of the powers.
    sum: f64,
    slopes: Vec<R>,
}

/// Some rows of a side.
struct Block<'a, R> {
    side: Side<'a, R>,
    first: usize,
    rows: usize,
}

impl<R: Real> Kernel for Block<'_, R> {
    type Output = Vec<Pulled<R>>;

    #[inline(always)]
    fn run(self) -> Vec<Pulled<R>> {
        let Block { side, first, rows } = self;
        let mut near = vec![0.0; rows];
        let mut out = Vec::with_capacity(BLOCK_ROWS);
        for row in first..(first + BLOCK_ROWS).min(rows) {
            side.look(row, &mut near);
            let own = (near[row] - 1.0) / side.temperature;
            let sum = side.powers(&mut near);
            side.share(row, sum, &mut near);
            out.push(Pulled { loss: sum.ln() - own, sum, slopes: side.pull(row, &near) });
        }
        out
    }
}

impl<R: Real> Side<'_, R> {
    /// Latents and values of a row.
    #[inline(always)]
    fn row(&self, row: usize) -> (&[u32], &[R]) {
        let span = self.of.codes.offsets[row]..self.of.codes.offsets[row + 1];
        (&self.of.codes.latents[span.clone()], &self.of.values[span])
    }

    /// The cosine of `row` with each of the others.
    #[inline(always)]
    fn look(&self, row: usize, near: &mut [f64]) {
        near.fill(0.0);
        let (latents, values) = self.row(row);
        for (&latent, value) in latents.iter().zip(values) {
            let entries = self.others.entries(latent as usize);
            for (&other, weight) in entries.rows.iter().zip(entries.decoder) {
                near[other as usize] += value.f64() * weight.f64();
            }
        }
    }

    /// From cosines to `e^((cosine − 1)/τ)`, and their sum: no cosine is above 1, so the largest exponent is
    /// known without looking.
    #[inline(always)]
    fn powers(&self, near: &mut [f64]) -> f64 {
        let (blocks, rest) = near.as_chunks_mut::<SUMS>();
        let (mut sums, rate) = ([0f64; SUMS], 1.0 / self.temperature);
        for block in blocks {
            for (value, sum) in block.iter_mut().zip(&mut sums) {
                *value = exp((*value - 1.0) * rate);
                *sum += *value;
            }
        }
        let mut sum: f64 = sums.iter().sum();
        for value in rest {
            *value = exp((*value - 1.0) * rate);
            sum += *value;
        }
        sum
    }

    /// From powers to `share − [other = row]`.
    #[inline(always)]
    fn share(&self, row: usize, sum: f64, near: &mut [f64]) {
        match self.sums {
            Some(sums) => near.iter_mut().zip(sums).for_each(|(power, sum)| *power /= sum),
            None => near.iter_mut().for_each(|power| *power /= sum),
        }
        near[row] -= 1.0;
    }

    /// `Σ_c (share(c) − [c = row])·ĉ/τ` over the support of the row, through the normalisation, by rows.
    #[inline(always)]
    fn pull(&self, row: usize, near: &[f64]) -> Vec<R> {
        let (latents, values) = self.row(row);
        let (mut raw, mut along) = (Vec::with_capacity(latents.len()), 0.0);
        for (&latent, value) in latents.iter().zip(values) {
            let (entries, mut sum) = (self.others.entries(latent as usize), 0.0);
            for (&other, weight) in entries.rows.iter().zip(entries.decoder) {
                sum += near[other as usize] * weight.f64();
            }
            along += value.f64() * sum;
            raw.push(sum);
        }
        let norm = self.of.norms[row] * self.temperature * self.of.norms.len() as f64;
        let rate = if norm > 0.0 { 1.0 / norm } else { 0.0 };
        let mut slopes = Vec::with_capacity(raw.len());
        for (raw, value) in raw.iter().zip(values) {
            slopes.push(R::of(rate * (raw - along * value.f64())));
        }
        slopes
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
        info_nce(Path::best(), views.each_ref().map(|(codes, values)| View { codes, values }), 0.2)
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
            info_nce(Path::best(), [view, view], 0.2)
        };
        let contrast = of(&same);
        close(contrast.loss, 200f64.ln(), 1e-6);
        assert!(contrast.slopes.iter().flatten().all(|v| v.abs() < 1e-6));
        close(of(&apart).loss, (1.0 + 199.0 * (-5f64).exp()).ln(), 1e-6);
    }

    #[test]
    fn paths_change_no_bit() {
        let views = golden_views();
        let of = |path| info_nce(path, views.each_ref().map(|(codes, values)| View { codes, values }), 0.2);
        let all: Vec<Contrast<f64>> = Path::available().into_iter().map(of).collect();
        assert!(all.iter().all(|one| (one.loss, &one.slopes) == (all[0].loss, &all[0].slopes)));
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
        let [sparse, dense] = [info_nce(Path::best(), [view, view], 0.2), run(&[dense.clone(), dense])];
        close(sparse.loss, dense.loss, 1e-12);
        let kept = (0..B * F).filter(|&i| views[0].1[i] > 0.0).map(|i| dense.slopes[0][i]);
        sparse.slopes[0].iter().zip(kept).for_each(|(&a, b)| close(a, b, 1e-12));
        let empty = Codes { n_latents: 3, offsets: vec![0; 4], latents: Vec::new(), values: Vec::new() };
        let none = View { codes: &empty, values: &[] as &[f64] };
        close(info_nce(Path::best(), [none, none], 0.2).loss, 3f64.ln(), 1e-12);
    }
}
