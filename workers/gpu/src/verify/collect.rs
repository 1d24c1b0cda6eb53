//! What a batch keeps, against looking at all of it.

use cubecl::prelude::*;

use super::{
    Report,
    best::{KINDS, chunks, hash, same, scores},
};
use crate::{
    card::{Card, Floats},
    kernels::collect::Collected,
    pairs::Pairs,
};

/// The pairs (row, latent) of a matrix `[rows, n]` for which `keep` holds, by row.
fn of(all: &[f32], n: usize, keep: impl Fn(usize) -> bool) -> Pairs {
    let mut pairs = Pairs { offsets: vec![0], ..Pairs::default() };
    for (row, values) in all.chunks(n).enumerate() {
        for (latent, &value) in values.iter().enumerate().filter(|(latent, _)| keep(row * n + latent)) {
            pairs.latents.push(latent as u32);
            pairs.values.push(value);
        }
        pairs.offsets.push(pairs.latents.len());
    }
    pairs
}

/// The `most` largest by sorting all, and the smallest of them.
fn largest(all: &[f32], n: usize, most: usize) -> (Pairs, Option<f32>) {
    let mut order: Vec<usize> = (0..all.len()).filter(|&i| all[i] > 0.0).collect();
    order.sort_by(|&a, &b| all[b].total_cmp(&all[a]).then(a.cmp(&b)));
    order.truncate(most);
    let smallest = order.last().map(|&i| all[i]);
    order.sort_unstable();
    (of(all, n, |i| order.binary_search(&i).is_ok()), smallest)
}

/// One run over all chunks.
fn run<R: Runtime>(
    card: &Card<R>,
    mut collected: Collected,
    all: &[f32],
    n: usize,
    widths: &[usize],
) -> (Pairs, Option<f32>) {
    for (first, width, scores) in chunks(all, n, widths) {
        let scores: Floats = card.upload(&scores);
        if collected.meet(card, &scores, width, first as u32).is_err() {
            return Default::default();
        }
    }
    collected.finish(card).unwrap_or_default()
}

/// (rows, latents, k, widths of the chunks in turn).
const SHAPES: [(usize, usize, usize, &[usize]); 8] = [
    (1, 1, 1, &[1]),
    (3, 700, 1, &[257, 64]),
    (70, 3000, 32, &[1023, 1, 500]),
    (40, 9000, 2, &[4096]),
    (37, 5000, 6000, &[1025]),
    (300, 1000, 5, &[1000]),
    (2, 50, 0, &[50]),
    (33_000, 3, 1, &[2]),
];

/// All kinds of scores in all shapes: one threshold, one per latent, the largest of the batch.
pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (rows, n, k, widths) in SHAPES {
        // More cubes than one dimension has: once is enough.
        let once = rows > 32_768;
        for kind in KINDS.into_iter().take(if once { 1 } else { KINDS.len() }) {
            let all = scores(kind, rows, n);
            let shape = format!("{rows} × {n}, k {k}, {kind}");
            let mut several = scores(kind, 1, n);
            several.iter_mut().enumerate().for_each(|(i, v)| *v *= [1.0, -0.0, 0.5][hash(1, i) as usize % 3]);
            let ways = [
                ("above 0", vec![0.0]),
                ("above -0.5", vec![-0.5]),
                ("above 0.75", vec![0.75]),
                ("above anything", vec![f32::NEG_INFINITY]),
                ("above NaN", vec![f32::NAN]),
                ("above one per latent", several),
            ];
            let number = if once { 1 } else { ways.len() };
            for (name, thresholds) in ways.into_iter().take(number) {
                let threshold = |i: usize| thresholds[if thresholds.len() == 1 { 0 } else { i % n }];
                let expected = of(&all, n, |i| all[i] > threshold(i));
                let collected = Collected::above(card, rows, &card.upload(&thresholds));
                let (found, smallest) = run(card, collected, &all, n, widths);
                same(report, name, shape.clone(), &found, &expected);
                report.equal(name, shape.clone(), &[smallest], &[None]);
            }
            let (expected, least) = largest(&all, n, k * rows);
            let (found, smallest) = run(card, Collected::batch(card, rows, k), &all, n, widths);
            same(report, "top k of a batch", shape.clone(), &found, &expected);
            report.equal("smallest of a batch", shape, &[smallest], &[least]);
        }
    }
}
