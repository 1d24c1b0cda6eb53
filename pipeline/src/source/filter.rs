//! Which rows train, which are held out, which are left out. A rule per row, decided before learning.

use std::collections::HashSet;

use atomflow_workers::random::{hash, unit};

use super::{Decoded, FilterSpec, Has, Tokens};
use crate::error::{Error, Result};

/// Separates the draw of held-out documents from every other use of the seed. Never changes.
const HELD_OUT: u64 = 0x6865_6c64_5f6f_7574;

/// What becomes of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Trains and counts.
    Train,
    /// Never trains; the published quality figures come from these.
    HeldOut,
    /// Left out by position.
    DroppedPos,
    /// Left out by token id.
    DroppedTokenId,
    /// Left out because its norm is far beyond the median (an attention sink).
    DroppedNorm,
    /// Left out because it holds no usable vector (null, NaN, Inf); only under quarantine.
    Bad,
}

/// The compiled row rules of a job.
#[derive(Debug, Clone)]
pub struct RowFilter {
    drop_pos: HashSet<i64>,
    drop_token_ids: HashSet<i64>,
    heldout: f64,
    seed: u64,
    norm_max: Option<f64>,
    /// Values at the beginning of a row whose norm counts; left out, all.
    main: Option<usize>,
}

impl RowFilter {
    /// The rules of `filter`, with a share `heldout` of documents held out by hash of their id.
    /// The norm rule waits for [`RowFilter::with_norm_max`]: its bound is estimated, not written.
    pub fn new(filter: &FilterSpec, heldout: f64, seed: u64) -> RowFilter {
        RowFilter {
            drop_pos: filter.drop_pos.iter().copied().collect(),
            drop_token_ids: filter.drop_token_ids.iter().copied().collect(),
            heldout,
            seed,
            norm_max: None,
            main: None,
        }
    }

    /// Leaves out rows whose Euclidean norm exceeds `norm_max`, in the units of the data.
    #[must_use]
    pub fn with_norm_max(mut self, norm_max: f32) -> RowFilter {
        self.norm_max = Some(f64::from(norm_max));
        self
    }

    /// The norm rule is about the first `values` of a row, where a row is several columns.
    #[must_use]
    pub fn about_first(mut self, values: usize) -> RowFilter {
        self.main = Some(values);
        self
    }

    /// Refuses rules about columns that the data lack.
    pub fn check(&self, has: &Has) -> Result<()> {
        let lacks = |rule: &str, column: &str| {
            Error::spec(format!("needs the column `{column}`, which not every shard has"))
                .field(format!("source.filter.{rule}"))
                .hint(format!("remove the rule, or name the column in source.columns.{column}"))
        };
        if !self.drop_pos.is_empty() && !has.pos {
            return Err(lacks("drop_pos", "pos"));
        }
        if !self.drop_token_ids.is_empty() && !has.token_id {
            return Err(lacks("drop_token_ids", "token_id"));
        }
        Ok(())
    }

    /// One verdict per row; the first rule that applies wins: bad, position, token id, norm, held
    /// out. `shard` and `row_group` stand in for the document where no column names one.
    ///
    /// # Shapes
    /// `decoded.x` is `[rows, d_in]`; the answer has `rows` entries.
    pub fn verdicts(&self, decoded: &Decoded, d_in: usize, shard: usize, row_group: usize) -> Vec<Verdict> {
        let mut documents = Documents::new(self, &decoded.tokens, shard, row_group);
        let mut bad = decoded.bad.iter().map(|(row, _)| *row).peekable();
        let verdict = |row: usize| {
            if bad.next_if_eq(&row).is_some() {
                return Verdict::Bad;
            }
            self.dropped(decoded, d_in, row).unwrap_or_else(|| documents.verdict(row))
        };
        (0..decoded.rows).map(verdict).collect()
    }

    fn dropped(&self, decoded: &Decoded, d_in: usize, row: usize) -> Option<Verdict> {
        let tokens = &decoded.tokens;
        let is_in = |set: &HashSet<i64>, column: &Option<Vec<i32>>| {
            !set.is_empty() && column.as_ref().is_some_and(|c| set.contains(&i64::from(c[row])))
        };
        if is_in(&self.drop_pos, &tokens.pos) {
            return Some(Verdict::DroppedPos);
        }
        if is_in(&self.drop_token_ids, &tokens.token_id) {
            return Some(Verdict::DroppedTokenId);
        }
        let bound = self.norm_max?;
        let norm_sq = squared_norm(&decoded.x[row * d_in..][..self.main.unwrap_or(d_in)]);
        (norm_sq > bound * bound).then_some(Verdict::DroppedNorm)
    }

    fn is_held_out(&self, document: u64) -> bool {
        unit(hash(&[self.seed, HELD_OUT, document])) < self.heldout
    }
}

/// Rows of one document follow each other, so the last answer is kept.
struct Documents<'a> {
    filter: &'a RowFilter,
    ids: Option<&'a [i64]>,
    last: (u64, bool),
}

impl<'a> Documents<'a> {
    fn new(filter: &'a RowFilter, tokens: &'a Tokens, shard: usize, row_group: usize) -> Documents<'a> {
        let ids = tokens.doc_id.as_deref().or(tokens.seq_id.as_deref());
        let place = hash(&[shard as u64, row_group as u64]);
        let first = ids.and_then(|ids| ids.first()).map_or(place, |id| *id as u64);
        Documents { filter, ids, last: (first, filter.is_held_out(first)) }
    }

    fn verdict(&mut self, row: usize) -> Verdict {
        let document = self.ids.map_or(self.last.0, |ids| ids[row] as u64);
        if document != self.last.0 {
            self.last = (document, self.filter.is_held_out(document));
        }
        if self.last.1 { Verdict::HeldOut } else { Verdict::Train }
    }
}

/// Sum of squares in f64, in eight partial sums: a single one would wait for itself at every value.
pub fn squared_norm(row: &[f32]) -> f64 {
    let mut sums = [0.0_f64; 8];
    let chunks = row.chunks_exact(8);
    let tail: f64 = chunks.remainder().iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, v)| *sum += f64::from(*v) * f64::from(*v));
    }
    sums.iter().sum::<f64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn block(rows: usize) -> Decoded {
        let ids = (0..rows as i64).collect::<Vec<_>>();
        let narrow = ids.iter().map(|i| *i as i32).collect::<Vec<_>>();
        let tokens = Tokens {
            token_id: Some(narrow.clone()),
            pos: Some(narrow),
            doc_id: Some(ids.iter().map(|i| i / 4).collect()),
            ..Tokens::default()
        };
        Decoded { rows, x: vec![1.0; rows * 3], tokens, bad: vec![] }
    }

    #[test]
    fn the_first_rule_wins() {
        let mut decoded = block(6);
        decoded.bad = vec![(0, "null activation")];
        decoded.x[2 * 3] = 100.0;
        decoded.x[3 * 3] = 100.0;
        let spec = FilterSpec { drop_pos: vec![0, 1], drop_token_ids: vec![1, 2], ..FilterSpec::default() };
        let filter = RowFilter::new(&spec, 1.0, 7).with_norm_max(10.0);
        use Verdict::*;
        assert_eq!(
            filter.verdicts(&decoded, 3, 0, 0),
            [Bad, DroppedPos, DroppedTokenId, DroppedNorm, HeldOut, HeldOut]
        );
        let none = RowFilter::new(&FilterSpec::default(), 0.0, 7);
        assert_eq!(none.verdicts(&decoded, 3, 0, 0)[1..], [Train; 5]);
    }

    #[test]
    fn documents_are_held_out_whole_and_by_share() {
        let decoded = block(40_000);
        let filter = RowFilter::new(&FilterSpec::default(), 0.1, 3);
        let verdicts = filter.verdicts(&decoded, 3, 0, 0);
        assert!(verdicts.chunks(4).all(|document| document.iter().all(|v| *v == document[0])));
        let share = verdicts.iter().filter(|v| **v == Verdict::HeldOut).count() as f64 / 40_000.0;
        assert!((share - 0.1).abs() < 0.01, "{share}");
        // The split is a function of seed and id alone: another place gives the same rows.
        assert_eq!(filter.verdicts(&decoded, 3, 5, 9), verdicts);
        assert_ne!(RowFilter::new(&FilterSpec::default(), 0.1, 4).verdicts(&decoded, 3, 0, 0), verdicts);
    }

    #[test]
    fn without_ids_the_row_group_is_the_document() {
        let decoded = Decoded { tokens: Tokens::default(), ..block(8) };
        let filter = RowFilter::new(&FilterSpec::default(), 0.5, 3);
        let groups: Vec<_> = (0..64).map(|g| filter.verdicts(&decoded, 3, 0, g)).collect();
        assert!(groups.iter().all(|g| g.iter().all(|v| *v == g[0])));
        assert!(
            groups.iter().any(|g| g[0] == Verdict::HeldOut) && groups.iter().any(|g| g[0] == Verdict::Train)
        );
    }

    #[test]
    fn a_rule_without_its_column_is_a_spec_error() {
        let spec = FilterSpec { drop_pos: vec![0], ..FilterSpec::default() };
        let error = RowFilter::new(&spec, 0.0, 0).check(&Has::default()).unwrap_err();
        assert_eq!(error.kind, Kind::Spec);
        assert_eq!(error.place().field.as_deref(), Some("source.filter.drop_pos"));
        assert!(RowFilter::new(&spec, 0.0, 0).check(&Has { pos: true, ..Has::default() }).is_ok());
    }

    #[test]
    fn squared_norms_are_exact_for_small_integers() {
        let row: Vec<f32> = (0..19).map(|i| i as f32).collect();
        assert_eq!(squared_norm(&row), (0..19).map(|i| f64::from(i * i)).sum::<f64>());
    }
}
