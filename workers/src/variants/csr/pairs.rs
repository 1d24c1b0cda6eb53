//! Rows that belong together by a label, two by two: InfoNCE in which one of a pair asks for the other
//! (`neilwen987/CSR_Adaptive_Rep`, `retrieval_cl`: queries against the passages of the batch).
//!
//! Rows of one group are paired in the order of the batch, a row at most once. Pairs of one group would be
//! negatives of each other, so they never meet: the first pairs of all groups are one round, the second
//! pairs another. A group of two is a pair in the first round, with all other pairs as negatives.

use std::collections::BTreeMap;

use crate::{
    codes::Codes,
    kernels::{Path, Real},
    skeleton::{
        contrast::{Contrast, View, info_nce},
        objective::Part,
    },
};

/// Rows of a pair: who asks, and who is asked for.
pub(super) type Pair = (usize, usize);

/// Pairs of the rows of each group, `groups[row]` its number, in rounds in which no group is twice. Rows
/// whose group is not a number have no partner.
pub(super) fn rounds<R: Real>(groups: &[R]) -> Vec<Vec<Pair>> {
    // Of each group: the row that waits for a partner, and the pairs it has already.
    let mut seen: BTreeMap<u64, (Option<usize>, usize)> = BTreeMap::new();
    let mut rounds: Vec<Vec<Pair>> = Vec::new();
    let known = groups.iter().enumerate().filter(|(_, group)| group.f64().is_finite());
    for (row, group) in known {
        // −0 and 0 are one group.
        let (waiting, pairs) = seen.entry((group.f64() + 0.0).to_bits()).or_default();
        let Some(first) = waiting.take() else {
            *waiting = Some(row);
            continue;
        };
        if *pairs == rounds.len() {
            rounds.push(Vec::new());
        }
        rounds[*pairs].push((first, row));
        *pairs += 1;
    }
    rounds
}

/// Mean over pairs of the loss of the first against the seconds of its round, and its slopes with respect
/// to the values of `part`. Runs on the current rayon pool.
pub(super) fn contrast<R: Real>(
    path: Path,
    part: &Part<R>,
    rounds: &[Vec<Pair>],
    temperature: f64,
) -> (f64, Vec<R>) {
    let total = rounds.iter().map(Vec::len).sum::<usize>().max(1) as f64;
    let (mut loss, mut slopes) = (0.0, vec![R::ZERO; part.values.len()]);
    // A pair without negatives costs nothing.
    for round in rounds.iter().filter(|round| round.len() > 1) {
        let share = round.len() as f64 / total;
        let sides =
            [round.iter().map(|pair| pair.0).collect::<Vec<_>>(), round.iter().map(|pair| pair.1).collect()];
        let views = sides.each_ref().map(|rows| picked(part, rows));
        let views = views.each_ref().map(|(codes, values)| View { codes, values });
        let Contrast { loss: cost, slopes: of } = info_nce(path, views, temperature);
        loss += share * cost;
        for (rows, of) in sides.iter().zip(of) {
            let pairs = rows.iter().flat_map(|&row| span(part, row));
            pairs.zip(of).for_each(|(pair, slope)| slopes[pair] = R::of(share) * slope);
        }
    }
    (loss, slopes)
}

fn span<R>(part: &Part<R>, row: usize) -> std::ops::Range<usize> {
    part.codes.offsets[row]..part.codes.offsets[row + 1]
}

/// Codes and values of some rows.
fn picked<R: Real>(part: &Part<R>, rows: &[usize]) -> (Codes, Vec<R>) {
    let (mut codes, mut values) = (Codes::new(part.codes.n_latents), Vec::new());
    for &row in rows {
        let pairs = span(part, row);
        codes.latents.extend_from_slice(&part.codes.latents[pairs.clone()]);
        codes.values.extend_from_slice(&part.codes.values[pairs.clone()]);
        codes.offsets.push(codes.latents.len());
        values.extend_from_slice(&part.values[pairs]);
    }
    (codes, values)
}

#[cfg(test)]
mod tests;
