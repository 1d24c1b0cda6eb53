//! The pairs of all terms of a loss in one list per latent, and how long lists are cut.
//!
//! A latent's list has its pairs of the first term, then those of the second, …, each in ascending order of
//! rows. A list longer than a segment is summed segment by segment, by cubes of their own: a few latents
//! are in nearly every row, and none of them may be one cube's serial work.

use cubecl::prelude::*;

use super::{
    by_latent::ByLatent,
    scan::{self, THREADS},
};
use crate::{
    Runtime,
    card::{Card, Floats, Ints, cubes, units},
};

/// The shortest segment.
const SEGMENT: usize = 512;
/// Segments are longer where there would be more than about twice as many of them as this: their sums lie
/// in memory, each as wide as a row of the encoder and an atom.
const SEGMENTS: usize = 2048;

/// Pairs that take part in the gradient.
#[derive(Debug, Clone)]
pub struct Term {
    /// Which latents in which rows.
    pub by_latent: ByLatent,
    /// What multiplies `y` in the gradient of an atom, by position in the code, `[nnz]`.
    pub decoder: Floats,
    /// What multiplies `x − centre` in the gradient of an encoder row, `[nnz]`.
    pub encoder: Floats,
    /// Parts of `y`, each for the latents from the end of the one before to its own; no atom beyond is concerned.
    pub y: Vec<(u32, usize)>,
}

/// The pairs of all terms.
#[derive(Debug, Clone)]
pub(super) struct Lists {
    /// Where each latent's list begins, and how many pairs there are, `[n + 1]`.
    pub(super) starts: Ints,
    /// Row of every pair in `y`: that in the batch, plus the rows of all parts before its own, or of all parts if
    /// it has none, `[pairs]`.
    pub(super) rows: Ints,
    /// Weights of every pair, `[pairs]`.
    pub(super) decoder: Floats,
    pub(super) encoder: Floats,
    /// Pairs of a segment.
    pub(super) segment: usize,
    /// The most segments there can be.
    pub(super) most: usize,
    /// Where each latent's segments begin, and how many there are, `[n + 1]`. A list of at most `segment`
    /// pairs has none.
    pub(super) segments: Ints,
    /// Latent of every segment, `[most]`.
    pub(super) owners: Ints,
}

impl Lists {
    /// The pairs of `terms` for `n` latents, with `parts` parts of `part` rows in `y`.
    pub(super) fn of<R: Runtime>(
        card: &Card<R>,
        terms: &[Term],
        n: usize,
        part: usize,
        parts: usize,
    ) -> Self {
        let pairs = terms.iter().map(|term| term.encoder.len()).sum();
        let mut before: Vec<Ints> = Vec::new();
        for term in terms {
            let starts = &term.by_latent.starts;
            let sum = before.last().map(|before| added(card, before, starts));
            before.push(sum.unwrap_or_else(|| starts.clone()));
        }
        let starts = before.last().cloned().unwrap_or_else(|| card.upload(&vec![0u32; n + 1]));
        let segment = SEGMENT.max(usize::div_ceil(pairs, SEGMENTS));
        // A list of more than one segment has fewer than two for every full one.
        let most = 2 * (pairs / (segment + 1));
        let (segments, owners) = cut(card, &starts, n, segment, most);
        let (encoder, decoder) = (card.room(pairs), card.room(pairs));
        let lists =
            Lists { starts, rows: card.room(pairs), decoder, encoder, segment, most, segments, owners };
        for (number, term) in terms.iter().enumerate() {
            let parts = term.y.iter().map(|&(_, part)| part).chain([parts]);
            #[allow(clippy::cast_possible_truncation, reason = "positions of rows are 32 bits")]
            let first_rows: Vec<u32> = parts.map(|number| (number * part) as u32).collect();
            lists.fill(card, term, number.checked_sub(1).map(|earlier| &before[earlier]), &first_rows);
        }
        lists
    }

    /// Puts the pairs of a term where they belong, behind those of earlier terms, whose lists begin at
    /// `before`. `first_rows` are those of its parts in `y`, and what stands for none.
    fn fill<R: Runtime>(&self, card: &Card<R>, term: &Term, before: Option<&Ints>, first_rows: &[u32]) {
        let (pairs, by_latent) = (term.encoder.len(), &term.by_latent);
        if pairs == 0 {
            return;
        }
        let (absent, ends): (Ints, Vec<u32>) = (card.room(1), term.y.iter().map(|&(end, _)| end).collect());
        fill_term::launch::<R>(
            card.client(),
            cubes(pairs.div_ceil(THREADS)),
            units(THREADS as u32),
            by_latent.starts.arg(),
            by_latent.pairs.arg(),
            by_latent.rows.arg(),
            by_latent.latents.arg(),
            term.decoder.arg(),
            term.encoder.arg(),
            self.starts.arg(),
            before.unwrap_or(&absent).arg(),
            card.upload(&ends).arg(),
            card.upload(first_rows).arg(),
            self.rows.arg(),
            self.decoder.arg(),
            self.encoder.arg(),
            pairs,
            ends.len(),
            before.is_some(),
        );
    }
}

/// `a + b`.
fn added<R: Runtime>(card: &Card<R>, a: &Ints, b: &Ints) -> Ints {
    let sum = card.room(a.len());
    let (count, dim) = (cubes(a.len().div_ceil(THREADS)), units(THREADS as u32));
    add::launch::<R>(card.client(), count, dim, a.arg(), b.arg(), sum.arg(), a.len());
    sum
}

/// Where each latent's segments begin, and the latent of every segment.
fn cut<R: Runtime>(card: &Card<R>, starts: &Ints, n: usize, segment: usize, most: usize) -> (Ints, Ints) {
    let (counts, owners): (Ints, Ints) = (card.room(n), card.room(most));
    let at_latents = || (cubes(n.div_ceil(THREADS)), units(THREADS as u32));
    let (count, dim) = at_latents();
    count_segments::launch::<R>(card.client(), count, dim, starts.arg(), counts.arg(), n, segment);
    let segments = scan::starts(card, &counts);
    if most > 0 {
        let (count, dim) = at_latents();
        own::launch::<R>(card.client(), count, dim, segments.arg(), owners.arg(), n);
    }
    (segments, owners)
}

#[cube(launch)]
fn add(a: &Array<u32>, b: &Array<u32>, sum: &mut Array<u32>, len: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        sum[i] = a[i] + b[i];
    }
}

#[cube(launch)]
fn count_segments(starts: &Array<u32>, counts: &mut Array<u32>, n: usize, segment: usize) {
    let latent = CUBE_POS * THREADS + UNIT_POS as usize;
    if latent < n {
        let len = (starts[latent + 1] - starts[latent]) as usize;
        let mut count = 0u32;
        if len > segment {
            count = ((len + segment - 1) / segment) as u32;
        }
        counts[latent] = count;
    }
}

/// At most as many segments of a latent as its list has, a few hundred.
#[cube(launch)]
fn own(segments: &Array<u32>, owners: &mut Array<u32>, n: usize) {
    let latent = CUBE_POS * THREADS + UNIT_POS as usize;
    if latent < n {
        for segment in segments[latent]..segments[latent + 1] {
            owners[segment as usize] = latent as u32;
        }
    }
}

/// One thread per pair. In the list of all terms, a latent's pairs of this term stand behind all pairs of
/// smaller latents and its own of earlier terms.
#[cube(launch)]
fn fill_term(
    starts: &Array<u32>,
    pairs: &Array<u32>,
    rows: &Array<u32>,
    latents: &Array<u32>,
    decoder: &Array<f32>,
    encoder: &Array<f32>,
    all_starts: &Array<u32>,
    before: &Array<u32>,
    ends: &Array<u32>,
    first_rows: &Array<u32>,
    into_rows: &mut Array<u32>,
    into_decoder: &mut Array<f32>,
    into_encoder: &mut Array<f32>,
    count: usize,
    parts: usize,
    #[comptime] has_before: bool,
) {
    let at = CUBE_POS * THREADS + UNIT_POS as usize;
    if at < count {
        let pair = pairs[at] as usize;
        let latent = latents[pair] as usize;
        let mut to = at as u32 - starts[latent] + all_starts[latent];
        if has_before {
            to += before[latent + 1] - before[latent];
        }
        let mut part = 0usize;
        for earlier in 0..parts {
            if latent as u32 >= ends[earlier] {
                part = earlier + 1;
            }
        }
        into_rows[to as usize] = rows[at] + first_rows[part];
        into_decoder[to as usize] = decoder[pair];
        into_encoder[to as usize] = encoder[pair];
    }
}
