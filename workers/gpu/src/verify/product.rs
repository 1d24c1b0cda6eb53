//! The product in f32 against sums in f64, and its order of summation against the same chain on the CPU.

use super::Report;
use crate::{Runtime, card::Card, kernels::product::Product};

/// Rows, latents in all, the first one, latents of the chunk, columns: around tiles, inside them, and one alone.
pub(super) const SHAPES: [[usize; 5]; 8] = [
    [1, 1, 0, 1, 1],
    [3, 40, 5, 7, 4],
    [128, 128, 0, 128, 8],
    [130, 300, 8, 257, 36],
    [5, 700, 300, 129, 33],
    [257, 131, 0, 131, 100],
    [64, 65, 1, 64, 7],
    [33, 2000, 1999, 1, 260],
];

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, [rows, n, first, width, d]) in (1u64..).zip(SHAPES) {
        let shape = format!("{rows} x {d} by {width} of {n}");
        let (x, w, bias) = (numbers(seed, rows * d), numbers(seed + 50, n * d), numbers(seed + 90, n));
        let product = Product {
            x: &card.upload(&x),
            w: &card.upload(&w),
            bias: &card.upload(&bias),
            d,
            rows,
            first,
            width,
        };
        let out = card.upload(&vec![f32::NAN; rows * width]);
        product.run(card, &out);
        let found = card.download(&out).unwrap_or_default();
        let sums = |sum: &dyn Fn(&[f32], &[f32], f32) -> f32| -> Vec<f32> {
            let of = |r: usize, l: usize| sum(&x[r * d..][..d], &w[(first + l) * d..][..d], bias[first + l]);
            (0..rows).flat_map(|r| (0..width).map(move |l| (r, l))).map(|(r, l)| of(r, l)).collect()
        };
        let (exact, fused, rounded) = (sums(&exact), sums(&fused), sums(&rounded));
        report.close("product", shape.clone(), &found, &exact, 1e-5);
        // A software device may round products: then that chain, never another order.
        let chain = if found == rounded { &rounded } else { &fused };
        report.equal("product, order of sums", shape, &found, chain);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the reference is rounded once, at the end")]
fn exact(x: &[f32], w: &[f32], bias: f32) -> f32 {
    let product = |(&a, &b): (&f32, &f32)| f64::from(a) * f64::from(b);
    (f64::from(bias) + x.iter().zip(w).map(product).sum::<f64>()) as f32
}

fn fused(x: &[f32], w: &[f32], bias: f32) -> f32 {
    x.iter().zip(w).fold(bias, |sum, (a, b)| a.mul_add(*b, sum))
}

fn rounded(x: &[f32], w: &[f32], bias: f32) -> f32 {
    x.iter().zip(w).fold(bias, |sum, (a, b)| a * b + sum)
}

/// `len` numbers between −1 and 1, from a hash of their position (Steele et al. 2014, splitmix64).
#[allow(clippy::cast_precision_loss, reason = "24 bits are exact")]
pub(super) fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mix = |i: u64| {
        let z = (seed << 40 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / 8_388_608.0 - 1.0
    };
    (0..len as u64).map(mix).collect()
}
