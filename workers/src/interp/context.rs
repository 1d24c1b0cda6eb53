//! Contexts: windows of consecutive rows of one sequence, cut so that shards and blocks do not matter.

use crate::{
    random::{hash, mix, unit},
    stats::{RowSplit, Tokens},
};

/// Streams of random numbers, so that draws for different purposes are independent.
const CONTEXT_STREAM: u64 = 0x636f_6e74_6578_7401;
const SPLIT_STREAM: u64 = 0x7370_6c69_7400_0002;
const ROW_STREAM: u64 = 0x726f_7700_0000_0003;

/// Which side of the explain/score border a context lies on. A hash of its content key decides, before
/// anything is ranked or sliced, so that no context can serve both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Split {
    /// May be shown to the explainer.
    Explain,
    /// Kept back to score explanations.
    Score,
}

impl Split {
    /// Both.
    pub const ALL: [Split; 2] = [Split::Explain, Split::Score];

    /// The word in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Split::Explain => "explain",
            Split::Score => "score",
        }
    }

    /// The split with this name.
    pub fn from_name(name: &str) -> Option<Split> {
        Split::ALL.into_iter().find(|split| split.name() == name)
    }

    /// The split of the context (seq, start).
    pub fn of(seed: u64, seq: i64, start: i64, score_share: f64) -> Split {
        let draw = unit(hash(&[seed, SPLIT_STREAM, seq as u64, start as u64]));
        if draw < score_share { Split::Score } else { Split::Explain }
    }
}

/// One code pair of a context: which latent fires on which of its tokens, how strongly.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Pair {
    pub(crate) latent: u32,
    pub(crate) offset: u16,
    pub(crate) value: f32,
}

/// Tokens and provenance of one context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) first_row: u64,
    pub(crate) row_group: u32,
    pub(crate) row_in_group: u64,
    pub(crate) seq: i64,
    pub(crate) start: i64,
    pub(crate) seq_id: Option<i64>,
    pub(crate) doc_id: Option<i64>,
    pub(crate) pos: Option<i32>,
    pub(crate) rows: u32,
    pub(crate) has_ids: bool,
    pub(crate) token_ids: Vec<i32>,
    pub(crate) has_text: bool,
    /// Texts one after the other; `text_ends[i]` is where text i ends.
    pub(crate) text: String,
    pub(crate) text_ends: Vec<u32>,
    pub(crate) dropped: Vec<u32>,
}

/// The context being filled, its codes, and what was last seen.
#[derive(Debug)]
pub(crate) struct Cutter {
    shard: u32,
    seed: u64,
    context_tokens: u32,
    pub(crate) context: Context,
    pub(crate) pairs: Vec<Pair>,
    pub(crate) kept: u32,
    /// Hash of the content key of the open context.
    pub(crate) hash: u64,
    last: Option<Row>,
    /// Rows of the current sequence before the next one, where there are no positions.
    in_sequence: i64,
    group: (u32, u64),
}

/// What decides whether a row continues a context.
#[derive(Debug, Clone, Copy)]
struct Row {
    row: u64,
    row_group: u32,
    seq_id: Option<i64>,
    doc_id: Option<i64>,
    pos: Option<i32>,
}

impl Row {
    fn of(tokens: &Tokens<'_>, at: usize) -> Row {
        Row {
            row: tokens.first_row + at as u64,
            row_group: tokens.row_group,
            seq_id: tokens.seq_id.map(|c| c[at]),
            doc_id: tokens.doc_id.map(|c| c[at]),
            pos: tokens.pos.map(|c| c[at]),
        }
    }

    /// Whether `self` comes right after `last` in the same text.
    fn follows(&self, last: &Row) -> bool {
        let anonymous = self.seq_id.is_none() && self.doc_id.is_none() && self.pos.is_none();
        let position = match (last.pos, self.pos) {
            // A sequence may have lost tokens upstream (BOS, padding): a gap is not a border.
            (Some(a), Some(b)) if self.seq_id.is_some() => b > a,
            (Some(a), Some(b)) => i64::from(b) == i64::from(a) + 1,
            _ => true,
        };
        self.row == last.row + 1
            && self.seq_id == last.seq_id
            && self.doc_id == last.doc_id
            && position
            && !(anonymous && self.row_group != last.row_group)
    }
}

impl Cutter {
    pub(crate) fn new(shard: u32, seed: u64, context_tokens: usize) -> Self {
        Cutter {
            shard,
            seed,
            context_tokens: context_tokens.clamp(1, usize::from(u16::MAX)) as u32,
            context: Context::default(),
            pairs: Vec::new(),
            kept: 0,
            hash: 0,
            last: None,
            in_sequence: 0,
            group: (u32::MAX, 0),
        }
    }

    /// Whether row `at` of `tokens` begins a new context; the open one must then be closed first.
    pub(crate) fn begins(&self, tokens: &Tokens<'_>, at: usize) -> bool {
        let row = Row::of(tokens, at);
        let Some(last) = &self.last else { return true };
        let window = |pos: i32| pos.div_euclid(self.context_tokens as i32);
        let next_window = matches!((last.pos, row.pos), (Some(a), Some(b)) if window(a) != window(b));
        self.context.rows == self.context_tokens || next_window || !row.follows(last)
    }

    /// Opens a context at row `at` of `tokens`, forgetting the open one.
    pub(crate) fn open(&mut self, tokens: &Tokens<'_>, at: usize) {
        let row = Row::of(tokens, at);
        let same_sequence =
            self.last.is_some_and(|last| last.seq_id == row.seq_id && last.row + 1 == row.row);
        if !same_sequence {
            self.in_sequence = 0;
        }
        let seq = row.seq_id.unwrap_or(i64::from(self.shard));
        let start = match (row.seq_id, row.pos) {
            (None, _) => row.row as i64,
            (Some(_), Some(pos)) => i64::from(pos),
            (Some(_), None) => self.in_sequence,
        };
        self.hash = hash(&[self.seed, CONTEXT_STREAM, seq as u64, start as u64]);
        self.begin(tokens, &row, seq, start);
    }

    fn begin(&mut self, tokens: &Tokens<'_>, row: &Row, seq: i64, start: i64) {
        self.pairs.clear();
        self.kept = 0;
        let context = &mut self.context;
        context.token_ids.clear();
        context.text.clear();
        context.text_ends.clear();
        context.dropped.clear();
        (context.first_row, context.row_group) = (row.row, row.row_group);
        context.row_in_group = row.row - self.group.1;
        (context.seq, context.start, context.rows) = (seq, start, 0);
        (context.seq_id, context.doc_id, context.pos) = (row.seq_id, row.doc_id, row.pos);
        (context.has_ids, context.has_text) = (tokens.token_id.is_some(), tokens.token.is_some());
    }

    /// Notes which row group the coming rows lie in.
    pub(crate) fn enter(&mut self, tokens: &Tokens<'_>) {
        if self.group.0 != tokens.row_group {
            self.group = (tokens.row_group, tokens.first_row);
        }
    }

    /// Adds row `at` of `tokens` to the open context.
    pub(crate) fn push(&mut self, tokens: &Tokens<'_>, at: usize) {
        let offset = self.context.rows;
        if let Some(ids) = tokens.token_id {
            self.context.token_ids.push(ids[at]);
        }
        if let Some(texts) = tokens.token {
            self.push_text(texts, at);
        }
        if tokens.split[at].kept() {
            self.kept += 1;
        } else {
            self.context.dropped.push(offset);
        }
        self.context.rows += 1;
        self.in_sequence += 1;
        self.last = Some(Row::of(tokens, at));
    }

    /// Adds the codes of the row to be pushed next, which is kept.
    pub(crate) fn take(&mut self, latents: &[u32], values: &[f32]) {
        let offset = self.context.rows as u16;
        let pairs = latents.iter().zip(values);
        self.pairs.extend(pairs.map(|(&latent, &value)| Pair { latent, offset, value }));
    }

    fn push_text(&mut self, texts: &arrow::array::StringArray, at: usize) {
        if !arrow::array::Array::is_null(texts, at) {
            self.context.text.push_str(texts.value(at));
        }
        self.context.text_ends.push(self.context.text.len() as u32);
    }

    /// Whether the row to be pushed next belongs to the co-activation sample. A function of the content
    /// key and the place in the context: resharding does not change the sample.
    pub(crate) fn sampled(&self, split: RowSplit, rate: f64) -> bool {
        let row = mix(self.hash ^ mix(ROW_STREAM ^ u64::from(self.context.rows)));
        split.kept() && unit(row) < rate
    }
}
