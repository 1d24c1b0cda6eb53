//! Where in a file's schema the activations and their companions are, and how they are stored.

use arrow::datatypes::{DataType, Field, Metadata, Schema};

use super::{
    Columns, Dtype,
    asked::{ACTIVATION, Asked, Search, ValueKind},
    labels,
    manifest::Has,
};
use crate::error::{Error, Result};

/// The optional columns, by what they mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    TokenId,
    Token,
    DocId,
    SeqId,
    Pos,
}

impl Role {
    pub(crate) const ALL: [Role; 5] = [Role::TokenId, Role::Token, Role::DocId, Role::SeqId, Role::Pos];

    /// The name of the role, which is also the default name of its column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::TokenId => "token_id",
            Role::Token => "token",
            Role::DocId => "doc_id",
            Role::SeqId => "seq_id",
            Role::Pos => "pos",
        }
    }

    fn column(self, columns: &Columns) -> &str {
        match self {
            Role::TokenId => &columns.token_id,
            Role::Token => &columns.token,
            Role::DocId => &columns.doc_id,
            Role::SeqId => &columns.seq_id,
            Role::Pos => &columns.pos,
        }
    }

    fn takes(self, data_type: &DataType) -> bool {
        match self {
            Role::Token => is_text(data_type),
            _ => data_type.is_integer(),
        }
    }
}

/// How the vectors (or labels) of one shard are stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// Index of the activation column (or that of the labels) among the top-level columns.
    pub(crate) activation: usize,
    /// Its name.
    pub(crate) name: String,
    /// How its values are taken.
    pub(crate) kind: ValueKind,
    /// Element type of raw little-endian rows; lists say theirs in the Arrow type.
    pub(crate) raw: Option<Dtype>,
    /// Element type, however it is said.
    pub(crate) dtype: Dtype,
    /// Values per vector, where the schema says so (a plain `List` does not).
    pub(crate) d_in: Option<usize>,
    /// Vectors per row of the file: SAELens stores one context a row.
    pub(crate) ctx: Option<usize>,
    /// The optional columns that are there and usable, as indices of top-level columns.
    pub(crate) columns: Vec<(Role, usize)>,
    /// Columns that are there under the right name but unusable.
    pub(crate) notes: Vec<String>,
}

impl Layout {
    /// Finds what is searched in a schema. Errors name the field, not yet the object.
    pub(crate) fn search(schema: &Schema, search: &Search<'_>) -> Result<Layout> {
        let mut layout = match search.asked.kind {
            ValueKind::Vectors => Layout::vectors(schema, search.asked, search.dtype)?,
            ValueKind::Labels => Layout::labels(schema, search)?,
        };
        if let Some(columns) = search.companions {
            layout.find_optional(schema, columns);
        }
        Ok(layout)
    }

    /// One value or list per token: a label column lies as the vectors beside it do.
    fn labels(schema: &Schema, search: &Search<'_>) -> Result<Layout> {
        let index = named_column(schema, search.asked)?;
        let main = schema.fields().find(search.main).map(|(_, field)| Shape::of(field, ACTIVATION));
        let ctx = main.and_then(Result::ok).and_then(|shape| shape.ctx);
        let field = schema.field(index);
        let d_in = labels::width(field.data_type(), ctx).map_err(|e| e.field(field.name()))?;
        let (name, kind) = (field.name().clone(), ValueKind::Labels);
        let (raw, dtype, columns, notes) = (None, Dtype::F32, vec![], vec![]);
        Ok(Layout { activation: index, name, kind, raw, dtype, d_in, ctx, columns, notes })
    }

    fn vectors(schema: &Schema, asked: &Asked, dtype: Option<Dtype>) -> Result<Layout> {
        let activation = named_column(schema, asked)?;
        let field = schema.field(activation);
        let named = |e: Error| e.field(field.name());
        let shape = Shape::of(field, &asked.field).map_err(named)?;
        let raw = shape.width.map(|w| raw_dtype(w, dtype, &[field.metadata(), schema.metadata()]));
        let raw = raw.transpose().map_err(named)?;
        let d_in = match (shape.width, raw) {
            (Some(width), Some(raw)) => Some(raw_d_in(width, raw).map_err(named)?),
            _ => shape.d_in,
        };
        if d_in == Some(0) {
            return Err(named(Error::data("its vectors have no values")));
        }
        Ok(Layout {
            activation,
            name: field.name().clone(),
            kind: ValueKind::Vectors,
            raw,
            dtype: raw.unwrap_or(shape.dtype),
            d_in,
            ctx: shape.ctx,
            columns: vec![],
            notes: vec![],
        })
    }

    fn find_optional(&mut self, schema: &Schema, columns: &Columns) {
        for role in Role::ALL {
            let Some((index, field)) = optional_column(schema, role, columns, self.ctx) else { continue };
            let data_type = per_token(field.data_type(), self.ctx);
            if role.takes(data_type) {
                self.columns.push((role, index));
            } else {
                self.notes.push(format!(
                    "column `{}` is not used as {}: it is {data_type}",
                    field.name(),
                    role.name()
                ));
            }
        }
    }

    /// What this shard offers; a context gives every token a position and a sequence.
    pub(crate) fn has(&self) -> Has {
        let has = |role| self.columns.iter().any(|(r, _)| *r == role);
        let context = self.ctx.is_some();
        Has {
            token_id: has(Role::TokenId),
            token: has(Role::Token),
            doc_id: has(Role::DocId),
            seq_id: has(Role::SeqId) || context,
            pos: has(Role::Pos) || context,
        }
    }

    /// Forgets the columns that some other shard lacks, so that they are not fetched.
    pub(crate) fn restrict(&mut self, has: Has) {
        self.columns.retain(|(role, _)| match role {
            Role::TokenId => has.token_id,
            Role::Token => has.token,
            Role::DocId => has.doc_id,
            Role::SeqId => has.seq_id,
            Role::Pos => has.pos,
        });
    }

    /// Indices of the top-level columns to read, activation first.
    pub(crate) fn wanted(&self, token_text: bool) -> Vec<usize> {
        let optional = self.columns.iter().filter(|(role, _)| token_text || *role != Role::Token);
        std::iter::once(self.activation).chain(optional.map(|(_, index)| *index)).collect()
    }

    /// Vectors per row of the file.
    pub(crate) fn vectors_per_row(&self) -> usize {
        self.ctx.unwrap_or(1)
    }
}

/// What the type of the activation column says.
struct Shape {
    d_in: Option<usize>,
    ctx: Option<usize>,
    /// Bytes per vector, if they are raw bytes.
    width: Option<usize>,
    /// Element type, if they are lists.
    dtype: Dtype,
}

impl Shape {
    /// `asked` is the field of the spec that names the column.
    fn of(field: &Field, asked: &str) -> Result<Shape> {
        let data_type = field.data_type();
        if let DataType::FixedSizeBinary(width) = data_type {
            let width = Some(size(*width)?);
            return Ok(Shape { d_in: None, ctx: None, width, dtype: Dtype::F32 });
        }
        let (item, n) = list_item(data_type)?.ok_or_else(|| unusable(data_type, asked))?;
        match element(item) {
            Some(dtype) => Ok(Shape { d_in: n, ctx: None, width: None, dtype }),
            None => Shape::contexts(field, item.data_type(), n, asked),
        }
    }

    /// One row = one context: a list of vectors, with both lengths in the extension metadata of
    /// Hugging Face `datasets` (`[[ctx, d_in], "float32"]`) or in the types.
    fn contexts(field: &Field, inner: &DataType, n: Option<usize>, asked: &str) -> Result<Shape> {
        let unusable = || unusable(field.data_type(), asked);
        let (item, inner_n) = list_item(inner)?.ok_or_else(unusable)?;
        let dtype = element(item).ok_or_else(unusable)?;
        let said = field.metadata().get("ARROW:extension:metadata").and_then(|text| array_2d(text));
        let ctx = said.map(|s| s.0).or(n).filter(|ctx| *ctx > 0).ok_or_else(|| {
            Error::data("holds lists of vectors of unknown length")
                .hint("write it as FixedSizeList or with Array2D")
        })?;
        Ok(Shape { d_in: said.map(|s| s.1).or(inner_n), ctx: Some(ctx), width: None, dtype })
    }
}

/// Element type of a list with this item.
fn element(item: &Field) -> Option<Dtype> {
    match item.data_type() {
        DataType::Float32 => Some(Dtype::F32),
        DataType::Float16 => Some(Dtype::F16),
        _ => None,
    }
}

/// `[[ctx, d_in], "float32"]`.
fn array_2d(text: &str) -> Option<(usize, usize)> {
    let ([ctx, d_in], _dtype) = serde_json::from_str::<([usize; 2], String)>(text).ok()?;
    Some((ctx, d_in))
}

fn size(n: i32) -> Result<usize> {
    usize::try_from(n).map_err(|_| Error::data(format!("its type claims the size {n}")))
}

/// The item of a list type, with the length if the type fixes it.
fn list_item(data_type: &DataType) -> Result<Option<(&Field, Option<usize>)>> {
    Ok(match data_type {
        DataType::FixedSizeList(item, n) => Some((item, Some(size(*n)?))),
        DataType::List(item) | DataType::LargeList(item) => Some((item, None)),
        _ => None,
    })
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// In a layout of contexts a column may hold one value per context or a list of one per token.
fn per_token(data_type: &DataType, ctx: Option<usize>) -> &DataType {
    match (ctx, data_type) {
        (Some(_), DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item)) => {
            item.data_type()
        }
        _ => data_type,
    }
}

fn unusable(data_type: &DataType, asked: &str) -> Error {
    let what = if is_text(data_type) { "text".to_owned() } else { data_type.to_string() };
    Error::data(format!("holds {what}, not activation vectors")).hint(format!(
        "a usable column is a FixedSizeList, List or LargeList of float32 or float16, or FixedSizeBinary of \
         little-endian f32, f16 or bf16; name it in {asked}",
    ))
}

fn raw_dtype(width: usize, spec: Option<Dtype>, said: &[&Metadata]) -> Result<Dtype> {
    if let Some(dtype) = spec {
        return Ok(dtype);
    }
    match said.iter().find_map(|metadata| metadata.get("dtype")).map(String::as_str) {
        Some("f32" | "float32" | "<f4") => Ok(Dtype::F32),
        Some("f16" | "float16" | "<f2") => Ok(Dtype::F16),
        Some("bf16" | "bfloat16") => Ok(Dtype::Bf16),
        Some(other) => Err(Error::data(format!("says its dtype is `{other}`")).hint("known: f32, f16, bf16")),
        None => Err(Error::data(format!(
            "holds {width} raw bytes a row and does not say of which type ({} × f32 or {} × f16 or bf16)",
            width / 4,
            width / 2
        ))
        .hint("set source.dtype to f32, f16 or bf16")),
    }
}

fn raw_d_in(width: usize, dtype: Dtype) -> Result<usize> {
    let bytes = dtype.bytes();
    match width % bytes {
        0 => Ok(width / bytes),
        _ => Err(Error::data(format!("holds {width} raw bytes a row, which is no multiple of {bytes}"))
            .hint("source.dtype does not fit this column")),
    }
}

impl Dtype {
    /// The word for it in specs and in the key `dtype` of a file's metadata.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
        }
    }

    /// Bytes of one element.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

/// The token ids of the SAELens layout are called `token_ids`; both names are taken there.
fn optional_column<'a>(
    schema: &'a Schema,
    role: Role,
    columns: &Columns,
    ctx: Option<usize>,
) -> Option<(usize, &'a Field)> {
    let saelens = (role == Role::TokenId && ctx.is_some()).then_some("token_ids");
    std::iter::once(role.column(columns))
        .chain(saelens)
        .find_map(|name| schema.fields().find(name))
        .map(|(i, f)| (i, f.as_ref()))
}

fn named_column(schema: &Schema, asked: &Asked) -> Result<usize> {
    let name = &asked.name;
    if let Some((index, _)) = schema.fields().find(name) {
        return Ok(index);
    }
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let nearest = names.iter().min_by_key(|other| distance(name, other));
    let meant = nearest.map(|n| format!("; the nearest name is `{n}`")).unwrap_or_default();
    Err(Error::data(format!("has no column `{name}`; it has {}{meant}", names.join(", ")))
        .field(&asked.field)
        .hint(format!("name a column of the shards in {}, or narrow source.url to the shards (a glob like shard-*.parquet)", asked.field)))
}

/// Levenshtein distance, one row of the table at a time.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn schema(fields: Vec<Field>) -> Schema {
        Schema::new(fields)
    }

    fn find(schema: &Schema, columns: &Columns, dtype: Option<Dtype>) -> Result<Layout> {
        let (asked, main) = (Asked::activation(columns), columns.activation.as_str());
        Layout::search(schema, &Search { asked: &asked, main, companions: Some(columns), dtype })
    }

    fn floats(n: i32) -> DataType {
        DataType::FixedSizeList(Arc::new(Field::new("item", DataType::Float32, true)), n)
    }

    #[test]
    fn a_missing_column_names_its_nearest() {
        let schema = schema(vec![
            Field::new("activations", floats(4), true),
            Field::new("pos", DataType::Int32, true),
        ]);
        let error = find(&schema, &Columns::default(), None).unwrap_err();
        assert!(
            error.message().contains("it has activations, pos; the nearest name is `activations`"),
            "{error}"
        );
        assert_eq!(error.place().field.as_deref(), Some("source.columns.activation"));
    }

    #[test]
    fn a_text_column_is_refused_by_name() {
        let schema = schema(vec![Field::new("activation", DataType::LargeUtf8, true)]);
        let error = find(&schema, &Columns::default(), None).unwrap_err();
        assert!(error.message().contains("holds text"), "{error}");
        assert_eq!(error.place().field.as_deref(), Some("activation"));
    }

    #[test]
    fn raw_rows_must_say_their_type() {
        let raw = |metadata: &[(&str, &str)]| {
            let metadata: Metadata = metadata.iter().copied().collect();
            schema(vec![Field::new("activation", DataType::FixedSizeBinary(8), true)]).with_metadata(metadata)
        };
        let columns = Columns::default();
        let error = find(&raw(&[]), &columns, None).unwrap_err();
        assert!(error.what_to_do().unwrap().contains("source.dtype"), "{error}");
        assert_eq!(find(&raw(&[("dtype", "bfloat16")]), &columns, None).unwrap().d_in, Some(4));
        assert_eq!(find(&raw(&[]), &columns, Some(Dtype::F32)).unwrap().d_in, Some(2));
    }

    #[test]
    fn an_unusable_optional_column_is_noted_and_left() {
        let schema = schema(vec![
            Field::new("activation", floats(4), true),
            Field::new("doc_id", DataType::Utf8, true),
        ]);
        let layout = find(&schema, &Columns::default(), None).unwrap();
        assert!(!layout.has().doc_id);
        assert!(layout.notes[0].contains("doc_id"));
    }

    #[test]
    fn edit_distance() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
