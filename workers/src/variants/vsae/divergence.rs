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
        exp::exp,
        lanes::LaneStarts,
        simd::Kernel,
        vector,
    },
    linear::product::{Panels, cross},
    skeleton::objective::Loss,
};

/// Latents of which a learned σ is held for all rows of the batch: 768 KiB at 4096 rows. Four tiles of the
/// product.
const LATENTS: usize = 48;

/// Bounds of log σ²; outside, it has no gradient.
pub(super) const BOUNDS: (f64, f64) = (-6.0, 2.0);

/// `½(σ² − log σ² − 1)`.
pub(super) fn of_variance(log_variance: f64) -> f64 {
    0.5 * (log_variance.exp() - log_variance - 1.0)
}

/// Rows of the batch without `b_dec`.
pub(super) fn centred<R: Real>(loss: &Loss<R>) -> Vec<R> {
    let (x, centre) = (loss.step.x, loss.centre());
    let mut out = vec![R::ZERO; x.len()];
    let rows = out.par_chunks_mut(centre.len()).zip(x.par_chunks(centre.len())).with_min_len(64);
    rows.for_each(|(out, x)| out.iter_mut().zip(x).zip(centre).for_each(|((out, &x), &c)| *out = x - c));
    out
}

/// Adds `weight·½Σ μ²` over the batch, and its gradient; `y` are the centred rows.
pub(super) fn add_means<R: Real>(loss: &mut Loss<R>, y: &[R], weight: f64) {
    let (step, p) = (loss.step, loss.step.parameters);
    let (n, d) = (p.n_latents(), p.d_in);
    let first = sums(y, d, step.lanes);
    let second = cross(step.path, step.lanes, (y, d), (y, d));
    let mut dense = loss.room(n * d);
    Panels::of_columns(&second, d).times(step.path, &p.w_enc.value, &mut dense);
    let (rows, rate, first) = (R::of(step.rows() as f64), R::of(weight), &first[..]);
    let latents = p.w_enc.value.par_chunks(LATENTS * d).zip(p.b_enc.value.par_chunks(LATENTS));
    let of = |(dense, (w, b))| step.path.run(Means { dense, w, b, first, rows, rate });
    let parts: Vec<(Vec<R>, f64)> = dense.par_chunks_mut(LATENTS * d).zip(latents).map(of).collect();
    loss.add(0.5 * weight * parts.iter().map(|(_, squares)| squares).sum::<f64>());
    let biases = parts.into_iter().flat_map(|(biases, _)| biases).collect();
    loss.add_encoder_gradient(dense, biases);
}

/// Column sums of `y`, lane by lane.
fn sums<R: Real>(y: &[R], d: usize, lanes: LaneStarts) -> Vec<R> {
    let mut total = vec![R::ZERO; d];
    for lane in lanes.windows(2) {
        let mut sum = vec![R::ZERO; d];
        y[lane[0] * d..lane[1] * d].chunks_exact(d).for_each(|row| vector::add(row, &mut sum));
        vector::add(&sum, &mut total);
    }
    total
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
    /// Rows without `b_dec`.
    pub(super) y: &'a [R],
}

/// Gradients of the biases of some latents, and the sum of what their σ cost.
struct OfLatents<R> {
    biases: Vec<R>,
    cost: f64,
}

impl<R: Real> Variances<'_, R> {
    /// Adds `weight·½Σ(σ² − log σ² − 1)` over the batch, and the gradient of `w_var` and `b_var`, which
    /// are the extra parameters 0 and 1.
    pub(super) fn add(&self, loss: &mut Loss<R>, weight: f64) {
        let step = loss.step;
        let pairs = ByLatent::of(self.codes, self.slopes, self.slopes);
        let d = step.parameters.d_in;
        let by_row = Panels::of_rows(self.y, d);
        let of_lane = |ends: &[usize]| Panels::of_columns(&self.y[ends[0] * d..ends[1] * d], d);
        let by_lane: Vec<Panels<R>> = step.lanes.windows(2).map(of_lane).collect();
        let latents = self.w_var.par_chunks(LATENTS * d).zip(self.b_var.par_chunks(LATENTS));
        let blocks = latents.zip(loss.extra_gradient(0).par_chunks_mut(LATENTS * d));
        let of = blocks.enumerate().map(|(block, ((w, b), out))| {
            let (first, by_row, by_lane, pairs) = (block * LATENTS, &by_row, &by_lane[..], &pairs);
            let block = Block { first, w, b, by_row, by_lane, pairs, y: self.y, lanes: step.lanes, weight };
            block.run(step.path, out)
        });
        let parts: Vec<OfLatents<R>> = of.collect();
        self.collect(loss, &parts, weight);
    }

    /// `b_dec` is in the rows, and so in log σ².
    fn collect(&self, loss: &mut Loss<R>, parts: &[OfLatents<R>], weight: f64) {
        let biases: Vec<R> = parts.iter().flat_map(|part| part.biases.iter().copied()).collect();
        let mut through = vec![0f64; loss.centre().len()];
        for (row, &bias) in self.w_var.chunks_exact(through.len()).zip(&biases) {
            through.iter_mut().zip(row).for_each(|(sum, w)| *sum -= bias.f64() * w.f64());
        }
        loss.add_offset_gradient(&through);
        loss.extra_gradient(1).copy_from_slice(&biases);
        loss.add(weight * parts.iter().map(|part| part.cost).sum::<f64>());
    }
}

/// Some latents in front of the batch.
struct Block<'a, R> {
    first: usize,
    w: &'a [R],
    b: &'a [R],
    /// Centred rows: all of them to multiply latents with, and those of each lane to sum over.
    by_row: &'a Panels<R>,
    by_lane: &'a [Panels<R>],
    pairs: &'a ByLatent<R>,
    y: &'a [R],
    lanes: LaneStarts<'a>,
    weight: f64,
}

impl<R: Real> Block<'_, R> {
    /// `weights` become their gradient.
    fn run(self, path: Path, weights: &mut [R]) -> OfLatents<R> {
        let (d, latents) = (self.by_row.depth(), self.b.len());
        let rows = self.by_row.outputs();
        let mut slopes = vec![R::ZERO; latents * rows];
        self.by_row.times_here(path, self.w, &mut slopes);
        let mut cost = 0.0;
        for (values, &bias) in slopes.chunks_exact_mut(rows).zip(self.b) {
            cost += path.run(Charge { values, bias, weight: self.weight });
        }
        weights.fill(R::ZERO);
        let mut of_lane = vec![R::ZERO; latents * d];
        for (ends, panels) in self.lanes.windows(2).zip(self.by_lane).filter(|(ends, _)| ends[0] < ends[1]) {
            let mut left = Vec::with_capacity(latents * (ends[1] - ends[0]));
            slopes
                .chunks_exact(rows)
                .for_each(|of_latent| left.extend_from_slice(&of_latent[ends[0]..ends[1]]));
            panels.times_here(path, &left, &mut of_lane);
            vector::add(&of_lane, weights);
        }
        let Block { first, pairs, y, lanes, .. } = self;
        let biases = path.run(Pairs { first, slopes: &slopes, weights, pairs, y, lanes });
        OfLatents { biases, cost }
    }
}

/// What the sampled pairs of some latents add to the gradient of their weights.
struct Pairs<'a, R> {
    first: usize,
    slopes: &'a [R],
    weights: &'a mut [R],
    pairs: &'a ByLatent<R>,
    y: &'a [R],
    lanes: LaneStarts<'a>,
}

impl<R: Real> Kernel for Pairs<'_, R> {
    /// Gradient of the biases.
    type Output = Vec<R>;

    #[inline(always)]
    fn run(self) -> Vec<R> {
        let (mut biases, mut runs) = (Vec::new(), Vec::new());
        let rows = self.lanes.last().copied().unwrap_or(0);
        let d = self.y.len() / rows.max(1);
        let latents = self.slopes.chunks_exact(rows.max(1)).zip(self.weights.chunks_exact_mut(d.max(1)));
        for (latent, (slopes, total)) in latents.enumerate() {
            let entries = self.pairs.entries(self.first + latent);
            csc::lane_runs(entries.rows, self.lanes, &mut runs);
            let mut bias = R::ZERO;
            for ends in self.lanes.windows(2) {
                bias += slopes[ends[0]..ends[1]].iter().copied().sum::<R>();
            }
            biases.push(bias + csc::sum_weights(&runs, entries.encoder));
            let weights = entries.encoder;
            SumRows { runs: &runs, rows: entries.rows, weights, y: self.y, centre: None, total }.run();
        }
        biases
    }
}

/// Partial sums of a cost.
const SUMS: usize = 16;

/// From products to slopes of `weight·½Σ(σ² − log σ² − 1)`.
struct Charge<'a, R> {
    values: &'a mut [R],
    bias: R,
    weight: f64,
}

impl<R: Real> Kernel for Charge<'_, R> {
    /// The sum without the weight.
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let mut costs = [0f64; SUMS];
        let (blocks, rest) = self.values.as_chunks_mut::<SUMS>();
        for block in blocks {
            for (value, cost) in block.iter_mut().zip(&mut costs) {
                let (slope, of_value) = charge(*value + self.bias, self.weight);
                (*value, *cost) = (slope, *cost + of_value);
            }
        }
        let mut sum: f64 = costs.iter().sum();
        for value in rest {
            let (slope, cost) = charge(*value + self.bias, self.weight);
            (*value, sum) = (slope, sum + cost);
        }
        sum
    }
}

/// The slope and the cost of one log σ².
#[inline(always)]
fn charge<R: Real>(log_variance: R, weight: f64) -> (R, f64) {
    let free = log_variance.f64();
    let low = if free < BOUNDS.0 { BOUNDS.0 } else { free };
    let bounded = if low > BOUNDS.1 { BOUNDS.1 } else { low };
    let variance = exp(bounded);
    let slope = R::of(weight * 0.5 * (variance - 1.0));
    (if free == bounded { slope } else { R::ZERO }, 0.5 * (variance - bounded - 1.0))
}
