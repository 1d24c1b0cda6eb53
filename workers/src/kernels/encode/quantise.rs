//! Eight-bit copies of weights and rows, with what is needed to bound the error of their products.
//!
//! # The bound
//!
//! Dimensions are scaled by powers of two `c_j`: `a_j = x_j/c_j`, `b_j = w_j·c_j` (x already without
//! `b_dec`), so `⟨a, b⟩ = ⟨x, w⟩`. With integers `q`, `p` in ±127 and steps `s`, `t`, let
//! `â = s·q`, `b̂ = t·p`, and let `ẑ = s·t·Σqp + bias` be what the integers say. Then
//!
//! `⟨a, b⟩ − ⟨â, b̂⟩ = ⟨a − â, b⟩ + ⟨â, b − b̂⟩`, and by Cauchy and Schwarz
//! `|z − ẑ| ≤ ‖a − â‖·‖b‖ + ‖â‖·‖b − b̂‖`, with `‖â‖ ≤ ‖a‖ + ‖a − â‖`.
//!
//! The f32 encoder computes not `z` but a chain of `d` fused multiply-adds from the bias, off by at
//! most `d·u·(‖a‖‖b‖ + |bias|)` to first order, `u = 2⁻²⁴`, since `Σ|x_j w_j| ≤ ‖a‖‖b‖`. The upper bound
//! itself is computed in f32 with six roundings of terms that are at most `4‖a‖‖b‖`, the bound or
//! the bias. [`gamma`] is `(d + 16)·2u`, which leaves `(d + 32)·u` for those six.
//!
//! Norms are sums in 16 lanes, relative error below [`gamma`], and are multiplied by `1 + gamma`.
//! Scaling is exact but for underflow below 2⁻¹²⁶. Vectors whose largest scaled element lies outside
//! `2^±40` are not quantised: such a latent is a candidate in every row, such a row goes through the
//! f32 encoder. Inside these limits what underflows is less than `step·2⁻¹⁰` together, which is added
//! to the error; nothing overflows.

use rayon::prelude::*;

use super::Encoder;
use crate::kernels::{Path, simd::Kernel, vector};

/// Latents of a panel.
pub(super) const COLS: usize = 32;
/// Rows of a tile.
pub(super) const ROWS: usize = 12;
/// Dimensions that one instruction multiplies and adds.
pub(super) const GROUP: usize = 4;
/// Largest and smallest magnitude that is quantised, as powers of two.
const LIMIT: f32 = 1.099_511_6e12;

/// Relative rounding error of a chain of `d` fused multiply-adds, twice over and a little more.
pub(super) fn gamma(d: usize) -> f32 {
    (d as f32 + 16.0) * f32::EPSILON
}

/// What the products of a quantised vector may be off by: upper bounds of norms.
#[derive(Debug, Clone, Copy, Default)]
struct Vector {
    /// Value of one integer.
    step: f32,
    /// `‖a‖`.
    norm: f32,
    /// `‖a − â‖`.
    error: f32,
}

/// Quantises `a`, already scaled, and overwrites it with `a − â`; `codes` is at least as long.
/// `None` where the magnitude is out of bounds or not finite; a zero vector has zero bounds.
#[inline(always)]
fn quantise(a: &mut [f32], codes: &mut [i8]) -> Option<Vector> {
    // Adding 1.5·2²³ rounds to the nearest integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let mut lanes = [0f32; vector::LANES];
    let (blocks, tail) = a.as_chunks::<{ vector::LANES }>();
    for block in blocks {
        for (lane, v) in lanes.iter_mut().zip(block) {
            *lane = if v.abs() > *lane { v.abs() } else { *lane };
        }
    }
    let largest = lanes.iter().chain(tail).fold(0f32, |m, v| if v.abs() > m { v.abs() } else { m });
    let squares = vector::dot(a, a);
    if largest == 0.0 && squares == 0.0 {
        codes.fill(0);
        return Some(Vector::default());
    }
    if !(1.0 / LIMIT..LIMIT).contains(&largest) || !squares.is_finite() {
        return None;
    }
    let (step, inverse) = (largest / 127.0, 127.0 / largest);
    for (code, v) in codes.iter_mut().zip(a.iter_mut()) {
        let rounded = v.mul_add(inverse, ROUND);
        #[allow(clippy::cast_possible_truncation, reason = "the low byte is the integer")]
        let low = rounded.to_bits() as i8;
        *code = low;
        *v = (-step).mul_add(rounded - ROUND, *v);
    }
    let margin = 1.0 + gamma(a.len());
    let error = vector::dot(a, a).sqrt() * margin + step / 1024.0;
    Some(Vector { step, norm: squares.sqrt() * margin, error })
}

/// Bounds of the latents of a panel. Padding has a bias of −∞, a latent that is not quantised +∞.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Which latents they are: every so many-th, so that latents that lie together are spread over the
    /// panels and each panel is a sample of all.
    pub(super) columns: [u32; COLS],
    /// `−128·Σp`: rows are stored as `q + 128`, because the instruction wants one side unsigned.
    pub(super) start: [i32; COLS],
    /// `t`.
    pub(super) step: [f32; COLS],
    /// Upper bound of `‖b‖`.
    pub(super) norm: [f32; COLS],
    /// Upper bound of `‖b − b̂‖`.
    pub(super) error: [f32; COLS],
    /// Bias and what rounding adds to it.
    pub(super) bias: [f32; COLS],
}

/// All encoder weights as integers: a quarter of the bytes of f32.
#[derive(Debug, Clone)]
pub struct Quantised {
    /// `1/c_j` and `c_j`.
    unscale: Vec<f32>,
    scale: Vec<f32>,
    /// `[ceil(n_latents / COLS)][ceil(d_in / GROUP)][COLS]`.
    panels: Vec<[i8; GROUP]>,
    /// One per panel.
    pub(super) bounds: Vec<Bounds>,
}

impl Quantised {
    /// Quantises all latents of `encoder`, for rows like `x`, `[rows, d_in]`. Other rows are bounded
    /// as well, if less tightly.
    pub(super) fn new(path: Path, encoder: &Encoder<f32>, x: &[f32], b_dec: &[f32]) -> Self {
        let scale = scales(encoder, x, b_dec);
        let unscale = scale.iter().map(|c| 1.0 / c).collect();
        let n_panels = encoder.columns().div_ceil(COLS);
        let panel = encoder.d_in.div_ceil(GROUP) * COLS;
        let mut panels = vec![[0i8; GROUP]; n_panels * panel];
        let of = |(p, codes): (usize, &mut [[i8; GROUP]])| {
            path.run(QuantisePanel { encoder, first: p, stride: n_panels, scale: &scale, codes })
        };
        let bounds = panels.par_chunks_mut(panel.max(1)).enumerate().map(of).collect();
        Quantised { unscale, scale, panels, bounds }
    }

    /// Groups of dimensions.
    pub(super) fn groups(&self) -> usize {
        self.scale.len().div_ceil(GROUP)
    }

    /// The integers of a panel and their bounds.
    #[inline(always)]
    pub(super) fn panel(&self, p: usize) -> (&[[i8; GROUP]], &Bounds) {
        let length = self.groups() * COLS;
        (&self.panels[p * length..][..length], &self.bounds[p])
    }

    /// Upper bound of `‖b‖`.
    pub(super) fn norm(&self, column: usize) -> f32 {
        self.bounds[column % self.bounds.len()].norm[column / self.bounds.len()]
    }
}

/// Vectors looked at for the scales of dimensions.
const SAMPLE: usize = 256;

/// Powers of two near `√(rms x_j / rms w_j)`: both sides lose about as much to the dimensions that are
/// large on the other. In real activations a few dimensions are ten times the rest.
fn scales(encoder: &Encoder<f32>, x: &[f32], b_dec: &[f32]) -> Vec<f32> {
    let d = encoder.d_in;
    let mut of_rows = vec![0f32; d];
    for row in x.chunks_exact(d).step_by((x.len() / d).div_ceil(SAMPLE).max(1)) {
        of_rows.iter_mut().zip(row).zip(b_dec).for_each(|((sum, &x), &b)| *sum += (x - b) * (x - b));
    }
    let mut of_weights = vec![0f32; d];
    for column in (0..encoder.columns()).step_by(encoder.columns().div_ceil(SAMPLE).max(1)) {
        of_weights.iter_mut().zip(encoder.weights(column)).for_each(|(sum, &w)| *sum += w * w);
    }
    let exponent = |squares: f32| if squares.is_normal() { squares.log2() / 4.0 } else { 0.0 };
    let pairs = of_rows.iter().zip(&of_weights);
    pairs.map(|(&x, &w)| (exponent(x) - exponent(w)).round().clamp(-20.0, 20.0).exp2()).collect()
}

struct QuantisePanel<'a> {
    encoder: &'a Encoder<'a, f32>,
    first: usize,
    stride: usize,
    scale: &'a [f32],
    codes: &'a mut [[i8; GROUP]],
}

impl Kernel for QuantisePanel<'_> {
    type Output = Bounds;

    #[inline(always)]
    fn run(self) -> Bounds {
        let (zeros, none) = ([0f32; COLS], [f32::NEG_INFINITY; COLS]);
        let mut bounds = Bounds {
            columns: [0; COLS],
            start: [0; COLS],
            step: zeros,
            norm: zeros,
            error: zeros,
            bias: none,
        };
        let d = self.encoder.d_in;
        let (mut scaled, mut row) = (vec![0f32; d], vec![0i8; d.next_multiple_of(GROUP)]);
        let columns = (self.first..self.encoder.columns()).step_by(self.stride);
        for (c, column) in columns.enumerate() {
            bounds.columns[c] = column as u32;
            let weights = self.encoder.weights(column);
            for ((out, &w), &s) in scaled.iter_mut().zip(weights).zip(self.scale) {
                *out = w * s;
            }
            let bias = self.encoder.bias(column);
            let Some(vector) = quantise(&mut scaled, &mut row) else {
                (bounds.norm[c], bounds.bias[c]) = (f32::INFINITY, f32::INFINITY);
                continue;
            };
            for (group, out) in
                row.as_chunks::<GROUP>().0.iter().zip(self.codes[c..].iter_mut().step_by(COLS))
            {
                *out = *group;
            }
            bounds.start[c] = -128 * row[..d].iter().map(|&p| i32::from(p)).sum::<i32>();
            (bounds.step[c], bounds.norm[c], bounds.error[c]) = (vector.step, vector.norm, vector.error);
            bounds.bias[c] = 2.0f32.mul_add(gamma(d) * bias.abs(), bias);
        }
        bounds
    }
}

/// A block of rows as integers.
#[derive(Debug, Clone)]
pub(super) struct QuantisedRows {
    /// `q + 128` in tiles: `[tiles][ceil(d_in / GROUP)][ROWS]`.
    pub(super) tiles: Vec<[u8; GROUP]>,
    /// `s`; NaN where the row cannot be quantised.
    pub(super) step: Vec<f32>,
    /// What `‖b‖` is multiplied by: the error of the row, and rounding.
    pub(super) per_norm: Vec<f32>,
    /// What `‖b − b̂‖` is multiplied by: `‖â‖`.
    pub(super) per_error: Vec<f32>,
    /// Upper bound of `‖a‖`.
    pub(super) norm: Vec<f32>,
}

/// Quantises rows of `centred` (`[rows, d_in]`, without `b_dec`) in the scales of the weights.
pub(super) struct QuantiseRows<'a> {
    pub(super) weights: &'a Quantised,
    pub(super) centred: &'a [f32],
}

impl Kernel for QuantiseRows<'_> {
    type Output = QuantisedRows;

    #[inline(always)]
    fn run(self) -> QuantisedRows {
        let d = self.weights.scale.len();
        let (groups, n_rows) = (self.weights.groups(), self.centred.len() / d);
        let zeros = || vec![0f32; n_rows];
        let tiles = vec![[128u8; GROUP]; n_rows.next_multiple_of(ROWS) * groups];
        let mut out =
            QuantisedRows { tiles, step: zeros(), per_norm: zeros(), per_error: zeros(), norm: zeros() };
        let (mut scaled, mut row) = (vec![0f32; d], vec![0i8; d.next_multiple_of(GROUP)]);
        for (r, x) in self.centred.chunks_exact(d).enumerate() {
            for ((out, &x), &s) in scaled.iter_mut().zip(x).zip(&self.weights.unscale) {
                *out = x * s;
            }
            let Some(vector) = quantise(&mut scaled, &mut row).filter(|v| v.norm > 0.0) else {
                out.step[r] = f32::NAN;
                continue;
            };
            let tile = &mut out.tiles[r / ROWS * ROWS * groups + r % ROWS..];
            for (group, out) in row.as_chunks::<GROUP>().0.iter().zip(tile.iter_mut().step_by(ROWS)) {
                *out = group.map(|q| (q as u8) ^ 128);
            }
            let rounding = 1.0 + 16.0 * f32::EPSILON;
            out.step[r] = vector.step;
            out.per_norm[r] = (vector.error + gamma(d) * vector.norm) * rounding;
            out.per_error[r] = (vector.norm + vector.error) * rounding;
            out.norm[r] = vector.norm;
        }
        out
    }
}
