//! Bytes of one row group → rows.

use arrow::array::{ArrayRef, RecordBatch, StringArray};

use super::{
    Fetched, OnBad, Shard,
    asked::ValueKind,
    bad_rows::BadRows,
    companions::{Companion, context_ids},
    dense::Dense,
    fetch::Parts,
    labels::Labels,
    layout::{Layout, Role},
    parquet,
    plain::PlainColumn,
    reader::Format,
    shield,
};
use crate::error::{Error, Result};

/// The rows of one row group, decoded: activations as one dense block, the rest as columns.
#[derive(Debug, Clone, Default)]
pub struct Decoded {
    /// Number of rows.
    pub rows: usize,
    /// Values, row-major `[rows, width]`: those of the columns in use, one after the other; rows listed
    /// in `bad` hold zeros.
    pub x: Vec<f32>,
    /// The columns beside them.
    pub tokens: Tokens,
    /// Rows that hold no usable vector (null, NaN, Inf), ascending, with the reason.
    pub bad: Vec<(usize, &'static str)>,
}

/// Optional columns of a block of rows; each is either absent or as long as the block.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "named after the columns of `Columns`")]
pub struct Tokens {
    pub token_id: Option<Vec<i32>>,
    pub token: Option<StringArray>,
    pub doc_id: Option<Vec<i64>>,
    pub seq_id: Option<Vec<i64>>,
    pub pos: Option<Vec<i32>>,
}

impl Tokens {
    /// The columns at `rows` alone, ascending.
    pub(crate) fn take(&self, rows: &[usize]) -> Tokens {
        fn some<T: Copy>(column: &Option<Vec<T>>, rows: &[usize]) -> Option<Vec<T>> {
            column.as_ref().map(|column| rows.iter().map(|row| column[*row]).collect())
        }
        let text = |text: &StringArray| rows.iter().map(|row| Some(text.value(*row))).collect();
        Tokens {
            token_id: some(&self.token_id, rows),
            token: self.token.as_ref().map(text),
            doc_id: some(&self.doc_id, rows),
            seq_id: some(&self.seq_id, rows),
            pos: some(&self.pos, rows),
        }
    }
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
    // Whatever keeps the short way from its end, the ordinary reader has the last word.
    match shield::run(|| taken_whole(shard, row_group, &fetched, want)) {
        Ok(Some(decoded)) => Ok(decoded),
        _ => ordinarily(shard, row_group, fetched, want),
    }
}

/// Decodes one row group by the readers of the Parquet and Arrow crates alone.
pub fn ordinarily(shard: &Shard, row_group: usize, fetched: Fetched, want: Want) -> Result<Decoded> {
    let decoded = shield::run(|| rows(shard, row_group, fetched, want));
    decoded.map_err(|e| e.object(&shard.url).row_group(row_group))
}

fn rows(shard: &Shard, row_group: usize, fetched: Fetched, want: Want) -> Result<Decoded> {
    let wanted = wanted(&shard.reader.layout, want);
    let mut block = Block::new(shard, row_group, want, fetched.bytes())?;
    for batch in shard.reader.batches(row_group, fetched, &wanted, shard.d_in)? {
        block.push(&batch?, &wanted)?;
    }
    block.finish(want.on_bad, || shard.contexts_before(row_group))
}

/// The same rows with the activations taken page by page; `None` or an error where that cannot be.
pub(crate) fn taken_whole(
    shard: &Shard,
    row_group: usize,
    fetched: &Fetched,
    want: Want,
) -> Result<Option<Decoded>> {
    let (Format::Parquet(meta), Parts::Parquet(chunks)) = (&shard.reader.format, &fetched.parts) else {
        return Ok(None);
    };
    let layout = &shard.reader.layout;
    let Some(column) = PlainColumn::of(meta, layout, shard.d_in) else { return Ok(None) };
    let mut block = Block::new(shard, row_group, want, fetched.bytes())?;
    match column.read(meta, row_group, chunks, &mut block.x) {
        None => return Ok(None),
        Some(true) => (),
        Some(false) => {
            let rows = 0..block.rows;
            block.dense().mark_not_finite(rows);
        }
    }
    let mut wanted = wanted(layout, want);
    wanted.retain(|column| *column != layout.activation);
    if wanted.is_empty() {
        block.filled = block.rows;
    } else {
        for batch in parquet::batches(meta, row_group, &wanted, COMPANION_ROWS, chunks.clone())? {
            block.push_companions(&batch?, &wanted)?;
        }
    }
    block.finish(want.on_bad, || shard.contexts_before(row_group)).map(Some)
}

/// Rows of companions decoded at a time.
const COMPANION_ROWS: usize = 8192;

fn wanted(layout: &Layout, want: Want) -> Vec<usize> {
    let mut wanted = layout.wanted(want.token_text);
    wanted.sort_unstable();
    wanted.dedup();
    wanted
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
    fn new(shard: &'a Shard, row_group: usize, want: Want, stored: u64) -> Result<Block<'a>> {
        let (layout, d_in) = (&shard.reader.layout, shard.d_in);
        let rows = shard.row_groups[row_group].rows;
        shield::plausible(rows.saturating_mul(4 * d_in as u64), stored)?;
        let rows = rows as usize;
        let read = |(role, _): &&(Role, usize)| want.token_text || *role != Role::Token;
        let companions = layout.columns.iter().filter(read).map(|(role, c)| (*c, Companion::new(*role)));
        let companions = companions.collect();
        // Fresh zeroed memory costs nothing until it is written.
        let x = vec![0.0; rows * d_in];
        Ok(Block { layout, d_in, rows, filled: 0, x, bad: BadRows::default(), companions })
    }

    fn dense(&mut self) -> Dense<'_> {
        let Layout { ctx, raw, .. } = *self.layout;
        Dense { d_in: self.d_in, ctx, raw, x: &mut self.x, bad: &mut self.bad }
    }

    fn labels(&mut self) -> Labels<'_> {
        Labels { width: self.d_in, ctx: self.layout.ctx, out: &mut self.x }
    }

    fn push(&mut self, batch: &RecordBatch, wanted: &[usize]) -> Result<()> {
        let (layout, first) = (self.layout, self.filled);
        let activation = column(batch, wanted, layout.activation)?;
        let filled = match layout.kind {
            ValueKind::Vectors => self.dense().fill(activation, first),
            ValueKind::Labels => self.labels().fill(activation, first),
        };
        let rows = filled.map_err(|e| e.field(&layout.name))?;
        self.push_companions(batch, wanted)?;
        self.filled = first + rows;
        Ok(())
    }

    fn push_companions(&mut self, batch: &RecordBatch, wanted: &[usize]) -> Result<()> {
        for (index, companion) in &mut self.companions {
            companion.push(column(batch, wanted, *index)?, self.layout.ctx, self.filled)?;
        }
        self.filled += batch.num_rows();
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

fn column<'a>(batch: &'a RecordBatch, wanted: &[usize], index: usize) -> Result<&'a ArrayRef> {
    match wanted.binary_search(&index) {
        Ok(rank) => Ok(batch.column(rank)),
        Err(_) => Err(Error::bug("a column was not asked for")),
    }
}
