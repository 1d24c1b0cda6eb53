//! Which rows train, which are held out, which are left out. A rule per row, decided before learning.

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
    _private: (),
}
