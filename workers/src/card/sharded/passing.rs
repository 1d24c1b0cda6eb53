//! Residuals that go from card to card: each takes away what its latents decode to.

use std::{ops::Range, sync::Arc};

use rayon::prelude::*;

use super::{Shard, Sharded, at, rows_everywhere};
use crate::{
    card::{Against, CardNested, CardResidual, CardRows, OnCard},
    codes::Codes,
    kernels::lanes::Moments,
};

/// Numbers that one task adds.
const TASK: usize = 1 << 16;

/// What is left, and the shard whose card it lies on.
struct Passing<'a> {
    of: &'a Sharded,
    against: Against<'a>,
    left: Option<(usize, CardRows)>,
    moments: Moments,
}

impl<'a> Passing<'a> {
    fn new(of: &'a Sharded, against: Against<'a>) -> Self {
        Passing { of, against, left: None, moments: Moments::zero(0) }
    }

    /// Every shard in turn takes away what its latents among `latents` decode to, if there are any in the code.
    fn take_away(&mut self, codes: &Codes, values: &[f32], latents: &Range<usize>) {
        for (number, shard) in self.of.shards.iter().enumerate() {
            let (own, places) = shard.own_among(codes, latents);
            if own.nnz() == 0 && self.left.is_some() {
                continue;
            }
            let values: Vec<f32> = places.iter().map(|&pair| values[pair]).collect();
            let left = match (self.left.take(), self.against) {
                (Some((before, rows)), _) => {
                    shard.on.residual(Against::Rows(&self.of.moved(rows, before, number)), &own, &values)
                }
                (None, Against::Rows(rows)) => {
                    shard.on.residual(Against::Rows(&at(rows, number)), &own, &values)
                }
                (None, Against::Instead(rows)) => {
                    shard.on.residual(Against::Instead(&at(rows, number)), &own, &values)
                }
                (None, Against::Target) => shard.on.residual(Against::Target, &own, &values),
            };
            self.moments = left.moments;
            self.left = Some((number, left.e));
        }
    }

    /// What is left, on this side.
    fn download(&self) -> Vec<f32> {
        let shards = &self.of.shards;
        self.left.as_ref().map_or_else(Vec::new, |(number, rows)| shards[*number].on.download(rows))
    }
}

impl Sharded {
    /// Rows of the card `from` on the card `to`.
    fn moved(&self, rows: CardRows, from: usize, to: usize) -> CardRows {
        let on = |number: usize| -> &Shard { &self.shards[number] };
        if from == to { rows } else { on(to).on.upload(&on(from).on.download(&rows)) }
    }

    pub(super) fn passed(&self, against: Against, codes: &Codes, values: &[f32]) -> CardResidual {
        let mut passing = Passing::new(self, against);
        passing.take_away(codes, values, &(0..self.n));
        let e = self.upload(&passing.download());
        let along_atoms = self.along(&e, codes);
        CardResidual { e, along_atoms, moments: passing.moments }
    }

    /// Prefix after prefix goes through the cards that hold latents of it. What each leaves comes here, where they
    /// are added up, and goes to the cards that need it: those of its latents, the last one to all.
    pub(super) fn passed_nested(
        &self,
        codes: &Codes,
        values: &[f32],
        ends: &[usize],
        weights: &[f32],
    ) -> CardNested {
        let begins = [0].into_iter().chain(ends.iter().copied());
        let groups: Vec<Range<usize>> = begins.zip(ends).map(|(begin, &end)| begin..end).collect();
        let mut passing = Passing::new(self, Against::Target);
        let (mut sums, mut squared_errors, mut column_sums) = (Vec::new(), Vec::new(), Vec::new());
        for (group, &weight) in groups.iter().zip(weights) {
            passing.take_away(codes, values, group);
            sums.push(passing.download());
            squared_errors.push(passing.moments.squared_norm);
            let columns = &passing.moments.column_sums;
            column_sums.resize(columns.len(), 0.0);
            column_sums.iter_mut().zip(columns).for_each(|(sum, c)| *sum += f64::from(weight) * c);
        }
        add_up(&mut sums, weights);
        let mut along_atoms = vec![0.0; codes.nnz()];
        let mut suffixes = Vec::with_capacity(sums.len());
        for (number, (sum, group)) in sums.iter().zip(&groups).enumerate() {
            let last = number + 1 == groups.len();
            let everywhere = self.each(|_, shard| match last || !shard.shared(group).is_empty() {
                true => shard.on.upload(sum),
                false => CardRows(Arc::new(())),
            });
            for (shard, rows) in self.shards.iter().zip(&everywhere) {
                let (own, places) = shard.own_among(codes, group);
                if own.nnz() > 0 {
                    let along = shard.on.along(rows, &own);
                    places.into_iter().zip(along).for_each(|(place, value)| along_atoms[place] = value);
                }
            }
            suffixes.push(rows_everywhere(everywhere));
        }
        CardNested { suffixes, along_atoms, squared_errors, moments: passing.moments, column_sums }
    }
}

/// `sums[j] = Σ_{l ≥ j} weights[l]·sums[l]`, the last weight being 1.
fn add_up(sums: &mut [Vec<f32>], weights: &[f32]) {
    for j in (0..sums.len().saturating_sub(1)).rev() {
        let (before, behind) = sums.split_at_mut(j + 1);
        let parts = before[j].par_chunks_mut(TASK).zip(behind[0].par_chunks(TASK));
        parts.for_each(|(sum, behind)| {
            sum.iter_mut().zip(behind).for_each(|(e, &sum)| *e = weights[j].mul_add(*e, sum));
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_go_from_the_last_to_the_first() {
        let mut sums = [vec![1.0, 2.0], vec![10.0, 20.0], vec![100.0, 200.0]];
        add_up(&mut sums, &[3.0, 0.5, 1.0]);
        assert_eq!(sums, [vec![108.0, 216.0], vec![105.0, 210.0], vec![100.0, 200.0]]);
    }
}
