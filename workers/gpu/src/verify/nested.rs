//! Nested dictionaries, each prefix by itself in f64.

use half::bf16;

use super::{
    Report,
    numbers::{Csr, floats, on_card, poison},
};
use crate::{
    Runtime,
    card::{Card, Floats},
    kernels::{
        codes::CodesOnCard,
        factors::{Factors, Rounding},
        lines::Lines,
        nested::{Prefixes, nested},
    },
};

const TOLERANCE: f64 = 2e-5;

/// Rows, width, latents, most pairs of a row; where prefixes end.
const SHAPES: [(usize, usize, usize, usize, &[u32]); 6] = [
    (1, 1, 1, 1, &[1]),
    (9, 7, 12, 5, &[3, 4, 12]),
    (33, 389, 40, 20, &[1, 11, 12, 40]),
    (20, 96, 30, 0, &[10, 30]),
    (17, 1100, 64, 31, &[8, 16, 24, 32, 40, 48, 56, 64]),
    (5, 130, 20, 20, &[20]),
];

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, &(rows, d, n, most, ends)) in SHAPES.iter().enumerate() {
        let seed = seed as u64 * 16 + 7000;
        let code = Csr::random(seed, rows, n, most);
        let nnz = code.latents.len();
        let (target, on_target) = on_card(card, seed + 1, rows * d);
        let (offset, on_offset) = on_card(card, seed + 2, d);
        let (values, on_values) = on_card(card, seed + 3, nnz);
        let (mut w_dec, on_w_dec) = on_card(card, seed + 4, n * d);
        let rounded = Factors::of(card, Rounding::Bf16, &on_w_dec, d, None);
        let mut atoms = Lines::Floats(&on_w_dec);
        if !seed.is_multiple_of(32) {
            atoms = Lines::Rounded(&rounded);
            w_dec.iter_mut().for_each(|w| *w = bf16::from_f32(*w).to_f32());
        }
        let mut weights = floats(seed + 5, ends.len());
        weights[ends.len() - 1] = 1.0;
        let codes = CodesOnCard::upload(card, &code.offsets, &code.latents);
        let part = rows + rows % 3;
        let prefixes = Prefixes { ends, weights: &weights, part };
        let slow = Slow::of(&code, &[&target, &offset, &values, &w_dec], d, ends, &weights);
        let once = || {
            let sums: Floats = card.upload(&vec![f32::NAN; ends.len() * part * d]);
            poison(card, &[nnz, ends.len() * rows]);
            let found = nested(card, &on_target, &on_offset, &codes, &on_values, atoms, &prefixes, &sums);
            let sums: Vec<f32> = super::read(card, &sums);
            let rows = sums.chunks(part * d).flat_map(|sums| sums[..rows * d].to_vec()).collect::<Vec<f32>>();
            (rows, super::read(card, &found.along_atoms), super::read(card, &found.squares))
        };
        let shape = format!("rows {rows} d {d} nnz {nnz} prefixes {}", ends.len());
        let (sums, along, squares) = once();
        report.close("nested sums", shape.clone(), &sums, &slow.sums, TOLERANCE);
        report.close("nested along atoms", shape.clone(), &along, &slow.along, TOLERANCE);
        report.close("nested squares", shape.clone(), &squares, &slow.squares, TOLERANCE);
        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        report.equal("twice the same", shape, &bits(&once().0), &bits(&sums));
    }
}

/// What is expected.
struct Slow {
    sums: Vec<f32>,
    along: Vec<f32>,
    squares: Vec<f32>,
}

impl Slow {
    fn of(code: &Csr, data: &[&[f32]; 4], d: usize, ends: &[u32], weights: &[f32]) -> Self {
        let [target, offset, values, w_dec] = data;
        let wide = |numbers: &[f32], i: usize| f64::from(numbers[i]);
        let atom = |p: usize, c: usize| wide(w_dec, code.latents[p] as usize * d + c);
        let left = |end: u32, row: usize, c: usize| {
            let kept = code.span(row).filter(|&p| code.latents[p] < end);
            let start = wide(target, row * d + c) - wide(offset, c);
            kept.fold(start, |left, p| left - wide(values, p) * atom(p, c))
        };
        let errors: Vec<Vec<f64>> =
            ends.iter().map(|&end| (0..code.rows() * d).map(|i| left(end, i / d, i % d)).collect()).collect();
        let sum = |j: usize, i: usize| (j..ends.len()).map(|l| wide(weights, l) * errors[l][i]).sum::<f64>();
        let along = |row: usize, p: usize| {
            let j = ends.iter().filter(|&&end| code.latents[p] >= end).count();
            (0..d).map(|c| sum(j, row * d + c) * atom(p, c)).sum::<f64>() as f32
        };
        let all = |j: usize| (0..code.rows() * d).map(move |i| (j, i));
        Slow {
            sums: (0..ends.len()).flat_map(all).map(|(j, i)| sum(j, i) as f32).collect(),
            along: (0..code.rows()).flat_map(|row| code.span(row).map(move |p| along(row, p))).collect(),
            squares: errors
                .iter()
                .flat_map(|e| e.chunks(d).map(|e| e.iter().map(|e| e * e).sum::<f64>() as f32))
                .collect(),
        }
    }
}
