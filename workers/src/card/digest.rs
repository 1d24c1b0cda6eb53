//! What a card says of the codes of a shard instead of the codes themselves.
//!
//! Nearly all codes are only counted: they never leave the card. What comes back is what the processor has to look at
//! itself, and it says beforehand what that can be: rows by a mark each, candidates by a bound per list.

use std::fmt::Debug;

pub use atomflow_schemas::partial::{HISTOGRAM_BINS, HISTOGRAM_LOW_LOG2};

use crate::{codes::Codes, stats::RowSplit};
pub use crate::{
    interp::{
        bounds::{Bound, Bounds},
        samples::{IMPORTANCE_STREAM, UNIFORM_STREAM},
    },
    stats::latents::LatentSums,
};

/// Counts the codes of one shard on a card. Rows come in storage order; how they are grouped changes nothing.
pub trait Digests: Send + Debug {
    /// Encodes rows and counts their codes.
    fn digest(&mut self, rows: &Rows) -> Digest;

    /// What was counted of each latent, `[n_latents]`. Contexts of rows that came back are not among it.
    fn finish(self: Box<Self>) -> Vec<LatentSums>;
}

/// What is done with a row on a card.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark(pub u32);

impl Mark {
    /// Bit: its codes are counted.
    pub const KEPT: u32 = 1;
    /// Bit: and once more, as those of a row on which co-firing is counted.
    pub const SAMPLED: u32 = 2;
    /// Bit: its codes come back.
    pub const BACK: u32 = 4;
    /// Place of two bits: its split in the order of [`RowSplit::MEASURED`], or 3 for a row that is not measured.
    pub const SPLIT: u32 = 3;
    /// Place of the rest: the number of its context among [`Rows::contexts`], counted from 1; 0 where the card does
    /// nothing with its context.
    pub const CONTEXT: u32 = 8;

    /// Of a row of no context yet.
    pub fn new(split: RowSplit, sampled: bool) -> Self {
        let flag = |on, bit| if on { bit } else { 0 };
        let kept = flag(split.kept(), Mark::KEPT);
        // Pairs are counted by the processor: the sample is a small part of a run.
        let sampled = flag(sampled, Mark::SAMPLED | Mark::BACK);
        Mark(kept | sampled | (split as u32) << Mark::SPLIT)
    }

    /// Whether it has the bit.
    pub fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }

    /// Its context among those of its rows.
    pub fn context(self) -> Option<usize> {
        (self.0 >> Mark::CONTEXT).checked_sub(1).map(|number| number as usize)
    }

    /// Asks for the codes of the row, if it is kept.
    pub(crate) fn ask(&mut self) {
        if self.has(Mark::KEPT) {
            self.0 |= Mark::BACK;
        }
    }

    /// Puts the row into a context, by its place among those of its rows.
    #[allow(clippy::cast_possible_truncation, reason = "fewer contexts than rows of a digest")]
    pub(crate) fn put(&mut self, context: usize) {
        self.0 |= (context as u32 + 1) << Mark::CONTEXT;
    }
}

/// A context of which a card looks for the latents that should be offered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Hash of its content key.
    pub hash: u64,
    /// Which half of the bounds applies: 0 to explain, 1 to score.
    pub split: u32,
}

/// Rows to be encoded and counted, and what is known of them.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    /// Row-major `[rows, d_in]`, in input units.
    pub x: &'a [f32],
    /// `[rows]`.
    pub marks: &'a [Mark],
    /// Contexts that lie in these rows from their first row to their last.
    pub contexts: &'a [Offered],
    /// What the samples of a latent may still take.
    pub bounds: &'a [Bounds],
}

impl Rows<'_> {
    /// The most rows that are digested at once.
    pub const MOST: usize = 16_384;
}

// Each may be a context of its own.
const _: () = assert!(Rows::MOST < 1 << (32 - Mark::CONTEXT));

/// What comes back of some rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Digest {
    /// Code pairs of each row, `[rows]`.
    pub nnz: Vec<u32>,
    /// ‖x − x̂‖², ‖x‖², x·x̂ and ‖x̂‖² of each row, in squares of the unit of the run, `[rows]`.
    pub products: Vec<[f32; 4]>,
    /// Fixed-point Σx over the rows of each measured split, `[3, d_in]`.
    pub sum_x: Vec<i64>,
    /// Codes of the rows that were asked for; other rows are there without pairs.
    pub codes: Codes,
    /// Pairs of latents in contexts that some list of theirs may take, by latent, then row. All that a list takes
    /// are among them.
    pub candidates: Vec<Candidate>,
}

/// A pair of a latent that may keep the context of its row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Which latent.
    pub latent: u32,
    /// Its row, among those that were digested.
    pub row: u32,
    /// Its activation.
    pub value: f32,
}
