//! Rows that become columns, number by number.

use super::{
    Report,
    numbers::{on_card, poison},
    read,
};
use crate::{Runtime, card::Card, kernels::transpose::transpose};

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (seed, (rows, d)) in [(1, 1), (5, 70), (33, 32), (100, 7), (64, 130)].into_iter().enumerate() {
        let (x, there) = on_card(card, seed as u64 + 400, rows * d);
        poison(card, &[rows * d]);
        let found = transpose(card, &there, d);
        let expected: Vec<f32> = (0..rows * d).map(|i| x[i % rows * d + i / rows]).collect();
        report.equal("transpose", format!("{rows} x {d}"), &read(card, &found), &expected);
    }
}
