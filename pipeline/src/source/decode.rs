//! Bytes of one row group → rows.

use arrow::array::{RecordBatch, StringArray};

use super::{
    Fetched, OnBad, Shard,
    bad_rows::BadRows,
    companions::{Companion, context_ids},
    dense::Dense,
    layout::{Layout, Role},
    shield,
};
use crate::error::{Error, Result};

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

/// What the caller needs of a row group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Whether token texts are decoded (training has no use for them).
    pub token_text: bool,
    /// Whether a row without a usable vector is an error or is listed in [`Decoded::bad`].
    pub on_bad: OnBad,
}

/// Decodes one row group. Pure and synchronous: the same bytes give the same rows on any thread.
///
/// Bytes that no reader understands are a data error that names the row group, never a panic.
pub fn decode(shard: &Shard, row_group: usize, fetched: Fetched, want: Want) -> Result<Decoded> {
    let decoded = shield::run(|| rows(shard, row_group, fetched, want));
    decoded.map_err(|e| e.object(&shard.url).row_group(row_group))
}

fn rows(shard: &Shard, row_group: usize, fetched: Fetched, want: Want) -> Result<Decoded> {
    let layout = &shard.reader.layout;
    let mut wanted = layout.wanted(want.token_text);
    wanted.sort_unstable();
    wanted.dedup();
    let mut block = Block::new(layout, shard.d_in, shard.row_groups[row_group].rows, want, fetched.bytes())?;
    for batch in shard.reader.batches(row_group, fetched, &wanted, shard.d_in)? {
        block.push(&batch?, &wanted)?;
    }
    block.finish(want.on_bad, || shard.contexts_before(row_group))
}

/// A block of rows being filled, batch by batch.
struct Block<'a> {
    layout: &'a Layout,
    d_in: usize,
    rows: usize,
    filled: usize,
    x: Vec<f32>,
    bad: BadRows,
    companions: Vec<(usize, Companion)>,
}

impl<'a> Block<'a> {
    fn new(layout: &'a Layout, d_in: usize, rows: u64, want: Want, stored: u64) -> Result<Block<'a>> {
        let bytes = rows.saturating_mul(4 * d_in as u64);
        shield::plausible(bytes, stored)?;
        let rows = rows as usize;
        let read = |(role, _): &&(Role, usize)| want.token_text || *role != Role::Token;
        let companions = layout.columns.iter().filter(read).map(|(role, c)| (*c, Companion::new(*role)));
        let companions = companions.collect();
        // Fresh zeroed memory costs nothing until it is written.
        let x = vec![0.0; rows * d_in];
        Ok(Block { layout, d_in, rows, filled: 0, x, bad: BadRows::default(), companions })
    }

    fn push(&mut self, batch: &RecordBatch, wanted: &[usize]) -> Result<()> {
        let column = |index: usize| match wanted.binary_search(&index) {
            Ok(rank) => Ok(batch.column(rank)),
            Err(_) => Err(Error::bug("a column was not asked for")),
        };
        let Layout { ctx, raw, activation, .. } = *self.layout;
        let mut dense = Dense { d_in: self.d_in, ctx, raw, x: &mut self.x, bad: &mut self.bad };
        let first = self.filled;
        self.filled += dense.fill(column(activation)?, first).map_err(|e| e.field(&self.layout.name))?;
        for (index, companion) in &mut self.companions {
            companion.push(column(*index)?, ctx, first)?;
        }
        Ok(())
    }

    fn finish(mut self, on_bad: OnBad, contexts: impl Fn() -> (i64, u64)) -> Result<Decoded> {
        if self.filled != self.rows {
            let (rows, filled) = (self.rows, self.filled);
            return Err(shield::nonsense(&format!("it claims {rows} rows and holds {filled}")));
        }
        let mut tokens = self.context_tokens(contexts);
        for (_, companion) in std::mem::take(&mut self.companions) {
            companion.finish(&mut tokens, &mut self.bad)?;
        }
        if on_bad == OnBad::Fail
            && let Some((row, reason)) = self.bad.first()
        {
            return Err(self.bad_row(row, reason));
        }
        let bad = self.bad.into_vec();
        bad.iter().for_each(|(row, _)| self.x[row * self.d_in..(row + 1) * self.d_in].fill(0.0));
        Ok(Decoded { rows: self.rows, x: self.x, tokens, bad })
    }

    /// A context gives its tokens a position and a sequence; columns of these names win.
    fn context_tokens(&self, contexts: impl Fn() -> (i64, u64)) -> Tokens {
        let Some(ctx) = self.layout.ctx else { return Tokens::default() };
        let (base, context) = contexts();
        let (pos, seq_id) = context_ids(self.rows, ctx, base, context);
        Tokens { pos: Some(pos), seq_id: Some(seq_id), ..Tokens::default() }
    }

    fn bad_row(&self, row: usize, reason: &str) -> Error {
        let error = Error::data(reason)
            .row(row)
            .hint("repair the row, or set on_bad = \"quarantine\" to leave it out");
        if reason.ends_with("activation") { error.field(&self.layout.name) } else { error }
    }
}
