//! The Kullback–Leibler divergence of the codes of a variational autoencoder from N(0, 1), over all
//! latents, without ever holding a number per row and latent of the batch.
//!
//! `KL = ½Σ(μ² + σ² − log σ² − 1)`. The part of μ, linear in the rows, is a function of their second
//! moments: `Σ_b μ² = wᵀGw + 2b·wᵀs + B·b²` with `G = Σ yyᵀ`, `s = Σ y`, `y = x − b_dec`. The part of a
//! learned σ is worked out for [`LATENTS`] latents at a time.

use rayon::prelude::*;

use crate::{
    codes::Codes,
    kernels::{
        Path, Real,
        csc::{self, ByLatent, SumRows},
        lanes::LaneStarts,
        panels::{Panels, Product},
        simd::Kernel,
        vector,
    },
    skeleton::objective::Loss,
};

/// Latents of which a learned σ is held for all rows of the batch: 512 KiB at 4096 rows.
const LATENTS: usize = 32;

/// Bounds of log σ²; outside, it has no gradient.
pub(super) const BOUNDS: (f64, f64) = (-6.0, 2.0);

/// `½(σ² − log σ² − 1)`.
pub(super) fn of_variance(log_variance: f64) -> f64 {
    0.5 * (log_variance.exp() - log_variance - 1.0)
}

/// Adds `weight·½Σ μ²` over the batch, and its gradient.
pub(super) fn add_means<R: Real>(loss: &mut Loss<R>, weight: f64) {
    let (step, p) = (loss.step, loss.step.parameters);
    let (n, d) = (p.n_latents(), p.d_in);
    let moments = Moments::of(step.path, step.x, loss.centre(), step.lanes);
    let mut dense = loss.room(n * d);
    let gram = Panels::of(&moments.second, &vec![R::ZERO; d]);
    Product { a: &p.w_enc.value, b: &gram, cuts: &[0, d], out: &mut dense }.run_on(step.path);
    let (rows, rate, first) = (R::of(step.rows() as f64), R::of(weight), &moments.first[..]);
    let latents = p.w_enc.value.par_chunks(LATENTS * d).zip(p.b_enc.value.par_chunks(LATENTS));
    let of = |(dense, (w, b))| step.path.run(Means { dense, w, b, first, rows, rate });
    let parts: Vec<(Vec<R>, f64)> = dense.par_chunks_mut(LATENTS * d).zip(latents).map(of).collect();
    loss.add(0.5 * weight * parts.iter().map(|(_, squares)| squares).sum::<f64>());
    let biases = parts.into_iter().flat_map(|(biases, _)| biases).collect();
    loss.add_encoder_gradient(dense, biases);
}

/// Some latents in front of the moments.
struct Means<'a, R> {
    /// `w·G`, turned into the gradient of the rows.
    dense: &'a mut [R],
    w: &'a [R],
    b: &'a [R],
    first: &'a [R],
    rows: R,
    rate: R,
}

impl<R: Real> Kernel for Means<'_, R> {
    /// Gradient of the biases, and `Σ μ²`.
    type Output = (Vec<R>, f64);

    #[inline(always)]
    fn run(self) -> (Vec<R>, f64) {
        let (d, mut biases, mut squares) = (self.first.len(), Vec::with_capacity(self.b.len()), 0.0);
        let latents = self.w.chunks_exact(d).zip(self.b);
        for (dense, (w, &b)) in self.dense.chunks_exact_mut(d).zip(latents) {
            vector::axpy(b, self.first, dense);
            let bias = self.rows.fma(b, vector::dot(w, self.first));
            squares += vector::dot(w, dense).f64() + (b * bias).f64();
            vector::scale(self.rate, dense);
            biases.push(self.rate * bias);
        }
        (biases, squares)
    }
}

/// First and second moments of centred rows.
struct Moments<R> {
    first: Vec<R>,
    second: Vec<R>,
}

impl<R: Real> Moments<R> {
    fn of(path: Path, x: &[R], centre: &[R], lanes: LaneStarts) -> Self {
        let d = centre.len();
        let columns: Vec<usize> = (0..d).collect();
        let column = |&c: &usize| x.iter().skip(c).step_by(d).map(move |&v| v - centre[c]);
        let turned: Vec<R> = columns.par_iter().flat_map_iter(column).collect();
        let rows = x.len() / d;
        let sum = |column: &[R]| {
            let lane = |ends: &[usize]| column[ends[0]..ends[1]].iter().copied().sum::<R>();
            lanes.windows(2).map(lane).sum::<R>()
        };
        let first = turned.par_chunks(rows.max(1)).map(sum).collect();
        let mut second = vec![R::ZERO; d * d];
        Product { a: &turned, b: &Panels::of(x, centre), cuts: lanes, out: &mut second }.run_on(path);
        Moments { first, second }
    }
}

/// What a learned `log σ² = y·w_varᵀ + b_var` costs, and its gradient.
pub(super) struct Variances<'a, R> {
    /// `[n_latents, d_in]`.
    pub(super) w_var: &'a [R],
    /// `[n_latents]`.
    pub(super) b_var: &'a [R],
    /// Which pairs were sampled.
    pub(super) codes: &'a Codes,
    /// ∂loss/∂log σ² of those through the reconstruction.
    pub(super) slopes: &'a [R],
}

/// Gradients of some latents, and the sum of what their σ cost.
struct OfLatents<R> {
    weights: Vec<R>,
    biases: Vec<R>,
    cost: f64,
}

impl<R: Real> Variances<'_, R> {
    /// Adds `weight·½Σ(σ² − log σ² − 1)` over the batch, and the gradient of `w_var` and `b_var`, which
    /// are the extra parameters 0 and 1.
    pub(super) fn add(&self, loss: &mut Loss<R>, weight: f64) {
        let step = loss.step;
        let pairs = ByLatent::of(self.codes, self.slopes, self.slopes);
        let (turned, rows) = (Panels::transposed(step.x, loss.centre()), Panels::of(step.x, loss.centre()));
        let (x, centre) = (step.x, loss.centre());
        let of = |(first, (w, b)): (usize, (&[R], &[R]))| {
            let (turned, rows, pairs) = (&turned, &rows, &pairs);
            let block = Block { first, w, b, turned, rows, pairs, x, centre, lanes: step.lanes, weight };
            step.path.run(block)
        };
        let blocks =
            self.w_var.par_chunks(LATENTS * step.parameters.d_in).zip(self.b_var.par_chunks(LATENTS));
        let firsts = (0..self.b_var.len()).into_par_iter().step_by(LATENTS);
        let parts: Vec<OfLatents<R>> = firsts.zip(blocks).map(of).collect();
        self.collect(loss, &parts, weight);
    }

    /// `b_dec` is in the rows, and so in log σ².
    fn collect(&self, loss: &mut Loss<R>, parts: &[OfLatents<R>], weight: f64) {
        let weights: Vec<R> = parts.iter().flat_map(|part| part.weights.iter().copied()).collect();
        let biases: Vec<R> = parts.iter().flat_map(|part| part.biases.iter().copied()).collect();
        let mut through = vec![0f64; loss.centre().len()];
        for (row, &bias) in self.w_var.chunks_exact(through.len()).zip(&biases) {
            through.iter_mut().zip(row).for_each(|(sum, w)| *sum -= bias.f64() * w.f64());
        }
        loss.add_offset_gradient(&through);
        loss.extra_gradient(0).copy_from_slice(&weights);
        loss.extra_gradient(1).copy_from_slice(&biases);
        loss.add(weight * parts.iter().map(|part| part.cost).sum::<f64>());
    }
}

/// Some latents in front of the batch.
struct Block<'a, R> {
    first: usize,
    w: &'a [R],
    b: &'a [R],
    /// Centred rows, transposed and as they are.
    turned: &'a Panels<R>,
    rows: &'a Panels<R>,
    pairs: &'a ByLatent<R>,
    x: &'a [R],
    centre: &'a [R],
    lanes: LaneStarts<'a>,
    weight: f64,
}

impl<R: Real> Kernel for Block<'_, R> {
    type Output = OfLatents<R>;

    #[inline(always)]
    fn run(self) -> OfLatents<R> {
        let (d, latents) = (self.centre.len(), self.b.len());
        let rows = self.x.len() / d;
        let mut slopes = vec![R::ZERO; latents * rows];
        Product { a: self.w, b: self.turned, cuts: &[0, d], out: &mut slopes }.run();
        let mut cost = 0.0;
        for (of_latent, &bias) in slopes.chunks_exact_mut(rows).zip(self.b) {
            cost += charge(of_latent, bias, self.weight);
        }
        let mut weights = vec![R::ZERO; latents * d];
        Product { a: &slopes, b: self.rows, cuts: self.lanes, out: &mut weights }.run();
        let mut biases = vec![R::ZERO; latents];
        let mut runs = Vec::new();
        for (latent, (bias, total)) in biases.iter_mut().zip(weights.chunks_exact_mut(d)).enumerate() {
            let entries = self.pairs.entries(self.first + latent);
            csc::lane_runs(entries.rows, self.lanes, &mut runs);
            let of_latent = &slopes[latent * rows..][..rows];
            let of_lane = |ends: &[usize]| of_latent[ends[0]..ends[1]].iter().copied().sum::<R>();
            *bias = self.lanes.windows(2).map(of_lane).sum::<R>() + csc::sum_weights(&runs, entries.encoder);
            let (weights, centre) = (entries.encoder, Some(self.centre));
            SumRows { runs: &runs, rows: entries.rows, weights, y: self.x, centre, total }.run();
        }
        OfLatents { weights, biases, cost }
    }
}

/// From products to slopes of `weight·½Σ(σ² − log σ² − 1)`. Returns the sum without the weight.
#[inline(always)]
fn charge<R: Real>(products: &mut [R], bias: R, weight: f64) -> f64 {
    let mut cost = 0.0;
    for value in products {
        let log_variance = (*value + bias).f64();
        let bounded = log_variance.clamp(BOUNDS.0, BOUNDS.1);
        cost += of_variance(bounded);
        let inside = log_variance == bounded;
        *value = if inside { R::of(weight * 0.5 * (bounded.exp() - 1.0)) } else { R::ZERO };
    }
    cost
}
