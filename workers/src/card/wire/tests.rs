//! What travels is what was there.

use half::bf16;
use proptest::prelude::*;

use super::*;

/// `x` as rows of `width` that go whole, at one scale.
fn written(x: &[f32], width: usize, scale: f32, format: Format) -> Option<Vec<u32>> {
    let rows: Vec<&[f32]> = x.chunks_exact(width).collect();
    let columns = 0..width;
    let outgoing = Outgoing { rows: &rows, columns: std::slice::from_ref(&columns), scales: &[scale] };
    let mut words = vec![0; format.words(x.len())];
    outgoing.write(format, &mut words).then_some(words)
}

fn halves(words: &[u32]) -> &[u16] {
    bytemuck::cast_slice(words)
}

/// As its own 16 bits; only NaNs lose something when they are widened, and go as what is left of them.
#[test]
fn every_number_of_16_bits_goes_in_16_bits() {
    let all = || 0..=u16::MAX;
    let x: Vec<f32> = all().map(|bits| f16::from_bits(bits).to_f32()).collect();
    let words = written(&x, 256, 0.37, Format::F16).unwrap();
    let quiet = |bits: u16| if f16::from_bits(bits).is_nan() { bits | 0x200 } else { bits };
    assert!(halves(&words).iter().copied().eq(all().map(quiet)));

    // Nothing as small as some devices take for zero.
    let size = |bits: u16| bits & 0x7fff;
    let all: Vec<u16> = all().filter(|&bits| size(bits) == 0 || size(bits) >= 0x100).collect();
    let x: Vec<f32> = all.iter().map(|&bits| bf16::from_bits(bits).to_f32()).collect();
    let words = written(&x, 1, 1.7, Format::Bf16).unwrap();
    let quiet = |bits: &u16| if bf16::from_bits(*bits).is_nan() { bits | 0x40 } else { *bits };
    assert!(halves(&words)[..all.len()].iter().copied().eq(all.iter().map(quiet)));
}

#[test]
fn what_does_not_fit_is_said_wherever_it_stands() {
    let inexact = [0.1, 1e-8, 65_520.0, 1.0 + f32::EPSILON, f32::from_bits(0x7f80_0001)];
    for at in [0, 1, 255, 511, 512, 700, 1023] {
        for other in inexact {
            for (format, width) in
                [(Format::F16, 1024), (Format::Bf16, 1024), (Format::F16, 4), (Format::Bf16, 1)]
            {
                let mut x = vec![0.5; 1024];
                assert!(written(&x, width, 3.0, format).is_some());
                x[at] = other;
                assert_eq!(written(&x, width, 3.0, format), None, "{other} at {at}, {format:?}");
                let scaled: Vec<u32> = x.iter().map(|v| (v * 3.0).to_bits()).collect();
                assert_eq!(written(&x, width, 3.0, Format::F32), Some(scaled));
            }
        }
    }
}

/// A device that takes small numbers for zero is not given any.
#[test]
fn numbers_that_some_devices_do_not_have_go_as_f32() {
    assert_eq!(written(&[1e-39], 1, 1.0, Format::Bf16), None);
    let small = f32::from_bits(f32::MIN_POSITIVE.to_bits() + (8 << 20));
    assert!(written(&[small, -0.0, 0.0], 1, 1.0, Format::Bf16).is_some());
    assert_eq!(written(&[small], 1, 0.01, Format::Bf16), None);
    assert_eq!(written(&[1.0], 1, 1e-34, Format::F16), None);
    assert_eq!(written(&[1.0], 1, 0.0, Format::F16), None);
    assert!(written(&[f32::INFINITY, f32::NAN, f32::NEG_INFINITY], 1, 1.0, Format::Bf16).is_some());
}

proptest! {
    /// Columns side by side, each at its scale, any part of the rows.
    #[test]
    fn columns_go_side_by_side(rows in 1usize..40, first in 0usize..5, second in 1usize..7, from in 0usize..40) {
        let (gap, columns) = (2, [first + 3..first + 3 + second, 0..first]);
        let width = first + gap + 1 + second;
        let x: Vec<f32> = (0..rows * width).map(|i| f32::from(u16::try_from(i % 2000).unwrap()) / 8.0).collect();
        let whole: Vec<&[f32]> = x.chunks_exact(width).collect();
        let outgoing = Outgoing { rows: &whole, columns: &columns, scales: &[0.3, 7.0] };
        let from = from.min(rows);
        let part = outgoing.part(from..rows);
        let (numbers, scales) = ((rows - from) * part.width(), part.scale_of_values());
        let mut scaled = vec![f32::NAN; numbers];
        part.scaled(&mut scaled);
        let mut words = vec![0; Format::F16.words(numbers)];
        prop_assert!(part.write(Format::F16, &mut words));
        let wide = halves(&words)[..numbers].iter().map(|&bits| f16::from_bits(bits).to_f32());
        let product = wide.enumerate().map(|(i, v)| v * scales[i % part.width()]);
        prop_assert_eq!(product.collect::<Vec<_>>(), scaled);
    }
}
