//! Rounding to factors bit for bit, and the product on tensor cores against sums of rounded factors in f64.

use half::bf16;

use super::{
    Report,
    product::{SHAPES, numbers},
};
use crate::{
    Runtime,
    card::Card,
    kernels::{
        factors::{Beyond, Factors, Numbers, Rounding},
        tensor_product::{TensorProduct, available},
    },
};

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for rounding in [Rounding::Bf16, Rounding::Tf32] {
        special(card, report, rounding);
        pieces(card, report, rounding);
        for (seed, shape) in (1u64..).zip(SHAPES.into_iter().chain([[700, 1000, 8, 900, 200]])) {
            one(card, report, rounding, seed, shape);
        }
    }
}

fn one<R: Runtime>(
    card: &Card<R>,
    report: &mut Report,
    rounding: Rounding,
    seed: u64,
    [rows, n, first, width, d]: [usize; 5],
) {
    let shape = format!("{rows} x {d} by {width} of {n}, {rounding:?}");
    let (x, w) = (numbers(seed, rows * d), numbers(seed + 50, n * d));
    let plain = [x.clone(), w.clone()];
    let of_x = filled(card, report, rounding, &x, d, 0, rows);
    let of_w = filled(card, report, rounding, &w, d, first, width);
    if available(card, rounding).is_err() {
        return;
    }
    let out = card.upload(&vec![f32::NAN; rows * width]);
    let done = TensorProduct { x: &of_x, w: &of_w, rows, width }.run(card, &out);
    report.equal("tensor product, kernel", shape.clone(), &[done], &[Ok(())]);
    let line = |of: &[f32], l: usize| -> Vec<f64> {
        of[l * d..][..d].iter().map(|x| f64::from(rounded(*x, rounding))).collect()
    };
    let (x, w): (Vec<_>, Vec<_>) =
        ((0..rows).map(|r| line(&x, r)).collect(), (first..first + width).map(|l| line(&w, l)).collect());
    #[allow(clippy::cast_possible_truncation, reason = "the reference is rounded once, at the end")]
    let sum = |x: &Vec<f64>, w: &Vec<f64>| x.iter().zip(w).map(|(a, b)| a * b).sum::<f64>() as f32;
    let expected: Vec<f32> = x.iter().flat_map(|x| w.iter().map(move |w| sum(x, w))).collect();
    report.close("tensor product", shape.clone(), &card.download(&out).unwrap_or_default(), &expected, 1e-5);
    let bias = numbers(seed + 99, n);
    let with = |from: &[f32], first, lines, beyond| {
        let to = Factors::with_bias(card, rounding, lines, d);
        to.fill(card, &card.upload(from), first, lines, beyond);
        to
    };
    let there = card.upload(&bias);
    let of_x = with(&plain[0], 0, rows, Beyond::Ones);
    let of_w = with(&plain[1], first, width, Beyond::Bias(&there));
    let out = card.upload(&vec![f32::NAN; rows * width]);
    let done = TensorProduct { x: &of_x, w: &of_w, rows, width }.run(card, &out);
    report.equal("tensor product with bias, kernel", shape.clone(), &[done], &[Ok(())]);
    let expected: Vec<f32> =
        expected.iter().enumerate().map(|(at, sum)| sum + bias[first + at % width]).collect();
    report.close(
        "tensor product with bias",
        shape,
        &card.download(&out).unwrap_or_default(),
        &expected,
        1e-5,
    );
}

/// The pieces of a bias are rounded numbers whose sum it is, to the last bit.
fn pieces<R: Runtime>(card: &Card<R>, report: &mut Report, rounding: Rounding) {
    let bias = [numbers(7, 40), vec![0.0, -0.0, 1.0, -3.5e-3, 123_456.79, 1.000_000_1]].concat();
    let (d, lines) = (5, bias.len());
    for (beyond, form) in [(Beyond::Ones, "ones"), (Beyond::Bias(&card.upload(&bias)), "bias")] {
        let to = Factors::with_bias(card, rounding, lines, d);
        to.fill(card, &card.upload(&vec![9.0f32; lines * d]), 0, lines, beyond);
        let found: Vec<f32> = match &to.numbers {
            Numbers::Bf16(of) => card.download(of).unwrap_or_default().iter().map(|x| x.to_f32()).collect(),
            Numbers::Tf32(of) => card.download(of).unwrap_or_default(),
        };
        let behind: Vec<&[f32]> = found.chunks(to.pitch).map(|line| &line[d..]).collect();
        let sums: Vec<f32> = behind.iter().map(|line| line.iter().rev().sum()).collect();
        let expected = if form == "ones" { vec![3.0; lines] } else { bias.clone() };
        report.close("pieces of a bias", format!("{form}, {rounding:?}"), &sums, &expected, 0.0);
        let round = behind.concat().iter().all(|&piece| rounded(piece, rounding) == piece);
        report.equal("pieces are rounded", format!("{form}, {rounding:?}"), &[round], &[true]);
    }
}

/// Rounds lines on the card, over numbers that are none, and notes whether the bits are right.
fn filled<R: Runtime>(
    card: &Card<R>,
    report: &mut Report,
    rounding: Rounding,
    from: &[f32],
    d: usize,
    first: usize,
    lines: usize,
) -> Factors {
    let mut to = Factors::room(card, rounding, lines, d);
    let len = lines * to.pitch;
    to.numbers = match rounding {
        Rounding::Bf16 => Numbers::Bf16(card.upload(&vec![bf16::NAN; len])),
        Rounding::Tf32 => Numbers::Tf32(card.upload(&vec![f32::NAN; len])),
    };
    to.fill(card, &card.upload(from), first, lines, Beyond::Zeros);
    let found: Vec<f32> = match &to.numbers {
        Numbers::Bf16(of) => card.download(of).unwrap_or_default().iter().map(|x| x.to_f32()).collect(),
        Numbers::Tf32(of) => card.download(of).unwrap_or_default(),
    };
    let of =
        |at: usize| if at % to.pitch < d { from[(first + at / to.pitch) * d + at % to.pitch] } else { 0.0 };
    let bits = |x: f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    let expected: Vec<u32> = (0..len).map(|at| bits(rounded(of(at), rounding))).collect();
    let found: Vec<u32> = found.into_iter().map(bits).collect();
    report.equal("factors", format!("{lines} x {d} from {first}, {rounding:?}"), &found, &expected);
    to
}

/// Middles between two neighbours, the largest numbers, what is infinite and what is no number.
fn special<R: Runtime>(card: &Card<R>, report: &mut Report, rounding: Rounding) {
    let bits = [0x3f80_8000, 0x3f81_8000, 0x3f80_8001, 0x3f80_1000, 0x3f80_3000, 0x3f80_1001, 0xbf80_7fff];
    let middles = bits.map(f32::from_bits);
    let ends = [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::MAX, f32::MIN, -0.0, 1.5, 3.0, -7.0];
    filled(card, report, rounding, &[&middles[..], &ends[..]].concat(), 16, 0, 1);
}

/// The reference of rounding.
pub(super) fn rounded(x: f32, rounding: Rounding) -> f32 {
    match rounding {
        Rounding::Bf16 => bf16::from_f32(x).to_f32(),
        Rounding::Tf32 if !x.is_finite() => x,
        Rounding::Tf32 => {
            let bits = x.to_bits();
            let below = f32::from_bits(bits & !0x1fff);
            let above = f32::from_bits((bits & !0x1fff).wrapping_add(0x2000));
            let rest = bits & 0x1fff;
            let up = rest > 0x1000 || rest == 0x1000 && bits & 0x2000 != 0;
            if up { above } else { below }
        }
    }
}
