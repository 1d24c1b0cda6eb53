//! Errors, sorted by what the person reading them must do.

use std::fmt;

/// Shorthand used through the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the user must do about an error. Each kind is one stable exit code of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The job spec (or the command line) is wrong: change it. Exit code 64.
    Spec,
    /// The input data is wrong: repair the named object, or quarantine it. Exit code 65.
    Data,
    /// Something outside failed (store, network, disk, a peer): run `resume` again. Exit code 75.
    Retry,
    /// atomflow is wrong: report it. Exit code 70.
    Bug,
}

impl Kind {
    /// The process exit code, as in BSD's `sysexits.h`.
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::Spec => 64,
            Kind::Data => 65,
            Kind::Bug => 70,
            Kind::Retry => 75,
        }
    }

    /// The word used for it in `--json` output.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Spec => "fix the spec",
            Kind::Data => "fix the data",
            Kind::Retry => "retry",
            Kind::Bug => "bug",
        }
    }
}

/// Where in the input a fault lies. Every part that is known is printed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// URL or path of the object.
    pub object: Option<String>,
    /// Row group (Parquet) or record batch (Arrow), counted from 0.
    pub row_group: Option<usize>,
    /// Row inside the row group, counted from 0.
    pub row: Option<usize>,
    /// Column or spec field.
    pub field: Option<String>,
}

/// One error: its kind, where it is, what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the user must do.
    pub kind: Kind,
    /// Boxed to keep `Result` small.
    detail: Box<Detail>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Detail {
    place: Place,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// An error of `kind` saying `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let detail = Detail { place: Place::default(), message: message.into(), hint: None };
        Error { kind, detail: Box::new(detail) }
    }
    /// The spec is wrong.
    pub fn spec(message: impl Into<String>) -> Self {
        Self::new(Kind::Spec, message)
    }
    /// The data is wrong.
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(Kind::Data, message)
    }
    /// Something outside failed; trying again may help.
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Kind::Retry, message)
    }
    /// atomflow is wrong.
    pub fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }
    /// Names the object the error is about.
    pub fn object(mut self, object: impl Into<String>) -> Self {
        self.detail.place.object = Some(object.into());
        self
    }
    /// Names the row group.
    pub fn row_group(mut self, row_group: usize) -> Self {
        self.detail.place.row_group = Some(row_group);
        self
    }
    /// Names the row inside the row group.
    pub fn row(mut self, row: usize) -> Self {
        self.detail.place.row = Some(row);
        self
    }
    /// Names the column or spec field.
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.detail.place.field = Some(field.into());
        self
    }
    /// Says what to do.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.detail.hint = Some(hint.into());
        self
    }
    /// Where the fault lies.
    pub fn place(&self) -> &Place {
        &self.detail.place
    }
    /// What is wrong, without place and hint.
    pub fn message(&self) -> &str {
        &self.detail.message
    }
    /// What to do about it, where we know.
    pub fn what_to_do(&self) -> Option<&str> {
        self.detail.hint.as_deref()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.object.clone(),
            self.row_group.map(|g| format!("row group {g}")),
            self.row.map(|r| format!("row {r}")),
            self.field.as_ref().map(|c| format!("field `{c}`")),
        ];
        f.write_str(&parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.place != Place::default() {
            write!(f, "{}: ", self.detail.place)?;
        }
        f.write_str(&self.detail.message)?;
        if let Some(hint) = &self.detail.hint {
            write!(f, "\n  {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
