//! Bytes of one row group → rows.

use arrow::array::StringArray;

/// The rows of one row group, decoded: activations as one dense block, the rest as columns.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// Number of rows.
    pub rows: usize,
    /// Activations, row-major `[rows, d_in]`; rows listed in `bad` hold zeros.
    pub x: Vec<f32>,
    /// The columns beside them.
    pub tokens: Tokens,
    /// Rows that hold no usable vector (null, NaN, Inf), ascending, with the reason.
    pub bad: Vec<(usize, &'static str)>,
}

/// Optional columns of a block of rows; each is either absent or as long as the block.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs, reason = "named after the columns of `Columns`")]
pub struct Tokens {
    pub token_id: Option<Vec<i32>>,
    pub token: Option<StringArray>,
    pub doc_id: Option<Vec<i64>>,
    pub seq_id: Option<Vec<i64>>,
    pub pos: Option<Vec<i32>>,
}
