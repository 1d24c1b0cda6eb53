//! The best of each row, against sorting.

use cubecl::prelude::*;

use super::Report;
use crate::{
    card::{Card, Floats},
    kernels::best::{Best, Columns},
    pairs::Pairs,
};

/// Scores of `n` latents that make selecting hard, by kind.
pub(super) const KINDS: [&str; 10] = [
    "any",
    "few values",
    "all equal",
    "none above 0",
    "ascending",
    "descending",
    "huge and tiny",
    "special",
    "sparse",
    "last digits",
];

/// A number that looks like chance.
pub(super) fn hash(seed: u32, at: usize) -> u32 {
    let mut h = (at as u32).wrapping_mul(0x9e37_79b9) ^ seed.wrapping_mul(0x85eb_ca6b);
    for multiplier in [0x7feb_352d, 0x846c_a68b] {
        h = (h ^ (h >> 15)).wrapping_mul(multiplier);
    }
    h ^ (h >> 16)
}

/// Scores `[rows, n]` of one of the kinds.
pub(super) fn scores(kind: &str, rows: usize, n: usize) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
        f32::from_bits(1),
        -f32::from_bits(1),
        f32::from_bits(0x007f_ffff),
        f32::MIN_POSITIVE,
        -f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        1.0,
        -1.0,
        f32::from_bits(0xffff_ffff),
    ];
    let score = |at: usize| {
        let h = hash(7, at);
        let unit = h as f32 / u32::MAX as f32 * 2.0 - 1.0;
        match kind {
            "few values" => ((h % 5) as f32 - 2.0) * 0.5,
            "all equal" => 0.75,
            "none above 0" => -unit.abs(),
            "ascending" => (at % n) as f32 + 1.0,
            "descending" => (n - at % n) as f32,
            "huge and tiny" => f32::from_bits(h),
            "special" => special[(h % 16) as usize],
            "sparse" if !h.is_multiple_of(97) => -1.0,
            "last digits" => f32::from_bits(1.0f32.to_bits() + (h % 900)),
            _ => unit + unit * unit * unit,
        }
    };
    (0..rows * n).map(score).collect()
}

/// Chunks of `[rows, width]` of a matrix `[rows, n]`: first column and scores of each.
pub(super) fn chunks(all: &[f32], n: usize, widths: &[usize]) -> Vec<(usize, usize, Vec<f32>)> {
    let (mut first, mut cut) = (0, Vec::new());
    for &width in widths.iter().cycle() {
        let width = width.min(n - first);
        if width == 0 {
            return cut;
        }
        let rows = all.chunks(n).flat_map(|row| &row[first..first + width]).copied();
        cut.push((first, width, rows.collect()));
        first += width;
    }
    cut
}

/// The best `k` of each row by sorting all of it.
fn expected(all: &[f32], n: usize, k: usize, signed: bool, latent: impl Fn(usize) -> u32) -> Pairs {
    let mut pairs = Pairs { offsets: vec![0], ..Pairs::default() };
    for row in all.chunks(n) {
        let size = |v: f32| if signed { v.abs() } else { v };
        let mut order: Vec<usize> = (0..n).filter(|&i| size(row[i]) > 0.0).collect();
        order.sort_by(|&a, &b| size(row[b]).total_cmp(&size(row[a])).then(a.cmp(&b)));
        order.truncate(k);
        order.sort_unstable();
        pairs.latents.extend(order.iter().map(|&i| latent(i)));
        pairs.values.extend(order.iter().map(|&i| row[i]));
        pairs.offsets.push(pairs.latents.len());
    }
    pairs
}

/// Compares the bits of two lists of pairs.
pub(super) fn same(report: &mut Report, name: &'static str, shape: String, found: &Pairs, expected: &Pairs) {
    let flat = |pairs: &Pairs| -> Vec<u64> {
        let offsets = pairs.offsets.iter().map(|&offset| offset as u64);
        let latents = pairs.latents.iter().map(|&latent| u64::from(latent));
        offsets.chain(latents).chain(pairs.values.iter().map(|v| u64::from(v.to_bits()))).collect()
    };
    report.equal(name, shape, &flat(found), &flat(expected));
}

/// One run over all chunks; `listed`: the column `i` is latent `3i + 1`.
fn run<R: Runtime>(card: &Card<R>, case: &Case, signed: bool, listed: bool) -> Option<Pairs> {
    let mut best = Best::new(card, case.rows, case.k, signed);
    for (first, width, scores) in chunks(&case.scores, case.n, case.widths) {
        let scores: Floats = card.upload(&scores);
        let latents: Vec<u32> = (first..first + width).map(|i| 3 * i as u32 + 1).collect();
        let latents = card.upload(&latents);
        let columns = if listed { Columns::Listed(&latents) } else { Columns::From(first as u32) };
        best.meet(card, &scores, width, columns);
    }
    best.finish(card).ok()
}

/// What is selected from.
struct Case<'a> {
    scores: Vec<f32>,
    rows: usize,
    n: usize,
    k: usize,
    widths: &'a [usize],
}

/// (rows, latents, k, widths of the chunks in turn).
const SHAPES: [(usize, usize, usize, &[usize]); 10] = [
    (1, 1, 1, &[1]),
    (3, 700, 1, &[257, 64]),
    (5, 5000, 32, &[1023, 1, 255]),
    (4, 9000, 32, &[4096]),
    (2, 8192, 2048, &[8192]),
    (3, 9001, 2048, &[3000, 511]),
    (7, 300, 500, &[100]),
    (2, 70_000, 64, &[8191]),
    (2, 50, 0, &[50]),
    (33_000, 3, 2, &[2]),
];

/// All kinds of scores in all shapes: positive, signed, and with listed latents.
pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (rows, n, k, widths) in SHAPES {
        // More cubes than one dimension has: once is enough.
        let once = rows > 32_768;
        for kind in KINDS.into_iter().take(if once { 1 } else { KINDS.len() }) {
            let case = Case { scores: scores(kind, rows, n), rows, n, k, widths };
            let ways = [
                ("top k", false, false),
                ("top k of magnitudes", true, false),
                ("top k of a list", false, true),
            ];
            for (name, signed, listed) in ways.into_iter().take(if once { 1 } else { ways.len() }) {
                let latent = |i: usize| if listed { 3 * i as u32 + 1 } else { i as u32 };
                let expected = expected(&case.scores, n, k, signed, latent);
                let found = run(card, &case, signed, listed).unwrap_or_default();
                same(report, name, format!("{rows} × {n}, k {k}, {kind}"), &found, &expected);
            }
        }
    }
}
