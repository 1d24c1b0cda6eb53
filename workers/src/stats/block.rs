//! A block of encoded rows, as harvest hands it to the statistics.

use arrow::array::StringArray;

use crate::codes::Codes;

/// What becomes of a row in the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowSplit {
    /// Kept; trained on.
    Train,
    /// Kept; never trained on.
    HeldOut,
    /// Left out by a row filter: counts only in the quality of the dropped split, and stands in its
    /// context as a token without activation.
    Dropped,
    /// Holds no usable vector (null, NaN, Inf): a token of its context, counted nowhere.
    Bad,
}

impl RowSplit {
    /// The splits that quality is reported for, in table order.
    pub const MEASURED: [RowSplit; 3] = [RowSplit::Train, RowSplit::HeldOut, RowSplit::Dropped];

    /// The word in tables.
    pub const fn name(self) -> &'static str {
        match self {
            RowSplit::Train => "train",
            RowSplit::HeldOut => "heldout",
            RowSplit::Dropped => "dropped",
            RowSplit::Bad => "bad",
        }
    }

    /// The word in tables for held-out rows under the learner's own encoder, where a coder found the codes.
    pub const HELD_OUT_ENCODED: &str = "heldout_encoder";

    /// Whether latents are counted on the row.
    pub const fn kept(self) -> bool {
        matches!(self, RowSplit::Train | RowSplit::HeldOut)
    }
}

/// Held-out rows of a block under the learner's own encoder.
#[derive(Debug, Clone, Copy)]
pub struct Encoded<'a> {
    /// Their codes in input units, in order.
    pub codes: &'a Codes,
    /// Reconstructions in input units, row-major `[held-out rows, d_in]`.
    pub x_hat: &'a [f32],
}

/// What is known of consecutive rows of one row group of one shard beside their vectors, in storage order.
#[derive(Debug, Clone, Copy)]
pub struct Tokens<'a> {
    /// Row group the rows lie in.
    pub row_group: u32,
    /// Number of the first row in the shard.
    pub first_row: u64,
    /// What becomes of each row, `[rows]`.
    pub split: &'a [RowSplit],
    /// Token ids, `[rows]`.
    pub token_id: Option<&'a [i32]>,
    /// Token texts, `[rows]`.
    pub token: Option<&'a StringArray>,
    /// Documents, `[rows]`.
    pub doc_id: Option<&'a [i64]>,
    /// Sequences, `[rows]`.
    pub seq_id: Option<&'a [i64]>,
    /// Positions in the sequence, `[rows]`.
    pub pos: Option<&'a [i32]>,
}

impl Tokens<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.split.len()
    }

    /// What has another length, if anything.
    pub(crate) fn mismatch(&self) -> Option<&'static str> {
        let rows = self.rows();
        let columns = [
            ("token_id", self.token_id.is_none_or(|c| c.len() == rows)),
            ("token", self.token.is_none_or(|c| arrow::array::Array::len(c) == rows)),
            ("doc_id", self.doc_id.is_none_or(|c| c.len() == rows)),
            ("seq_id", self.seq_id.is_none_or(|c| c.len() == rows)),
            ("pos", self.pos.is_none_or(|c| c.len() == rows)),
        ];
        columns.into_iter().find(|(_, fits)| !fits).map(|(name, _)| name)
    }
}

/// Rows with their codes.
#[derive(Debug, Clone, Copy)]
pub struct HarvestBlock<'a> {
    /// Where they stand in the text, and what becomes of them.
    pub tokens: Tokens<'a>,
    /// Activations in input units, row-major `[rows, d_in]`.
    pub x: &'a [f32],
    /// Reconstructions in input units, row-major `[rows, d_in]`.
    pub x_hat: &'a [f32],
    /// Codes in input units.
    pub codes: &'a Codes,
    /// What the learner's own encoder makes of the held-out rows, where a coder found the codes.
    pub encoded: Option<Encoded<'a>>,
}

impl HarvestBlock<'_> {
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.tokens.rows()
    }

    /// The held-out rows, by their place in the block.
    pub(crate) fn held_out(&self) -> impl Iterator<Item = usize> {
        let places = self.tokens.split.iter().enumerate();
        places.filter(|(_, split)| **split == RowSplit::HeldOut).map(|(at, _)| at)
    }

    /// Whether there is what the encoder makes of every held-out row, if there is any of it.
    fn encoded_fits(&self, d_in: usize) -> bool {
        let rows = self.held_out().count();
        self.encoded.is_none_or(|e| e.codes.rows() == rows && e.x_hat.len() == rows * d_in)
    }

    /// What is wrong with the lengths, if anything.
    pub(crate) fn mismatch(&self, d_in: usize) -> Option<&'static str> {
        let rows = self.rows();
        let columns = [
            ("x", self.x.len() == rows * d_in),
            ("x_hat", self.x_hat.len() == rows * d_in),
            ("codes", self.codes.rows() == rows),
            ("encoded", self.encoded_fits(d_in)),
        ];
        let wrong = columns.into_iter().find(|(_, fits)| !fits).map(|(name, _)| name);
        wrong.or_else(|| self.tokens.mismatch())
    }
}
