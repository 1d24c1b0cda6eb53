//! Checks of [`crate::kernels::moments`], [`crate::kernels::bytes`] and [`crate::kernels::weights`]: steps with moments
//! in bytes against f64, step by step from what the bytes say, and the rounded copies that a step writes.

use half::bf16;

use super::{
    Report,
    adam::{STEPS, constants},
    numbers::{floats, poison},
    read,
};
use crate::{
    Runtime,
    card::Card,
    kernels::{
        adam::Parameter,
        dense::{Dense, step_from},
        factors::{Factors, Numbers, Rounding},
        moments::Moments,
        update::{Beside, Latents},
        weights::Weights,
    },
};

/// Latents, `d_in`, `d_out`.
const SHAPES: [[usize; 3]; 6] =
    [[1, 1, 1], [3, 5, 8], [7, 389, 130], [5, 96, 1100], [2, 2049, 63], [1, 3, 8192]];
const TOLERANCE: f64 = 1e-5;
/// Of a number and its byte: a step is an eighth, and what is far below the largest of its row is zero.
const STEP: f64 = 0.1251;

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, shape) in (5000u64..).step_by(100).zip(SHAPES) {
        let first = one(card, report, seed, shape, true);
        let again = one(card, report, seed, shape, true);
        report.equal("bytes, twice the same", format!("{shape:?}"), &bits(&again), &bits(&first));
        one(card, report, seed, shape, false);
    }
}

/// Three steps with gradients of all sizes, and values and moments afterwards.
fn one<R: Runtime>(
    card: &Card<R>,
    report: &mut Report,
    seed: u64,
    [n, d_in, d_out]: [usize; 3],
    coded: bool,
) -> Vec<f32> {
    let bias = card.upload(&floats(seed + 1, n));
    let zeros = || card.upload(&vec![0.0f32; n]);
    let weights = |seed, d: usize, bias| {
        let (value, none) = (card.upload(&floats(seed, n * d)), vec![0.0; n * d]);
        let moments = match coded {
            true => Moments::bytes(card, &none, &none, d),
            false => Moments::floats(card, &none, &none),
        };
        Weights { rounded: Some(Factors::of(card, Rounding::Bf16, &value, d, bias)), value, moments }
    };
    let latents = Latents {
        w_enc: weights(seed + 2, d_in, Some(&bias)),
        w_dec: weights(seed + 3, d_out, None),
        b_enc: Parameter { value: bias.clone(), m: zeros(), v: zeros() },
    };
    for t in 1..=STEPS {
        let [of_enc, of_dec] = [d_in, d_out].map(|d| gradients(seed + 10 * t, n, d));
        let before = [&latents.w_enc, &latents.w_dec].map(|of| state(card, of));
        poison(card, &[n * d_in, n * d_out]);
        let dense = Dense {
            w_enc: card.upload(&of_enc),
            b_enc: card.upload(&floats(seed + 10 * t + 5, n)),
            w_dec: card.upload(&of_dec),
        };
        step_from(card, &dense, &latents, Beside::default(), &constants(t), false);
        let after = [&latents.w_enc, &latents.w_dec].map(|of| state(card, of));
        for (i, (g, d)) in [(of_enc, d_in), (of_dec, d_out)].into_iter().enumerate() {
            let shape = format!("{n} x {d} of {d_in} {d_out}, step {t}, bytes {coded}");
            stepped(report, &shape, [&before[i], &after[i]], &g, d, t, coded);
        }
    }
    for (of, d, bias) in [(&latents.w_enc, d_in, Some(&bias)), (&latents.w_dec, d_out, None)] {
        let shape = format!("{n} x {d} of {d_in} {d_out}, bytes {coded}");
        let fresh = Factors::of(card, Rounding::Bf16, &of.value, d, bias);
        let halves = |factors: &Factors| match &factors.numbers {
            Numbers::Bf16(numbers) => read(card, numbers).into_iter().map(bf16::to_bits).collect(),
            Numbers::Tf32(_) => Vec::new(),
        };
        let found = of.rounded.as_ref().map_or_else(Vec::new, halves);
        report.equal("rounded by the step", shape.clone(), &found, &halves(&fresh));
        let [_, m, v] = state(card, of);
        if coded {
            let again = Moments::bytes(card, &m, &v, d).download(card).unwrap_or_default();
            report.equal("bytes, read and written", shape.clone(), &bits(&again.0), &bits(&m));
            report.equal("bytes, read and written", shape, &bits(&again.1), &bits(&v));
        }
    }
    [&latents.w_enc, &latents.w_dec].map(|of| state(card, of).concat()).concat()
}

/// Rows of gradients as large as others, far smaller, all zero and so small that squares are none; some columns are
/// never met, and some are a thousand times the others.
fn gradients(seed: u64, n: usize, d: usize) -> Vec<f32> {
    let size = |row: usize| [1.0f32, 1e-6, 0.0, 1e-16, 1e-22][row % 5];
    let along = |column: usize| [1.0f32, 1.0, 1e-3, 0.0, 1e3, 0.3, 1e-7][column % 7];
    let sized = |(at, g): (usize, f32)| g * size(at / d) * along(at % d);
    floats(seed, n * d).into_iter().enumerate().map(sized).collect()
}

/// Value and moments.
fn state<R: Runtime>(card: &Card<R>, of: &Weights) -> [Vec<f32>; 3] {
    let (m, v) = of.moments.download(card).unwrap_or_default();
    [read(card, &of.value), m, v]
}

/// One step from `before` to `after`.
fn stepped(
    report: &mut Report,
    shape: &str,
    [before, after]: [&[Vec<f32>; 3]; 2],
    g: &[f32],
    d: usize,
    t: u64,
    coded: bool,
) {
    let step = constants(t);
    let wide = |of: &[Vec<f32>; 3], i: usize| [0, 1, 2].map(|part| f64::from(of[part][i]));
    let exact: Vec<[f64; 3]> = (0..g.len())
        .map(|i| {
            let ([value, m, v], g) = (wide(before, i), f64::from(g[i]));
            let m = f64::from(step.beta1) * m + f64::from(step.rest1) * g;
            let v = f64::from(step.beta2) * v + f64::from(step.rest2) * g * g;
            let size = (v * f64::from(step.unbias2)).sqrt() + f64::from(step.eps);
            [value - f64::from(step.rate) * m / size, m, v]
        })
        .collect();
    let value: Vec<f32> = exact.iter().map(|exact| exact[0] as f32).collect();
    report.close("stepped value", shape.to_owned(), &after[0], &value, TOLERANCE);
    if !coded {
        for part in [1, 2] {
            let expected: Vec<f32> = exact.iter().map(|exact| exact[part] as f32).collect();
            report.close("stepped moments", shape.to_owned(), &after[part], &expected, TOLERANCE);
        }
        return;
    }
    let mut wrong = Vec::new();
    for (row, exact) in exact.chunks(d).enumerate() {
        for (part, least) in [(1, 2f64.powi(-15)), (2, 2f64.powi(-31))] {
            let found = &after[part][row * d..][..d];
            let most = exact.iter().map(|exact| exact[part].abs()).fold(0.0, f64::max);
            // Squares of a row below 2⁻⁹⁴ are zeros, and means with them.
            if exact.iter().all(|exact| exact[2] < 4e-29) {
                wrong.extend(found.iter().filter(|&&found| found != 0.0).map(|_| (row, part, 0)));
                continue;
            }
            for (column, (found, exact)) in found.iter().zip(exact).enumerate() {
                let (found, exact) = (f64::from(*found), exact[part]);
                let far = (found - exact).abs();
                let zero = part == 2 && exact > 1e-37 && found <= 0.0;
                let top = exact.abs() == most && far > most * 1e-6;
                if far > STEP * exact.abs() + least * most || zero || top {
                    wrong.push((row, part, column));
                }
            }
        }
    }
    report.equal("bytes, a neighbour", shape.to_owned(), &wrong, &[]);
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| x.to_bits()).collect()
}
