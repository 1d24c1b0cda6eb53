//! Partials: what one shard contributes, as immutable tables of integers and bounded samples.
//!
//! Totals are built from partials and from nothing else, so a shard is added with `+partial` and
//! taken away with `−partial`. `schemas/README.md`, "Partials", is the normative text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};

use crate::table::field;

/// Version of all partials together; a reader refuses versions it does not know.
pub const PARTIAL_VERSION: i32 = 1;

/// Bins of the log histogram of activations.
pub const HISTOGRAM_BINS: usize = 40;

/// Lower edge of histogram bin 0, as a power of two of the value unit (see README, "Histogram").
pub const HISTOGRAM_LOW_LOG2: i32 = -14;

/// The kinds of partial; each is one Parquet object per shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Partial {
    /// Integer sums per latent, one row for each latent that fired.
    Latents,
    /// Integer sums per split.
    Quality,
    /// Co-firing counts of pairs `i < j`.
    Pairs,
    /// Bounded samples of active contexts per latent.
    Samples,
    /// A bounded uniform sample of contexts with all their codes.
    Pool,
    /// Tokens and provenance of every context that `samples` or `pool` refers to.
    Contexts,
}

impl Partial {
    /// All kinds, in the order in which they are written.
    pub const ALL: [Partial; 6] = [
        Partial::Latents,
        Partial::Quality,
        Partial::Pairs,
        Partial::Samples,
        Partial::Pool,
        Partial::Contexts,
    ];

    /// The name in object names and metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Partial::Latents => "latents",
            Partial::Quality => "quality",
            Partial::Pairs => "pairs",
            Partial::Samples => "samples",
            Partial::Pool => "pool",
            Partial::Contexts => "contexts",
        }
    }

    /// The kind with this name.
    pub fn from_name(name: &str) -> Option<Partial> {
        Partial::ALL.into_iter().find(|p| p.name() == name)
    }

    /// The Arrow schema.
    pub fn schema(self) -> Schema {
        let fields = match self {
            Partial::Latents => latents(),
            Partial::Quality => quality(),
            Partial::Pairs => pairs(),
            Partial::Samples => samples(),
            Partial::Pool => pool(),
            Partial::Contexts => contexts(),
        };
        let metadata = [("partial", self.name().to_owned()), ("version", PARTIAL_VERSION.to_string())];
        Schema::new(fields).with_metadata(metadata.map(|(k, v)| (format!("atomflow.{k}"), v)))
    }

    /// Rows per Parquet row group: small where readers ask for a range of latents.
    pub const fn row_group_rows(self) -> usize {
        match self {
            Partial::Latents => 1024,
            // Every column of a row group sets up a compressor of its own, which costs as much as
            // compressing some ten thousand values.
            Partial::Pairs => 262_144,
            Partial::Samples => 32_768,
            Partial::Quality | Partial::Pool | Partial::Contexts => 1024,
        }
    }
}

/// A list whose items are never null; items are called `element`, as Parquet has it.
pub fn list_of(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("element", item, false)))
}

fn int64(name: &str, comment: &str) -> Field {
    field(name, DataType::Int64, false, comment)
}

fn int32(name: &str, comment: &str) -> Field {
    field(name, DataType::Int32, false, comment)
}

fn exponents() -> [Field; 2] {
    [
        int32("value_log2", "value = q * 2^-value_log2 for sums of values"),
        int32("square_log2", "value = q * 2^-square_log2 for sums of squares and products in this table"),
    ]
}

fn latents() -> Vec<Field> {
    let mut fields = vec![
        int32("latent", "latent, ascending; latents that never fired have no row"),
        int64("fires", "kept rows on which the latent fired"),
        int64("contexts_with_fire", "contexts with at least one such row"),
        int64("sum", "fixed-point sum of activations (signed)"),
        int64("sum_sq", "fixed-point sum of squared activations"),
        field("max", DataType::Float32, false, "largest magnitude of an activation"),
        field(
            "histogram",
            list_of(DataType::Int64),
            false,
            "fires per half-octave bin of magnitude, 40 bins; see README, Histogram",
        ),
        int64("fires_sampled", "kept rows of the co-activation sample on which the latent fired"),
    ];
    fields.extend(exponents());
    fields
}

fn quality() -> Vec<Field> {
    let mut fields = vec![
        field("split", DataType::Utf8, false, "train, heldout, dropped or heldout_encoder"),
        int64("rows", "rows of the split"),
        int64("nnz", "code pairs on these rows"),
        int64("sum_error_sq", "fixed-point sum of |x - x_hat|^2 (square_log2)"),
        int64("sum_x_sq", "fixed-point sum of |x|^2 (square_log2)"),
        int64("sum_x_dot_x_hat", "fixed-point sum of x . x_hat (square_log2)"),
        int64("sum_x_hat_sq", "fixed-point sum of |x_hat|^2 (square_log2)"),
        int64("sum_cosine", "fixed-point sum of cos(x, x_hat) at 2^30; 0 where a norm is 0"),
        field("sum_x", list_of(DataType::Int64), false, "fixed-point sum of x per dimension (value_log2)"),
        int64("rows_sampled", "rows of the co-activation sample"),
        int64("contexts", "contexts with a kept row; on the train row only, all splits together"),
    ];
    fields.extend(exponents());
    fields
}

fn pairs() -> Vec<Field> {
    vec![
        int32("latent", "the smaller latent, ascending"),
        int32("neighbour", "the larger latent, ascending inside latent"),
        int64("n_both", "rows of the co-activation sample on which both fired"),
    ]
}

fn context_key() -> [Field; 3] {
    [
        int64("context", "row of the shard at which the context begins: its identity in the shard"),
        int64("seq", "seq_id, or the shard's number where the data has none; half of the content key"),
        int64("start", "position (or row) at which the context begins; the other half"),
    ]
}

fn samples() -> Vec<Field> {
    let mut fields = vec![
        int32("latent", "latent, ascending"),
        field("list", DataType::Utf8, false, "top, uniform or importance"),
        field("split", DataType::Utf8, false, "explain or score"),
        int64("order", "what the list keeps the smallest of (non-negative); see README, Sampling"),
    ];
    fields.extend(context_key());
    fields.extend([
        field("offsets", list_of(DataType::Int32), false, "tokens of the context on which the latent fires"),
        field("values", list_of(DataType::Float32), false, "its activation on those tokens"),
    ]);
    fields
}

fn pool() -> Vec<Field> {
    let mut fields = vec![
        field("split", DataType::Utf8, false, "explain or score"),
        int64("order", "hash of the content key"),
    ];
    fields.extend(context_key());
    fields.extend([
        field("latents", list_of(DataType::Int32), false, "latent of each code pair, ascending"),
        field(
            "offsets",
            list_of(DataType::Int32),
            false,
            "token of each code pair, ascending inside a latent",
        ),
        field("values", list_of(DataType::Float32), false, "activation of each code pair"),
    ]);
    fields
}

fn contexts() -> Vec<Field> {
    let mut fields = context_key().to_vec();
    fields.extend([
        int32("rows", "tokens in the context"),
        int32("row_group", "row group of the first row"),
        int64("row_in_group", "first row, counted from the start of that row group"),
        field("seq_id", DataType::Int64, true, "sequence; null where the data has none"),
        field("doc_id", DataType::Int64, true, "document; null where the data has none"),
        field("pos", DataType::Int32, true, "position of the first token; null where the data has none"),
        field("token_ids", list_of(DataType::Int32), true, "token ids; null where the data has none"),
        field("str_tokens", list_of(DataType::Utf8), true, "token texts; null where the data has none"),
        field(
            "dropped",
            list_of(DataType::Int32),
            false,
            "tokens left out by the row filters (activation 0)",
        ),
    ]);
    fields
}
