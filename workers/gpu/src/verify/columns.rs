//! Checks of [`crate::kernels::columns`].

use half::bf16;

use super::{
    Report,
    numbers::{floats, on_card, poison},
    read,
};
use crate::{
    Runtime,
    card::Card,
    kernels::{
        columns::{centre, moments, narrow, sums, weighted},
        factors::{Factors, Rounding},
        lines::Lines,
    },
};

const TOLERANCE: f64 = 1e-5;

/// Rows and columns.
const SHAPES: [(usize, usize); 9] =
    [(0, 5), (1, 1), (1, 7), (5, 389), (255, 33), (256, 32), (257, 31), (3000, 64), (70_001, 3)];

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, &(rows, d)) in SHAPES.iter().enumerate() {
        of_shape(card, report, seed as u64, rows, d);
    }
    rounding(card, report);
}

fn of_shape<R: Runtime>(card: &Card<R>, report: &mut Report, seed: u64, rows: usize, d: usize) {
    let shape = format!("rows {rows} d {d}");
    let (y, on_y) = on_card(card, seed + 10, rows * d);
    let mut weight = floats(seed + 20, rows);
    weight.iter_mut().step_by(3).for_each(|weight| *weight = 0.0);
    let on_weight = card.upload(&weight);
    let slow = |term: &dyn Fn(usize, f64) -> f64| -> Vec<f32> {
        let column = |c| (0..rows).map(|r| term(r, f64::from(y[r * d + c]))).sum::<f64>() as f32;
        (0..d).map(column).collect()
    };
    poison(card, &[rows * d, rows.div_ceil(256) * d, d, d]);
    let plain = slow(&|_, y| y);
    report.close("column sums", shape.clone(), &read(card, &sums(card, &on_y, d)), &plain, TOLERANCE);
    let expected = slow(&|r, y| f64::from(weight[r]) * y);
    let found = read(card, &weighted(card, &on_weight, Lines::Floats(&on_y), d));
    report.close("weighted sums", shape.clone(), &found, &expected, TOLERANCE);
    let rounded = Factors::of(card, Rounding::Bf16, &on_y, d, None);
    let to_bf16: Vec<f64> = y.iter().map(|&y| f64::from(bf16::from_f32(y).to_f32())).collect();
    let expected: Vec<f32> = (0..d)
        .map(|c| (0..rows).map(|r| f64::from(weight[r]) * to_bf16[r * d + c]).sum::<f64>() as f32)
        .collect();
    let found = read(card, &weighted(card, &on_weight, Lines::Rounded(&rounded), d));
    report.close("weighted sums of bf16", shape.clone(), &found, &expected, TOLERANCE);
    let found = moments(card, &on_y, d);
    report.close("moments", shape.clone(), &read(card, &found.sums), &plain, TOLERANCE);
    report.close("moments", shape.clone(), &read(card, &found.squares), &slow(&|_, y| y * y), TOLERANCE);
    let (less, on_less) = on_card(card, seed + 30, d);
    let expected: Vec<f32> = y.iter().enumerate().map(|(i, y)| y - less[i % d]).collect();
    report.equal("centre", shape, &read(card, &centre(card, &on_y, &on_less)), &expected);
}

/// Every kind of number, and an odd count of them.
fn rounding<R: Runtime>(card: &Card<R>, report: &mut Report) {
    let ties = [0x3f80_8000u32, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0xbf81_8000, 0x7f7f_ffff, 0, 1 << 31];
    let special = [f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-45, f32::from_bits(0x7f80_0001), f32::NAN];
    let mut numbers: Vec<f32> = ties.into_iter().map(f32::from_bits).chain(special).collect();
    numbers.extend(floats(77, 1001));
    for len in [numbers.len(), 1, 2] {
        let some = &numbers[..len];
        let bits = |numbers: Vec<bf16>| numbers.into_iter().map(bf16::to_bits).collect::<Vec<u16>>();
        let expected = bits(some.iter().map(|&x| bf16::from_f32(x)).collect());
        let found = bits(read(card, &narrow(card, &card.upload(some))));
        report.equal("narrow", format!("len {len}"), &found, &expected);
    }
}
