//! Rows to codes on a card: the product chunk by chunk of latents, each behind it what selects.

use atomflow_workers::{
    card::Precision,
    codes::Codes,
    kernels::encode::{Screening, Selected, Selection},
};

use crate::{
    Runtime,
    card::{Card, Floats, Ints, Lost},
    kernels::{
        best::{Best, Columns},
        collect::Collected,
        factors::Rounding,
        lines::Lines,
    },
    pairs::{Pairs, PairsOnCard},
    scores::Rows,
};

/// Scores that lie on the card at a time: 2²⁶ are 256 MiB, which a card writes and reads back in the time of a
/// hundredth of a step.
const SCORES: usize = 1 << 26;

/// Encoder rows and biases on a card.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoder<'a> {
    /// `[n_latents, d]`; rounded, with the bias behind each row.
    pub(crate) w: Lines<'a>,
    /// `[n_latents]`.
    pub(crate) bias: &'a Floats,
    /// Width of the rows.
    pub(crate) d: usize,
    /// How factors are rounded.
    pub(crate) precision: Precision,
    /// What the score of each latent is multiplied by, `[n_latents]`.
    pub(crate) weights: Option<&'a Floats>,
}

impl Encoder<'_> {
    /// Number of latents.
    pub(crate) fn n(&self) -> usize {
        self.bias.len()
    }

    /// What of `x`, `[rows, d]` and centred, becomes codes.
    pub(crate) fn select<R: Runtime>(
        &self,
        card: &Card<R>,
        x: &Floats,
        selection: Selection<f32>,
    ) -> Result<(Pairs, Option<f32>), Lost> {
        match self.met(card, x, selection)? {
            Met::Best(best) => Ok((best.finish(card)?, None)),
            Met::Collected(collected) => collected.finish(card),
        }
    }

    /// The same, left on the card.
    pub(crate) fn find<R: Runtime>(
        &self,
        card: &Card<R>,
        x: &Floats,
        selection: Selection<f32>,
    ) -> Result<PairsOnCard, Lost> {
        match self.met(card, x, selection)? {
            Met::Best(best) => best.close(card),
            Met::Collected(collected) => collected.close(card),
        }
    }

    /// The best `k` of each row; `latents` says what the encoder's rows are called, where that is not their place.
    pub(crate) fn top<R: Runtime>(
        &self,
        card: &Card<R>,
        x: &Floats,
        k: usize,
        latents: &Ints,
    ) -> Result<Pairs, Lost> {
        let best = Best::new(card, x.len() / self.d.max(1), k, false);
        self.best(card, x, best, Some(latents))?.finish(card)
    }

    /// All chunks of latents, met by what selects.
    fn met<R: Runtime>(&self, card: &Card<R>, x: &Floats, selection: Selection<f32>) -> Result<Met, Lost> {
        let rows = x.len() / self.d.max(1);
        let collected = match selection {
            Selection::TopK(k) => {
                return self.best(card, x, Best::new(card, rows, k, false), None).map(Met::Best);
            }
            Selection::AbsTopK(k) => {
                return self.best(card, x, Best::new(card, rows, k, true), None).map(Met::Best);
            }
            Selection::BatchTopK(k) => Collected::batch(card, rows, k),
            Selection::Above(thresholds) => Collected::above(card, rows, &card.upload(thresholds)),
        };
        self.collect(card, x, collected).map(Met::Collected)
    }

    fn best<R: Runtime>(
        &self,
        card: &Card<R>,
        x: &Floats,
        mut best: Best,
        latents: Option<&Ints>,
    ) -> Result<Best, Lost> {
        below_4g(x.len() / self.d.max(1), best.room())?;
        self.chunks(card, x, |scores, first, width| {
            let listed = latents.map(|latents| latents.part(first, width));
            let columns = listed.as_ref().map_or(Columns::From(first as u32), Columns::Listed);
            best.meet(card, scores, width, columns);
            Ok(())
        })?;
        Ok(best)
    }

    fn collect<R: Runtime>(
        &self,
        card: &Card<R>,
        x: &Floats,
        mut collected: Collected,
    ) -> Result<Collected, Lost> {
        self.chunks(card, x, |scores, first, width| collected.meet(card, scores, width, first as u32))?;
        Ok(collected)
    }

    /// Hands out the scores of one chunk of latents after the other: `[rows, width]`, and the first latent.
    fn chunks<R: Runtime>(
        &self,
        card: &Card<R>,
        x: &Floats,
        mut meet: impl FnMut(&Floats, usize, usize) -> Result<(), Lost>,
    ) -> Result<(), Lost> {
        let (d, rows, n) = (self.d, x.len() / self.d.max(1), self.n());
        if rows == 0 || n == 0 {
            return Ok(());
        }
        below_4g(rows, d.next_multiple_of(8) + 8)?;
        let most = width_of_chunk(rows, n);
        let scores = card.room(rows * most);
        let x = Rows::of(card, self, x, most);
        for first in (0..n).step_by(most) {
            let width = most.min(n - first);
            let scores = scores.part(0, rows * width);
            x.multiply(card, self, (first, width), &scores)?;
            meet(&scores, first, width)?;
        }
        Ok(())
    }
}

/// What has met every score.
enum Met {
    Best(Best),
    Collected(Collected),
}

/// Positions in rows are 32 bits.
fn below_4g(rows: usize, width: usize) -> Result<(), Lost> {
    match u32::try_from(rows.saturating_mul(width)) {
        Ok(_) => Ok(()),
        Err(_) => {
            Err(Lost(format!("{rows} rows of {width} numbers are 2^32 and more: lower plan.batch_rows")))
        }
    }
}

/// How factors are rounded for tensor cores; `None` without them.
pub(crate) fn rounding(precision: Precision) -> Option<Rounding> {
    match precision {
        Precision::F32 => None,
        Precision::Tf32 => Some(Rounding::Tf32),
        Precision::Bf16 => Some(Rounding::Bf16),
    }
}

/// Latents of a chunk: a multiple of 128 unless it is all.
fn width_of_chunk(rows: usize, n: usize) -> usize {
    let most = SCORES / rows.max(1);
    (most / 128 * 128).max(128).min(n)
}

/// Pairs as the skeleton knows them.
///
/// # Errors
/// They cannot be: the card computes wrong numbers.
pub(crate) fn selected(
    pairs: Pairs,
    threshold: Option<f32>,
    n_latents: usize,
) -> Result<Selected<f32>, Lost> {
    let Pairs { offsets, latents, values } = pairs;
    if let Some(latent) = latents.iter().find(|&&latent| latent as usize >= n_latents) {
        let text =
            format!("it returned latent {latent} of {n_latents}: do not trust it, see `devices --verify`");
        return Err(Lost(text));
    }
    let codes = Codes { n_latents, offsets, latents, values: values.clone() };
    Ok(Selected { codes, values, threshold, screening: Screening::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_fit() {
        assert_eq!(width_of_chunk(16_384, 131_072), 4096);
        assert_eq!(width_of_chunk(100, 3000), 3000);
        assert_eq!(width_of_chunk(1 << 27, 3000), 128);
    }
}
