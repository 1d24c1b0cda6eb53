//! Lengths of rows and of their parts, in f64.

use super::{
    Report,
    numbers::{on_card, poison},
    read,
};
use crate::{Runtime, card::Card, kernels::norms::norms};

const TOLERANCE: f64 = 1e-6;

/// Rows, and the widths of their parts.
const SHAPES: [(usize, &[u32]); 5] = [(1, &[1]), (7, &[5]), (300, &[3, 1, 9]), (9, &[389, 700]), (64, &[96])];

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, (n, widths)) in SHAPES.into_iter().enumerate() {
        let d = widths.iter().sum::<u32>() as usize;
        let (w, there) = on_card(card, seed as u64 + 300, n * d);
        poison(card, &[n]);
        let found = norms(card, &there, widths);
        let of = |row: &[f32]| {
            let (mut at, mut norm) = (0, 0f64);
            for &width in widths {
                let part = &row[at..at + width as usize];
                at += width as usize;
                norm += part.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
            }
            norm as f32
        };
        let expected: Vec<f32> = w.chunks(d).map(of).collect();
        report.close("norms", format!("{n} x {widths:?}"), &read(card, &found), &expected, TOLERANCE);
    }
}
