//! The published tables: one function per table, one list of them all.
//!
//! Types come from the list that DuckDB, Spark, Sail and Polars all read: int32, int64, float32,
//! float64, utf8, bool, struct and lists of those. `schemas/README.md` is the normative text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema};

use crate::partial::list_of;

/// One published table.
#[derive(Debug, Clone, Copy)]
pub struct Table {
    /// Name of its directory and in SQL.
    pub name: &'static str,
    /// Goes up when a column changes meaning, type or name; added columns keep it.
    pub version: i32,
    /// What one row is.
    pub row: &'static str,
    fields: fn() -> Vec<Field>,
}

impl Table {
    /// The Arrow schema; field comments are in field metadata, key `comment`.
    pub fn schema(&self) -> Schema {
        let metadata = [("table", self.name.to_owned()), ("version", self.version.to_string())];
        Schema::new((self.fields)()).with_metadata(metadata.map(|(k, v)| (format!("atomflow.{k}"), v)))
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $constant:ident = $name:ident v $version:literal: $row:literal;)*) => {
        $($(#[$doc])* pub const $constant: Table =
            Table { name: stringify!($name), version: $version, row: $row, fields: $name };)*
        /// Every published table.
        pub const TABLES: &[Table] = &[$($constant),*];
    };
}

tables! {
    /// What a person reads about a latent.
    FEATURES = features v 1: "one latent of the dictionary";
    /// How often and how strongly a latent fires.
    ACTIVATION_STATS = activation_stats v 1: "one latent of the dictionary";
    /// Which latents fire together.
    COACTIVATIONS = coactivations v 1: "one (latent, neighbour), the top neighbours of each latent";
    /// Examples to explain a latent from and to score the explanation on.
    AUTOINTERP_CANDIDATES = autointerp_candidates v 1: "one example of one latent";
    /// How learning went.
    TRAIN_METRICS = train_metrics v 1: "one reported step";
    /// Where a feature's identity comes from.
    FEATURE_LINEAGE = feature_lineage v 1: "one event in the life of a feature";
    /// What was read.
    SHARDS = shards v 1: "one shard of the input";
    /// What each operator handled.
    OPERATOR_STATS = operator_stats v 1: "one operator in one phase";
    /// How good the dictionary is.
    QUALITY = quality v 1: "one split of the rows";
}

/// The table with this name.
pub fn by_name(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

/// A field with its comment.
pub fn field(name: &str, data_type: DataType, nullable: bool, comment: &str) -> Field {
    Field::new(name, data_type, nullable).with_metadata([("comment", comment)])
}

/// A schema as text: one line per field. Golden files hold it, so a change cannot go unseen.
pub fn render(schema: &Schema) -> String {
    let line = |f: &Arc<Field>| {
        let null = if f.is_nullable() { "null" } else { "required" };
        let comment = f.metadata().get("comment").map_or("", String::as_str);
        format!("{} | {} | {null} | {comment}\n", f.name(), type_name(f.data_type()))
    };
    schema.fields().iter().map(line).collect()
}

fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::List(item) => format!("list<{}>", type_name(item.data_type())),
        DataType::Struct(fields) => {
            let parts: Vec<_> =
                fields.iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
            format!("struct<{}>", parts.join(", "))
        }
        plain => format!("{plain}").to_lowercase(),
    }
}

fn required(name: &str, data_type: DataType, comment: &str) -> Field {
    field(name, data_type, false, comment)
}

fn nullable(name: &str, data_type: DataType, comment: &str) -> Field {
    field(name, data_type, true, comment)
}

fn run_id() -> Field {
    required("run_id", DataType::Utf8, "run that wrote the row")
}

fn latent() -> Field {
    required("latent", DataType::Int32, "index in the dictionary, from 0")
}

/// The fields of one item of `features.nearest`.
pub fn nearest_fields() -> Fields {
    Fields::from(vec![
        Field::new("latent", DataType::Int32, false),
        Field::new("cosine", DataType::Float32, false),
    ])
}

fn features() -> Vec<Field> {
    use DataType::{Boolean, Float32, Float64, Int32, Int64, Struct, Utf8};
    vec![
        run_id(),
        required(
            "feature_id",
            Int64,
            "identity of the feature across runs, non-negative; see feature_lineage",
        ),
        latent(),
        nullable("hookpoint", Utf8, "site in the model, as the job spec names it; null if it does not"),
        nullable("k", Int32, "latents per row by construction; null if the learner fixes none"),
        required("density", Float64, "fires / kept rows"),
        nullable(
            "encoder_norm",
            Float32,
            "L2 norm of the encoder direction, input units; null without a linear encoder",
        ),
        nullable(
            "encoder_bias",
            Float32,
            "bias before the threshold, input units; null without a linear encoder",
        ),
        required(
            "decoder",
            list_of(Float32),
            "atom: the decoder row, unit norm unless the learner leaves it free",
        ),
        required("max_activation", Float32, "largest magnitude on kept rows, 0 if it never fired"),
        required(
            "nearest",
            list_of(Struct(nearest_fields())),
            "other latents by decoder cosine, nearest first",
        ),
        required("dead", Boolean, "never fired on a kept row of this harvest"),
    ]
}

fn activation_stats() -> Vec<Field> {
    use DataType::{Float32, Float64, Int32, Int64, Utf8};
    vec![
        run_id(),
        latent(),
        required("fires", Int64, "kept rows on which it fired"),
        required("rows", Int64, "kept rows"),
        required("contexts_with_fire", Int64, "contexts with a kept row on which it fired"),
        required("contexts", Int64, "contexts with a kept row"),
        required("density", Float64, "fires / rows"),
        required("context_density", Float64, "contexts_with_fire / contexts"),
        required("sum", Int64, "fixed-point sum of activations: sum * 2^-value_log2"),
        required("sum_sq", Int64, "fixed-point sum of squares: sum_sq * 2^-square_log2"),
        required("value_log2", Int32, "exponent of sum"),
        required("square_log2", Int32, "exponent of sum_sq"),
        nullable("mean", Float64, "mean activation where it fired; null if it never did"),
        nullable("std", Float64, "population standard deviation where it fired; null if it never did"),
        required("max", Float32, "largest magnitude, 0 if it never fired"),
        required("histogram", list_of(Int64), "fires per half-octave bin of magnitude, 40 bins"),
        required("histogram_low", Float64, "lower edge of bin 0; edge of bin b is low * 2^(b/2)"),
        required("fires_sampled", Int64, "rows of the co-activation sample on which it fired"),
        nullable("first_shard", Utf8, "URL of the first shard (plan order) in which it fired; null if never"),
        nullable("last_shard", Utf8, "URL of the last shard (plan order) in which it fired; null if never"),
    ]
}

fn coactivations() -> Vec<Field> {
    use DataType::{Float64, Int32, Int64};
    vec![
        run_id(),
        latent(),
        required("neighbour", Int32, "the other latent"),
        required("rank", Int32, "from 0: by jaccard, then n_both, then smaller neighbour"),
        required("n_both", Int64, "sampled rows on which both fired, at least 2"),
        required("n_latent", Int64, "sampled rows on which the latent fired"),
        required("n_neighbour", Int64, "sampled rows on which the neighbour fired"),
        required("jaccard", Float64, "n_both / (n_latent + n_neighbour - n_both)"),
        required("tokens_sampled", Int64, "rows of the co-activation sample"),
    ]
}

fn autointerp_candidates() -> Vec<Field> {
    use DataType::{Float32, Int32, Int64, Utf8};
    vec![
        run_id(),
        latent(),
        nullable("hookpoint", Utf8, "site in the model, as the job spec names it"),
        required("split", Utf8, "explain (may be shown to the explainer) or score"),
        required("kind", Utf8, "top, quantile, importance, random_active, random_inactive or hard_negative"),
        nullable("slice_index", Int32, "quantile only: 0 is the strongest slice"),
        required("rank", Int32, "from 0 inside (latent, split, kind) or, for quantile, inside the slice"),
        nullable("seq_id", Int64, "sequence; null where the data has none"),
        nullable("doc_id", Int64, "document; null where the data has none"),
        required(
            "start",
            Int64,
            "place of the first token in its sequence; without seq_id, its row in the shard",
        ),
        nullable("pos", Int32, "position of the first token as the data has it; null where it has none"),
        required("tokens", Int32, "length of the context"),
        nullable("token_ids", list_of(Int32), "token ids; null where the data has none"),
        nullable("str_tokens", list_of(Utf8), "token texts; null where the data has none"),
        required("activations", list_of(Float32), "activation of the latent on every token"),
        required("max_act", Float32, "largest magnitude in the context, 0 for inactive kinds"),
        nullable("peak_pos", Int32, "token (from 0) with the largest magnitude; null for inactive kinds"),
        required("latent_max", Float32, "largest magnitude of the latent anywhere"),
        required(
            "dropped",
            list_of(Int32),
            "tokens (from 0) left out by the row filters; their activation is 0",
        ),
        nullable("neighbour_latent", Int32, "hard_negative only: the co-firing latent"),
        nullable(
            "neighbour_activations",
            list_of(Float32),
            "hard_negative only: its activation on every token",
        ),
        required("shard", Utf8, "URL of the shard"),
        required("row_group", Int32, "row group (or record batch) of the first token"),
        required("row_in_group", Int64, "row of the first token in that row group"),
        required("row", Int64, "row of the first token in the shard"),
        required("seed", Int64, "seed of every draw (two's complement of the job's seed)"),
    ]
}

fn train_metrics() -> Vec<Field> {
    use DataType::{Float64, Int64};
    vec![
        run_id(),
        required("step", Int64, "optimizer step, from 1"),
        required("window", Int64, "window of the plan the step belongs to"),
        required("tokens", Int64, "rows learned from so far, over all passes"),
        required("fvu", Float64, "FVU of the step's batch before the update (prequential)"),
        required("l0", Float64, "mean latents per row of the batch"),
        required("dead", Int64, "dead latents after the step"),
        required("loss", Float64, "total loss"),
        required("aux_loss", Float64, "the auxiliary part of it, already weighted"),
        required("lr", Float64, "learning rate of the step"),
    ]
}

fn feature_lineage() -> Vec<Field> {
    use DataType::{Float64, Int32, Int64, Utf8};
    vec![
        required("feature_id", Int64, "identity of the feature, non-negative"),
        run_id(),
        required("latent", Int32, "its index in that run's dictionary"),
        nullable("parent_feature_id", Int64, "feature it continues or splits from; null when born"),
        nullable("cosine", Float64, "decoder cosine with the parent; null when born"),
        nullable("jaccard", Float64, "co-firing Jaccard with the parent; null when born or not measured"),
        required("event", Utf8, "born; later versions add continued, split, merged, died"),
    ]
}

fn shards() -> Vec<Field> {
    use DataType::{Int64, Utf8};
    vec![
        run_id(),
        required("url", Utf8, "the object"),
        required("size_bytes", Int64, "its size"),
        required("rows", Int64, "rows in its footer; 0 if it could not be read"),
        required("row_groups", Int64, "row groups or record batches"),
        required("kept_train", Int64, "rows that trained and count"),
        required("heldout", Int64, "rows that never trained and count"),
        required("dropped_pos", Int64, "rows left out by position"),
        required("dropped_token_id", Int64, "rows left out by token id"),
        required("dropped_norm", Int64, "rows left out by norm"),
        required("bad_rows", Int64, "rows without a usable vector (only under quarantine)"),
        required("status", Utf8, "read or quarantined"),
        nullable("reason", Utf8, "why it was quarantined, one sentence"),
    ]
}

fn operator_stats() -> Vec<Field> {
    use DataType::{Int64, Utf8};
    vec![
        run_id(),
        required("operator", Utf8, "name of the operator"),
        required("phase", Utf8, "train or harvest"),
        required("rows", Int64, "rows it handled"),
        required("bytes", Int64, "bytes it handled"),
        required("blocks", Int64, "blocks it handled"),
    ]
}

fn quality() -> Vec<Field> {
    use DataType::{Float64, Int32, Int64, Utf8};
    vec![
        run_id(),
        required(
            "split",
            Utf8,
            "train, heldout, dropped, kept (train + heldout) or all (the three together); heldout_encoder",
        ),
        required("rows", Int64, "rows"),
        nullable("fvu", Float64, "sum |x - x_hat|^2 / sum |x - mean x|^2; null where undefined"),
        nullable("l0", Float64, "nnz / rows; null without rows"),
        nullable("cosine", Float64, "mean cos(x, x_hat); null without rows"),
        nullable("relative_reconstruction_bias", Float64, "E|x_hat|^2 / E[x . x_hat]; null where undefined"),
        required("nnz", Int64, "code pairs"),
        required("sum_error_sq", Int64, "fixed point, square_log2"),
        required("sum_x_sq", Int64, "fixed point, square_log2"),
        required("sum_x_dot_x_hat", Int64, "fixed point, square_log2"),
        required("sum_x_hat_sq", Int64, "fixed point, square_log2"),
        required("sum_cosine", Int64, "fixed point, 2^30"),
        required("sum_x", list_of(Int64), "fixed point per dimension, value_log2"),
        required("value_log2", Int32, "exponent of sum_x"),
        required("square_log2", Int32, "exponent of the squares and products"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partial::Partial;

    /// Compares with `schemas/golden/`; run with `ATOMFLOW_BLESS=1` after a deliberate change.
    fn compare(name: &str, text: &str) {
        let path = format!("{}/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
        #[allow(clippy::disallowed_methods, reason = "a person asks for new golden files, in a test")]
        if std::env::var("ATOMFLOW_BLESS").is_ok() {
            std::fs::write(&path, text).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), text, "{path}");
    }

    #[test]
    fn tables_and_partials_are_as_the_golden_files_say() {
        for table in TABLES {
            compare(&format!("{}.v{}", table.name, table.version), &render(&table.schema()));
        }
        for partial in Partial::ALL {
            let name = format!("partial.{}.v{}", partial.name(), crate::partial::PARTIAL_VERSION);
            compare(&name, &render(&partial.schema()));
        }
    }

    fn safe(data_type: &DataType) -> bool {
        use DataType::{Boolean, Float32, Float64, Int32, Int64, List, Struct, Utf8};
        match data_type {
            Boolean | Float32 | Float64 | Int32 | Int64 | Utf8 => true,
            List(item) => safe(item.data_type()),
            Struct(fields) => fields.iter().all(|f| safe(f.data_type())),
            _ => false,
        }
    }

    #[test]
    fn every_column_has_a_comment_and_a_type_every_reader_knows() {
        let schemas = TABLES.iter().map(Table::schema).chain(Partial::ALL.into_iter().map(Partial::schema));
        for schema in schemas {
            for field in schema.fields() {
                assert!(safe(field.data_type()), "{field}");
                assert!(field.metadata().contains_key("comment"), "{field}");
            }
        }
    }

    #[test]
    fn the_readme_names_every_column() {
        let readme = include_str!("../README.md");
        for table in TABLES {
            let section = readme.split(&format!("\n### `{}`", table.name)).nth(1).unwrap_or_default();
            let section = section.split("\n### ").next().unwrap_or_default();
            for field in table.schema().fields() {
                assert!(section.contains(&format!("`{}`", field.name())), "{}.{}", table.name, field.name());
            }
        }
    }
}
