//! Checks of [`crate::kernels::residual`].

use half::bf16;

use super::{
    Report,
    numbers::{Csr, on_card, poison},
};
use crate::{
    Runtime,
    card::Card,
    kernels::{
        codes::CodesOnCard,
        factors::{Factors, Rounding},
        lines::Lines,
        residual::{along, residual},
    },
};

const TOLERANCE: f64 = 2e-5;

/// Rows, columns, latents, most pairs of a row.
const SHAPES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 1),
    (5, 7, 3, 3),
    (33, 389, 50, 40),
    (6, 64, 9, 0),
    (3, 128, 300, 257),
    (9, 512, 64, 8),
    (4, 768, 100, 33),
    (2, 2049, 40, 17),
    (2, 8192, 12, 9),
];

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, &(rows, d, n, most)) in SHAPES.iter().enumerate() {
        let code = Csr::random(seed as u64, rows, n, most);
        one(card, report, seed as u64, (d, n), &code);
    }
}

fn one<R: Runtime>(card: &Card<R>, report: &mut Report, seed: u64, (d, n): (usize, usize), code: &Csr) {
    let (rows, nnz) = (code.rows(), code.latents.len());
    let (target, on_target) = on_card(card, seed + 100, rows * d);
    let (offset, on_offset) = on_card(card, seed + 200, d);
    let (values, on_values) = on_card(card, seed + 300, nnz);
    let (w_dec, on_w_dec) = on_card(card, seed + 400, n * d);
    let codes = CodesOnCard::upload(card, &code.offsets, &code.latents);
    let rounded = Factors::of(card, Rounding::Bf16, &on_w_dec, d, None);
    let to_bf16 = w_dec.iter().map(|&w| bf16::from_f32(w).to_f32()).collect();
    let atoms = [(Lines::Floats(&on_w_dec), w_dec), (Lines::Rounded(&rounded), to_bf16)];
    let cases =
        [true, false].into_iter().flat_map(|with_offset| atoms.iter().map(move |of| (with_offset, of)));
    for (with_offset, (on_w_dec, w_dec)) in cases {
        let kind = if matches!(on_w_dec, Lines::Floats(_)) { "f32" } else { "bf16" };
        let shape = format!("rows {rows} d {d} nnz {nnz} offset {with_offset} atoms {kind}");
        poison(card, &[rows * d, nnz, rows]);
        let subtracted = with_offset.then_some(&on_offset);
        let into = card.room(rows * d);
        let found = residual(card, &on_target, subtracted, &codes, &on_values, *on_w_dec, into);
        let (e, dots, squares) = slow(code, &target, with_offset.then_some(&offset), &values, w_dec, d);
        report.close("residual", shape.clone(), &super::read(card, &found.e), &e, TOLERANCE);
        report.close("along atoms", shape.clone(), &super::read(card, &found.along_atoms), &dots, TOLERANCE);
        report.close("squares", shape.clone(), &super::read(card, &found.squares), &squares, TOLERANCE);
        let again = along(card, &found.e, &codes, *on_w_dec);
        let bits = |numbers: Vec<f32>| numbers.into_iter().map(f32::to_bits).collect::<Vec<u32>>();
        let (first, again) = (super::read(card, &found.along_atoms), super::read(card, &again));
        report.equal("along", shape, &bits(again), &bits(first));
    }
}

/// `e`, `⟨e, atom⟩` per pair and `‖e‖²` per row.
fn slow(
    code: &Csr,
    target: &[f32],
    offset: Option<&Vec<f32>>,
    values: &[f32],
    w_dec: &[f32],
    d: usize,
) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let (mut all, mut dots, mut squares) = (Vec::new(), Vec::new(), Vec::new());
    for row in 0..code.rows() {
        let atom = |p: usize| &w_dec[code.latents[p] as usize * d..][..d];
        let left = |c: usize| {
            let start = f64::from(target[row * d + c]) - offset.map_or(0.0, |offset| f64::from(offset[c]));
            code.span(row).fold(start, |left, p| left - f64::from(values[p]) * f64::from(atom(p)[c]))
        };
        let e: Vec<f64> = (0..d).map(left).collect();
        let dot = |p: usize| e.iter().zip(atom(p)).map(|(e, &w)| e * f64::from(w)).sum::<f64>() as f32;
        dots.extend(code.span(row).map(dot));
        squares.push(e.iter().map(|e| e * e).sum::<f64>() as f32);
        all.extend(e.iter().map(|&e| e as f32));
    }
    (all, dots, squares)
}
