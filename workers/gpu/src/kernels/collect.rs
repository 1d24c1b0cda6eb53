//! What a whole batch keeps, over chunks of latents that come one after the other: everything above thresholds
//! (JumpReLU, BatchTopK at inference), or the `k·rows` largest (BatchTopK).
//!
//! Rows may keep any number of pairs, so there is one list for all. Where a chunk does not fit, the list grows and
//! the chunk is taken again; for the largest of a batch, the least that can be among them rises instead as
//! soon as the list holds twice as many as are kept.

use cubecl::prelude::*;

use super::{
    cut::{BINS, UNITS},
    order,
    passing::{self, PIECE, PlaceLaunch},
    tally::{self, DigitLaunch, STRETCH},
};
use crate::{
    card::{Card, Floats, Ints, Lost, cubes, units},
    pairs::{Pairs, PairsOnCard},
};

/// Pairs that a list has room for at least.
const ROOM: usize = 1 << 16;

/// Rank, row and latent, the latter two counted downwards. What is selected is not below it.
type Cut = [u32; 3];

/// A list on a card, as long as `count` says.
#[derive(Debug)]
struct List {
    rows: Ints,
    latents: Ints,
    words: Ints,
    count: usize,
}

impl List {
    fn new<R: Runtime>(card: &Card<R>, room: usize) -> Self {
        List { rows: card.room(room), latents: card.room(room), words: card.room(room), count: 0 }
    }

    fn room(&self) -> usize {
        self.words.len()
    }
}

/// A chunk of scores, `[rows, width]`.
#[derive(Debug, Clone, Copy)]
struct Chunk<'a> {
    scores: &'a Floats,
    width: usize,
    first: u32,
}

/// What is kept of all that was met. Latents and rows are below 2³¹, pairs below 2³².
#[derive(Debug)]
pub struct Collected {
    rows: usize,
    /// `[n_latents]` or `[1]`; without, the largest of the batch are kept.
    thresholds: Option<Floats>,
    /// Pairs kept in all.
    most: usize,
    /// Lists of more pairs than that are cut rather than made longer.
    limit: usize,
    cut: Cut,
    list: List,
}

impl Collected {
    /// Everything above `thresholds`: one per latent, or one for all. NaN is never kept.
    pub fn above<R: Runtime>(card: &Card<R>, rows: usize, thresholds: &Floats) -> Self {
        let list = List::new(card, ROOM.max(64 * rows));
        let thresholds = Some(thresholds.clone());
        Collected { rows, thresholds, most: usize::MAX, limit: usize::MAX, cut: [0; 3], list }
    }

    /// The `k·rows` largest above 0; ties go to the lower row, then to the lower latent. NaN is never kept.
    pub fn batch<R: Runtime>(card: &Card<R>, rows: usize, k: usize) -> Self {
        let most = k.saturating_mul(rows);
        let limit = most.saturating_mul(2).saturating_add(ROOM);
        let list = List::new(card, limit.min(ROOM.max(64 * rows)));
        Collected { rows, thresholds: None, most, limit, cut: [0; 3], list }
    }

    /// Takes the scores of a chunk, `[rows, width]`; the first column is latent `first`.
    ///
    /// # Errors
    /// The card is lost.
    pub fn meet<R: Runtime>(
        &mut self,
        card: &Card<R>,
        scores: &Floats,
        width: usize,
        first: u32,
    ) -> Result<(), Lost> {
        let all = self.rows * width;
        if all == 0 || self.most == 0 {
            return Ok(());
        }
        if u32::try_from(self.list.count + all).is_err() {
            return Err(Lost(format!("{} pairs are selected in one batch, and more", self.list.count)));
        }
        let chunk = Chunk { scores, width, first };
        // Half of a first chunk is above 0: to learn that it does not fit is not worth a pass.
        if self.thresholds.is_none() && self.list.count == 0 && all > self.limit {
            self.raise(card, Some(chunk), self.enough())?;
        }
        loop {
            let found = self.gather(card, chunk)?;
            if found <= self.list.room() {
                self.list.count = found;
                return Ok(());
            }
            if found > self.limit {
                let reaching = self.raise(card, Some(chunk), self.enough())?;
                self.sieve(card, self.list.room().max(reaching))?;
            } else {
                self.sieve(card, found.max(2 * self.list.room()).min(self.limit))?;
            }
        }
    }

    /// What was kept, on this side, and the smallest kept value of [`Collected::batch`].
    ///
    /// # Errors
    /// The card is lost.
    pub fn finish<R: Runtime>(self, card: &Card<R>) -> Result<(Pairs, Option<f32>), Lost> {
        let of_batch = self.thresholds.is_none();
        let pairs = self.close(card)?.download(card)?;
        let smallest = pairs.values.iter().copied().reduce(f32::min);
        Ok((pairs, smallest.filter(|_| of_batch)))
    }

    /// What was kept.
    ///
    /// # Errors
    /// The card is lost.
    pub fn close<R: Runtime>(mut self, card: &Card<R>) -> Result<PairsOnCard, Lost> {
        if self.list.count > self.most {
            self.raise(card, None, self.most)?;
            self.sieve(card, self.most)?;
        }
        let (list, count) = (&self.list, self.list.count);
        if count == 0 {
            return Ok(PairsOnCard::none(card, self.rows));
        }
        let [counts, next]: [Ints; 2] = [0, 1].map(|_| card.upload(&vec![0; self.rows]));
        let (client, each) = (card.client(), cubes(count.div_ceil(UNITS as usize)));
        let (rows, length) = (list.rows.arg(), count as u32);
        passing::count_rows::launch::<R>(client, each.clone(), units(UNITS), rows, counts.arg(), length);
        let offsets = order::offsets(card, &counts);
        let (latents, words): (Ints, Ints) = (card.room(count), card.room(count));
        passing::to_rows::launch::<R>(
            client,
            each,
            units(UNITS),
            list.rows.arg(),
            list.latents.arg(),
            list.words.arg(),
            offsets.arg(),
            next.arg(),
            latents.arg(),
            words.arg(),
            length,
        );
        order::pairs(card, &latents, &words, &offsets, 0, count)
    }

    /// A list that is cut becomes no longer than that, so that the next chunks have room.
    fn enough(&self) -> usize {
        self.most.saturating_add(self.most / 2)
    }

    /// Appends a chunk to the list and returns how long it would have to be.
    fn gather<R: Runtime>(&self, card: &Card<R>, chunk: Chunk) -> Result<usize, Lost> {
        let Chunk { scores, width, first } = chunk;
        let length = card.upload(&[self.list.count as u32]);
        let pieces = width.div_ceil(PIECE);
        passing::gather::launch::<R>(
            card.client(),
            cubes(self.rows * pieces),
            units(UNITS),
            scores.arg(),
            self.thresholds.as_ref().unwrap_or(scores).arg(),
            self.list.rows.arg(),
            self.list.latents.arg(),
            self.list.words.arg(),
            length.arg(),
            place(self.cut),
            self.rows as u32,
            width as u32,
            pieces as u32,
            first,
            self.thresholds.is_some(),
        );
        one(card, &length)
    }

    /// Moves what is not below the cut to a list with more or less room.
    fn sieve<R: Runtime>(&mut self, card: &Card<R>, room: usize) -> Result<(), Lost> {
        let (old, length) = (&self.list, card.upload(&[0u32]));
        let mut list = List::new(card, room);
        if old.count > 0 {
            passing::sieve::launch::<R>(
                card.client(),
                cubes(old.count.div_ceil(PIECE)),
                units(UNITS),
                old.rows.arg(),
                old.latents.arg(),
                old.words.arg(),
                list.rows.arg(),
                list.latents.arg(),
                list.words.arg(),
                length.arg(),
                place(self.cut),
                old.count as u32,
            );
            list.count = one(card, &length)?.min(room);
        }
        self.list = list;
        Ok(())
    }

    /// Raises the cut until at least the pairs kept in all and at most `enough` reach it, of the list and
    /// `chunk` together, and returns how many do. Fewer in all leave it as it is.
    fn raise<R: Runtime>(
        &mut self,
        card: &Card<R>,
        chunk: Option<Chunk>,
        enough: usize,
    ) -> Result<usize, Lost> {
        let (mut cut, mut mask, mut beyond, mut reaching) = ([0; 3], [0; 3], 0, 0);
        for (part, shift, bits) in (0..3).flat_map(|p| [(p, 20, 2047), (p, 10, 1023), (p, 0, 1023)]) {
            let digit = || DigitLaunch::new(part as u32, shift, bits, place(mask), place(cut));
            let counts = self.tally(card, chunk, digit)?;
            let mut bin = BINS - 1;
            while bin > 0 && beyond + counts[bin] < self.most {
                beyond += counts[bin];
                bin -= 1;
            }
            cut[part] |= (bin as u32) << shift;
            mask[part] |= bits << shift;
            reaching = beyond + counts[bin];
            if reaching <= enough {
                break;
            }
        }
        self.cut = self.cut.max(cut);
        Ok(reaching)
    }

    /// How often each digit occurs.
    fn tally<R: Runtime>(
        &self,
        card: &Card<R>,
        chunk: Option<Chunk>,
        digit: impl Fn() -> DigitLaunch<R>,
    ) -> Result<Vec<usize>, Lost> {
        let (list, counts, client) = (&self.list, card.upload(&[0u32; BINS]), card.client());
        if let Some(Chunk { scores, width, first }) = chunk {
            tally::tally_scores::launch::<R>(
                client,
                cubes(self.rows),
                units(UNITS),
                scores.arg(),
                counts.arg(),
                digit(),
                place(self.cut),
                self.rows as u32,
                width as u32,
                first,
            );
        }
        if list.count > 0 {
            tally::tally_list::launch::<R>(
                client,
                cubes(list.count.div_ceil(STRETCH)),
                units(UNITS),
                list.rows.arg(),
                list.latents.arg(),
                list.words.arg(),
                counts.arg(),
                digit(),
                list.count as u32,
            );
        }
        let mut counts: Vec<usize> = card.download(&counts)?.into_iter().map(|n| n as usize).collect();
        counts.resize(BINS, 0);
        Ok(counts)
    }
}

fn place<R: Runtime>([rank, row, latent]: Cut) -> PlaceLaunch<R> {
    PlaceLaunch::new(rank, row, latent)
}

/// A single number, on this side.
fn one<R: Runtime>(card: &Card<R>, number: &Ints) -> Result<usize, Lost> {
    Ok(card.download(number)?.first().map_or(0, |&number| number as usize))
}
