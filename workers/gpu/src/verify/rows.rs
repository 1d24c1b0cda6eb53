//! Rows that move and numbers that change, against loops.

use super::{
    Report,
    numbers::{floats, on_card, poison},
    read,
    tensor_product::rounded,
};
use crate::{
    Runtime,
    card::Card,
    kernels::{
        factors::{Factors, Rounding},
        lines::Lines,
        rows,
    },
};

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (n, d, step) in [(5u32, 1, 2), (300, 7, 3), (64, 389, 5), (3, 4, 9)] {
        let (from, there) = on_card(card, 1, n as usize * d);
        let list: Vec<u32> = (0..n).step_by(step).collect();
        let found = rows::gather(card, Lines::Floats(&there), d, &card.upload(&list));
        let expected: Vec<f32> =
            list.iter().flat_map(|&row| from[row as usize * d..][..d].iter().copied()).collect();
        report.equal("rows", format!("{n} x {d}, every {step}"), &read(card, &found), &expected);
        changed(card, report, (n as usize, d), &list);
        let bias = card.upload(&vec![1.0f32; n as usize]);
        for (rounding, bias) in
            [(Rounding::Bf16, Some(&bias)), (Rounding::Bf16, None), (Rounding::Tf32, Some(&bias))]
        {
            let factors = Factors::of(card, rounding, &there, d, bias);
            let to = |&x: &f32| rounded(x, rounding);
            let shape = format!("{n} x {d}, {rounding:?}");
            let expected: Vec<f32> = expected.iter().map(to).collect();
            let found = rows::gather(card, Lines::Rounded(&factors), d, &card.upload(&list));
            report.equal("rows, rounded", shape.clone(), &read(card, &found), &expected);
            let expected: Vec<f32> = from.iter().map(to).collect();
            report.equal("widened", shape, &read(card, &rows::widen(card, &factors, d)), &expected);
        }
        let moved = card.upload(&vec![f32::NAN; from.len() + 9]);
        rows::copy(card, &there, &moved);
        report.equal("moved", format!("{n} x {d}"), &read(card, &moved.part(0, from.len())), &from);
    }
}

/// What is done to single numbers, and rows put back in their places.
fn changed<R: Runtime>(card: &Card<R>, report: &mut Report, (n, d): (usize, usize), list: &[u32]) {
    let shape = format!("{n} x {d}");
    let (a, b) = (floats(2, n * d), floats(3, n * d));
    let (to, from) = (card.upload(&a), card.upload(&b));
    rows::mix(card, &to, -1.0, 0.3, &from);
    let mixed: Vec<f32> = a.iter().zip(&b).map(|(a, b)| 0.3f32.mul_add(*b, -a)).collect();
    report.close("mixed", shape.clone(), &read(card, &to), &mixed, 1e-6);
    rows::scale(card, &from, 0.7);
    let scaled: Vec<f32> = b.iter().map(|b| b * 0.7).collect();
    report.equal("scaled", shape.clone(), &read(card, &from), &scaled);

    let (first, weights) = (n / 3, floats(4, n));
    poison(card, &[(n - first) * d]);
    let found =
        rows::weighted(card, Lines::Floats(&card.upload(&a)), d, (first, n - first), &card.upload(&weights));
    let row = |row: usize| a[row * d..][..d].iter().map(move |v| (row, *v));
    let expected: Vec<f32> = (first..n).flat_map(row).map(|(row, v)| v * weights[row]).collect();
    report.equal("weighted", shape.clone(), &read(card, &found), &expected);

    let (mut into, moved) = (b, floats(5, list.len() * d));
    let there = card.upload(&into);
    rows::scatter(card, &card.upload(&moved), d, &card.upload(list), &there);
    for (&row, moved) in list.iter().zip(moved.chunks(d)) {
        into[row as usize * d..][..d].copy_from_slice(moved);
    }
    report.equal("scattered", shape, &read(card, &there), &into);
}
