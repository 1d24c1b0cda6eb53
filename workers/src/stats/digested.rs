//! A shard whose codes are found and counted on a card: what is asked of it, and what becomes of the answer.
//!
//! Which rows are a context, a sample of co-firing or a context of the pool follows from the tokens alone. So it is
//! decided before the card is asked, and codes come back of just these rows.

use std::ops::Range;

use super::{
    block::{RowSplit, Tokens},
    collected::Closed,
    fixed::pow2,
    shard::{ShardStatistics, StatsError},
};
use crate::{
    card::digest::{Candidate, Digest, Mark, Offered, Rows},
    interp::context::{Context, Pair, Split},
};

/// What the tokens say of some rows.
#[derive(Debug, Default)]
struct Cut {
    marks: Vec<Mark>,
    /// Contexts that end here with all their codes, in order.
    whole: Vec<Ended>,
    /// Those of which a card looks for candidates.
    offered: Vec<Ended>,
}

/// A context that has ended, and its rows among those that were cut.
#[derive(Debug)]
struct Ended {
    context: Context,
    hash: u64,
    split: Split,
    rows: Range<usize>,
}

impl Ended {
    fn closed(&self) -> Closed<'_> {
        Closed { context: &self.context, hash: self.hash, split: self.split }
    }

    /// Where row `at` stands in the context.
    #[allow(clippy::cast_possible_truncation, reason = "contexts have fewer than 2^16 rows")]
    fn offset(&self, at: usize) -> u16 {
        (self.context.rows as usize + at - self.rows.end) as u16
    }
}

impl ShardStatistics {
    /// Adds rows in input units, `[rows, d_in]`, whose codes a card finds. Blocks come in storage order; how rows are
    /// grouped into blocks does not matter.
    ///
    /// # Errors
    /// The columns do not fit, or the answer of the card does not.
    pub fn digest(&mut self, tokens: &Tokens<'_>, x: &[f32]) -> Result<(), StatsError> {
        let fits = x.len() == tokens.rows() * self.spec.d_in;
        if let Some(column) = tokens.mismatch().or((!fits).then_some("x")) {
            return Err(StatsError::Block(format!("`{column}` has another number of rows")));
        }
        self.follow(tokens)?;
        for from in (0..tokens.rows()).step_by(Rows::MOST) {
            let rows = from..tokens.rows().min(from + Rows::MOST);
            let x = &x[rows.start * self.spec.d_in..rows.end * self.spec.d_in];
            self.digest_some(tokens, rows, x)?;
        }
        Ok(())
    }

    fn digest_some(&mut self, tokens: &Tokens<'_>, rows: Range<usize>, x: &[f32]) -> Result<(), StatsError> {
        // Cutting forgets the pairs of contexts that are over.
        let carried = std::mem::take(&mut self.cutter.pairs);
        let cut = self.cut(tokens, rows.clone());
        let hash = |ended: &Ended| Offered { hash: ended.hash, split: ended.split as u32 };
        let contexts: Vec<Offered> = cut.offered.iter().map(hash).collect();
        let bounds = self.collected.samples.bounds();
        let Some(card) = &mut self.card else {
            return Err(StatsError::Block("no card counts its codes".to_owned()));
        };
        let digest = card.digest(&Rows { x, marks: &cut.marks, contexts: &contexts, bounds: &bounds });
        self.fit(&digest, &cut)?;
        self.measure(&tokens.split[rows], &cut.marks, &digest);
        self.offer_whole(&cut, &digest, carried);
        self.offer_candidates(&cut, &digest.candidates);
        Ok(())
    }

    /// Cuts rows into contexts and marks each.
    fn cut(&mut self, tokens: &Tokens<'_>, rows: Range<usize>) -> Cut {
        let mut cut = Cut::default();
        for at in rows {
            if self.cutter.begins(tokens, at) {
                self.end_context(&mut cut);
                self.cutter.open(tokens, at);
            }
            let split = tokens.split[at];
            let sampled = self.cutter.sampled(split, self.spec.coactivation_rate);
            cut.marks.push(Mark::new(split, sampled));
            self.cutter.push(tokens, at);
        }
        // The open one may go on in the next rows.
        let open = cut.marks.len().saturating_sub(self.cutter.context.rows as usize);
        cut.marks[open..].iter_mut().for_each(Mark::ask);
        cut
    }

    /// Puts the open context among those that have ended.
    fn end_context(&mut self, cut: &mut Cut) {
        if self.cutter.context.rows == 0 || self.cutter.kept == 0 {
            return;
        }
        self.contexts_kept += 1;
        let (context, hash) = (std::mem::take(&mut self.cutter.context), self.cutter.hash);
        let (split, end) = (self.spec.split_of(&context), cut.marks.len());
        let begins_before = context.rows as usize > end;
        let rows = end.saturating_sub(context.rows as usize)..end;
        let marks = &mut cut.marks[rows.clone()];
        let whole = begins_before || self.collected.pool.wants(&context, hash, split);
        let list = if whole { &mut cut.whole } else { &mut cut.offered };
        match whole {
            true => marks.iter_mut().for_each(Mark::ask),
            false => marks.iter_mut().for_each(|mark| mark.put(list.len())),
        }
        list.push(Ended { context, hash, split, rows });
    }

    /// Whether the answer of the card is one.
    fn fit(&self, digest: &Digest, cut: &Cut) -> Result<(), StatsError> {
        let (rows, known) = (cut.marks.len(), |latent: u32| (latent as usize) < self.spec.n_latents);
        let here = |c: &Candidate| cut.marks.get(c.row as usize).is_some_and(|mark| mark.context().is_some());
        let parts = [
            ("nnz", digest.nnz.len() == rows),
            ("products", digest.products.len() == rows),
            ("sum_x", digest.sum_x.len() == RowSplit::MEASURED.len() * self.spec.d_in),
            ("codes", digest.codes.offsets.len() == rows + 1),
            ("latents", digest.codes.latents.iter().all(|&latent| known(latent))),
            ("candidates", digest.candidates.iter().all(|c| here(c) && known(c.latent))),
        ];
        match parts.into_iter().find(|(_, fits)| !fits) {
            Some((part, _)) => Err(StatsError::Block(format!("`{part}` of a card"))),
            None => Ok(()),
        }
    }

    /// How well the rows are reconstructed, and on which co-firing is counted.
    fn measure(&mut self, splits: &[RowSplit], marks: &[Mark], digest: &Digest) {
        let square = pow2(2 * self.spec.fixed.unit_log2());
        for (at, &split) in splits.iter().enumerate().filter(|(_, split)| **split != RowSplit::Bad) {
            let products = digest.products[at].map(|product| f64::from(product) * square);
            self.quality[split as usize].add_products(products, digest.nnz[at] as usize);
            if marks[at].has(Mark::SAMPLED) {
                self.rows_sampled[split as usize] += 1;
                self.pairs.add_row(digest.codes.row(at).0);
            }
        }
        let sums = self.quality.iter_mut().zip(digest.sum_x.chunks_exact(self.spec.d_in.max(1)));
        sums.for_each(|(quality, sums)| quality.add_sum_x(sums));
    }

    /// Offers the contexts that came back, the first of them with what was carried from earlier rows, and carries what
    /// belongs to the open one.
    fn offer_whole(&mut self, cut: &Cut, digest: &Digest, mut carried: Vec<Pair>) {
        for ended in &cut.whole {
            add_pairs(&mut carried, cut, digest, ended.rows.clone(), |at| ended.offset(at));
            self.collected.offer(ended.closed(), &mut carried, &mut self.latents);
            carried.clear();
        }
        let (rows, open) = (cut.marks.len(), self.cutter.context.rows as usize);
        let offset = |at: usize| (open + at - rows) as u16;
        add_pairs(&mut carried, cut, digest, rows.saturating_sub(open)..rows, offset);
        self.cutter.pairs = carried;
    }

    /// Offers each latent the contexts that the card has found for it.
    fn offer_candidates(&mut self, cut: &Cut, candidates: &[Candidate]) {
        let context = |c: &Candidate| cut.marks[c.row as usize].context();
        let mut pairs = Vec::new();
        for same in candidates.chunk_by(|a, b| a.latent == b.latent && context(a) == context(b)) {
            let Some(ended) = context(&same[0]).and_then(|context| cut.offered.get(context)) else {
                continue;
            };
            let pair = |c: &Candidate| Pair {
                latent: c.latent,
                offset: ended.offset(c.row as usize),
                value: c.value,
            };
            pairs.clear();
            pairs.extend(same.iter().map(pair));
            self.collected.offer_to_one(ended.closed(), &pairs);
        }
    }
}

/// Adds the pairs of the kept rows of a context that came back.
fn add_pairs(
    pairs: &mut Vec<Pair>,
    cut: &Cut,
    digest: &Digest,
    rows: Range<usize>,
    offset: impl Fn(usize) -> u16,
) {
    for at in rows.filter(|&at| cut.marks[at].has(Mark::KEPT)) {
        let (latents, values) = digest.codes.row(at);
        let pair = |(&latent, &value)| Pair { latent, offset: offset(at), value };
        pairs.extend(latents.iter().zip(values).map(pair));
    }
}
