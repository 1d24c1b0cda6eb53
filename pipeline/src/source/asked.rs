//! A column that a job reads: its name, how its values are taken, and which field of the spec says so.

use super::Columns;

/// How the values of a column are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValueKind {
    /// Vectors of floats. A row is bad where one is null or not finite.
    Vectors,
    /// Numbers or truth values, one or a list per row; NaN where they are null. No row is bad for them.
    Labels,
}

/// A column that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name in the shards.
    pub name: String,
    /// How its values are taken.
    pub kind: ValueKind,
    /// The field of the spec that names it, for errors.
    pub field: String,
}

/// The field that names the column of those who ask for none.
pub(crate) const ACTIVATION: &str = "source.columns.activation";

impl Asked {
    /// The activation column of the source.
    pub fn activation(columns: &Columns) -> Self {
        let (name, field) = (columns.activation.clone(), ACTIVATION.to_owned());
        Asked { name, kind: ValueKind::Vectors, field }
    }

    /// Whether both are the same values of a row, whoever asks.
    pub fn is(&self, other: &Asked) -> bool {
        (&self.name, self.kind) == (&other.name, other.kind)
    }
}

/// What is looked for in the schema of every shard.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Search<'a> {
    /// The column.
    pub(crate) asked: &'a Asked,
    /// The column whose layout says how many tokens a row of the file holds.
    pub(crate) main: &'a str,
    /// Names of tokens, documents and positions, where they are wanted with it.
    pub(crate) companions: Option<&'a Columns>,
    /// Element type of raw rows that do not say it.
    pub(crate) dtype: Option<super::Dtype>,
}
