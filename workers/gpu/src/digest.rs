//! The codes of a shard, found and counted on a card: see [`Digests`].

use atomflow_workers::{
    card::digest::{Digest, Digests, LatentSums, Mark, Rows},
    codes::Codes,
    stats::FixedPoint,
};

use crate::{
    Runtime,
    card::{Ints, Lost},
    dictionary::Dictionary,
    kernels::{
        by_latent::by_latent,
        count::Counts,
        measure::{self, Decoder},
        offer::Offers,
        some::some,
    },
};

/// The codes of one shard.
#[derive(Debug)]
pub(crate) struct Digesting<R: Runtime> {
    dictionary: Dictionary<R>,
    decoder: Decoder,
    fixed: FixedPoint,
    counts: Counts,
}

impl<R: Runtime> Digesting<R> {
    /// No rows yet.
    pub(crate) fn new(dictionary: Dictionary<R>, decoder: Decoder, fixed: FixedPoint) -> Self {
        let counts = Counts::new(&dictionary.card, dictionary.n(), fixed.value_log2);
        Digesting { dictionary, decoder, fixed, counts }
    }

    fn digested(&self, rows: &Rows) -> Result<Digest, Lost> {
        let (card, d, n) = (&self.dictionary.card, self.decoder.b_dec.len(), self.dictionary.n());
        let x = card.upload(rows.x);
        let marks: Vec<u32> = rows.marks.iter().map(|mark| mark.0).collect();
        let marks: Ints = card.upload(&marks);
        let pairs = self.dictionary.find(&x)?;
        let lists = by_latent(card, &pairs.codes, n);
        self.counts.add(card, &lists, &pairs.values, &marks);
        let offers = Offers::upload(card, rows.contexts, rows.bounds);
        let products =
            measure::products(card, &x, &pairs.codes, &pairs.values, &self.decoder, self.per_unit());
        let sum_x = measure::sums(card, &x, &marks, d, self.fixed.value_log2);
        // All of it is on its way before the first answer is waited for.
        let candidates = offers.candidates(card, &lists, &pairs.values, &marks, &self.counts)?;
        let codes = some(card, &pairs, |row| rows.marks[row].has(Mark::BACK), n)?;
        let nnz = pairs.offsets.windows(2).map(|span| span[1].saturating_sub(span[0]) as u32);
        let products = card.download(&products)?.as_chunks::<4>().0.to_vec();
        let sum_x = card.download(&sum_x)?.into_iter().map(u64::cast_signed).collect();
        Ok(Digest { nnz: nnz.collect(), products, sum_x, codes, candidates })
    }

    /// One over the unit, a power of two: exact.
    fn per_unit(&self) -> f32 {
        f32::powi(2.0, -self.fixed.unit_log2())
    }
}

impl<R: Runtime> Digests for Digesting<R> {
    fn digest(&mut self, rows: &Rows) -> Digest {
        let _turn = self.dictionary.turn();
        // Of a card that is gone: whoever reads it asks for the card first.
        let nothing = || Digest { codes: Codes::new(self.dictionary.n()), ..Digest::default() };
        self.dictionary.losses.or_else(self.digested(rows), nothing)
    }

    fn finish(self: Box<Self>) -> Vec<LatentSums> {
        let _turn = self.dictionary.turn();
        let counts = self.counts.download(&self.dictionary.card);
        self.dictionary.losses.or_else(counts, Vec::new)
    }
}
