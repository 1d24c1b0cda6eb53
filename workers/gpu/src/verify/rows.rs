//! Gathered rows against a loop, moved ones against themselves.

use super::{Report, numbers::on_card, read};
use crate::{Runtime, card::Card, kernels::rows};

pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for (n, d, step) in [(5u32, 1, 2), (300, 7, 3), (64, 389, 5), (3, 4, 9)] {
        let (from, there) = on_card(card, 1, n as usize * d);
        let list: Vec<u32> = (0..n).step_by(step).collect();
        let found = rows::gather(card, &there, d, &card.upload(&list));
        let expected: Vec<f32> =
            list.iter().flat_map(|&row| from[row as usize * d..][..d].iter().copied()).collect();
        report.equal("rows", format!("{n} x {d}, every {step}"), &read(card, &found), &expected);
        let moved = card.upload(&vec![f32::NAN; from.len() + 9]);
        rows::copy(card, &there, &moved);
        report.equal("moved", format!("{n} x {d}"), &read(card, &moved.part(0, from.len())), &from);
    }
}
