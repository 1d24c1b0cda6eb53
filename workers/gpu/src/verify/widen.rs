//! Widened rows against the products of the processor, bit by bit.

use half::{bf16, f16};

use super::{
    Report,
    numbers::{floats, poison},
    read,
};
use crate::{
    Runtime,
    card::Card,
    kernels::widen::{Half, widen},
};

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for half in [Half::F16, Half::Bf16] {
        every_pattern(card, report, half);
        for (rows, d) in [(0, 3), (1, 1), (5, 1), (3, 7), (256, 2), (129, 389)] {
            of_shape(card, report, half, rows, d);
        }
    }
}

/// Every number of 16 bits, at a scale that changes none and at others.
fn every_pattern<R: Runtime>(card: &Card<R>, report: &mut Report, half: Half) {
    let patterns: Vec<u16> = (0..=u16::MAX).collect();
    for scales in [vec![1.0], vec![0.37, 113.5, 1.0]] {
        compared(card, report, half, &patterns, &scales);
    }
}

/// Numbers as activations are, each column of a row at a scale of its own.
fn of_shape<R: Runtime>(card: &Card<R>, report: &mut Report, half: Half, rows: usize, d: usize) {
    let narrow = |v: f32| match half {
        Half::F16 => f16::from_f32(v).to_bits(),
        Half::Bf16 => bf16::from_f32(v).to_bits(),
    };
    let patterns: Vec<u16> = floats(91, rows * d).into_iter().map(|v| narrow(v * 40.0)).collect();
    compared(card, report, half, &patterns, &floats(92, d));
}

fn compared<R: Runtime>(card: &Card<R>, report: &mut Report, half: Half, patterns: &[u16], scales: &[f32]) {
    let len = patterns.len();
    let words = patterns
        .chunks(2)
        .map(|pair| u32::from(pair[0]) | pair.get(1).map_or(0, |&high| u32::from(high) << 16));
    let words: Vec<u32> = words.collect();
    let wide = |bits: u16| match half {
        Half::F16 => f16::from_bits(bits).to_f32(),
        Half::Bf16 => bf16::from_bits(bits).to_f32(),
    };
    let product = |(i, &bits): (usize, &u16)| match (wide(bits), scales[i % scales.len()]) {
        (wide, _) if wide.is_nan() => wide.to_bits() | 0x40_0000,
        (wide, 1.0) => wide.to_bits(),
        (wide, scale) => flushed(wide, wide * scale),
    };
    let expected: Vec<u32> = patterns.iter().enumerate().map(product).collect();
    poison(card, &[len]);
    let found = widen(card, &card.upload(&words), len, &card.upload(scales), half);
    let tiny = |(i, bits): (usize, u32)| match wide(patterns[i]) {
        value if value != 0.0 && scales[i % scales.len()] != 1.0 => flushed(value, f32::from_bits(bits)),
        _ => bits,
    };
    let found: Vec<u32> = read(card, &found).into_iter().map(f32::to_bits).enumerate().map(tiny).collect();
    report.equal("widen", format!("{half:?} len {len} d {}", scales.len()), &found, &expected);
}

/// The bits of a product, of none where a factor or it is so small that some devices take it for zero: such numbers
/// do not travel in 16 bits.
fn flushed(factor: f32, product: f32) -> u32 {
    let small = |v: f32| v.abs() < 2.0 * f32::MIN_POSITIVE;
    if small(factor) || small(product) { 0 } else { product.to_bits() }
}
