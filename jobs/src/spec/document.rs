//! A TOML document that remembers where each key and value stands.

use atomflow_pipeline::{Error, Result};
use toml::{
    Spanned, Value,
    de::{DeTable, DeValue},
};

use super::{schema::Schema, sweep};

/// More parts than any field has; a limit, because a key is followed part by part on the stack.
const KEY_PARTS_MAX: usize = 16;

/// A parsed spec. Places are `file:line:column`, or the `--set` that put a value there.
#[derive(Debug, Clone)]
pub struct Document {
    name: String,
    root: Node,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: String,
    pub(super) content: Content,
}

/// What a value is.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Plain(Value),
    Array(Vec<Node>),
    /// In the order of the document.
    Table(Vec<Entry>),
}

/// One `key = value`.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Where the key stands; for a table, where its header stands.
    pub(super) place: String,
    pub(super) node: Node,
}

impl Document {
    /// Parses TOML; `name` is what errors call the file.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn parse(text: &str, name: &str) -> Result<Document> {
        let source = Source { text, name };
        // Two readings of one text: the first has the values, the second has the places.
        let values: toml::Table = text.parse().map_err(|e| source.not_toml(&e))?;
        let places = DeTable::parse(text).map_err(|e| source.not_toml(&e))?;
        let entries = source.entries(values, places.get_ref());
        Ok(Document {
            name: name.to_owned(),
            root: Node { place: name.to_owned(), content: Content::Table(entries) },
        })
    }

    /// What errors call the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// The document without its places.
    pub(super) fn to_toml(&self) -> Value {
        self.root.to_toml()
    }

    /// Applies `key=value`: dotted key, TOML value; a value that is not TOML is a string, and so is
    /// one that stands where `schema` wants text.
    ///
    /// # Errors
    /// The text is not `key=value`, or the key leads through something that is not a table.
    pub fn set(&mut self, set: &str, schema: &Schema) -> Result<()> {
        let wrong = |what: &str| {
            Error::spec(what)
                .object(format!("--set {set}"))
                .hint("write --set plan.passes=2, with a dotted key")
        };
        let (key, raw) = set.split_once('=').ok_or_else(|| wrong("is not key=value"))?;
        let path = parts(key.trim());
        if path.iter().any(|part| part.is_empty()) {
            return Err(wrong("has an empty key"));
        }
        if path.len() > KEY_PARTS_MAX {
            return Err(wrong("has a key with too many parts"));
        }
        let place = format!("--set {set}");
        let node = Node::of(set_value(raw.trim(), &path, schema), &place);
        self.root
            .insert(&path, node, &place)
            .ok_or_else(|| wrong("leads through a field that is not a table"))
            .map_err(|error| match self.root.is_list("learner") && key.trim().starts_with("learner.") {
                true => error.hint("there are several learners: write --set learner[0].k=64"),
                false => error,
            })
    }

    /// Makes of every sweep the learners it stands for.
    ///
    /// # Errors
    /// A sweep is not a table of lists of plain values.
    pub fn expand(&mut self) -> Result<()> {
        sweep::expand(&mut self.root)
    }

    /// Adds the place of the field that `error` names, if it names one and has no object yet.
    pub fn locate(&self, error: Error) -> Error {
        let Some(field) = error.place().field.clone() else { return error };
        if error.place().object.is_some() {
            return error;
        }
        let place = self.root.find(&parts(&field)).unwrap_or(&self.name).to_owned();
        error.object(place)
    }
}

/// `learner[1].k` → `learner`, `[1]`, `k`.
fn parts(key: &str) -> Vec<&str> {
    let split = |part: &'_ str| part.find('[').filter(|at| *at > 0).map_or(part.len(), |at| at);
    key.split('.')
        .map(str::trim)
        .flat_map(|part| {
            let (name, index) = part.split_at(split(part));
            [Some(name), Some(index).filter(|index| !index.is_empty())].into_iter().flatten()
        })
        .collect()
}

/// `[1]` → 1.
fn index(part: &str) -> Option<usize> {
    part.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn set_value(raw: &str, path: &[&str], schema: &Schema) -> Value {
    let bare = Value::String(raw.to_owned());
    match raw.parse::<Value>() {
        Ok(value) if value.is_str() || !schema.wants_text(path) => value,
        _ => bare,
    }
}

impl Node {
    /// A value all of which stands at `place`.
    fn of(value: Value, place: &str) -> Node {
        let content = match value {
            Value::Array(items) => Content::Array(items.into_iter().map(|v| Node::of(v, place)).collect()),
            Value::Table(table) => Content::Table(
                table
                    .into_iter()
                    .map(|(key, v)| Entry { key, place: place.to_owned(), node: Node::of(v, place) })
                    .collect(),
            ),
            plain => Content::Plain(plain),
        };
        Node { place: place.to_owned(), content }
    }

    /// Whether the field `key` of this table is a list.
    fn is_list(&self, key: &str) -> bool {
        let Content::Table(entries) = &self.content else { return false };
        entries.iter().any(|entry| entry.key == key && matches!(entry.node.content, Content::Array(_)))
    }

    fn to_toml(&self) -> Value {
        match &self.content {
            Content::Plain(value) => value.clone(),
            Content::Array(items) => Value::Array(items.iter().map(Node::to_toml).collect()),
            Content::Table(entries) => {
                Value::Table(entries.iter().map(|e| (e.key.clone(), e.node.to_toml())).collect())
            }
        }
    }

    /// Puts `node` at `path`, making tables on the way; `None` if something else is in the way.
    pub(super) fn insert(&mut self, path: &[&str], node: Node, place: &str) -> Option<()> {
        let (first, rest) = path.split_first()?;
        if let Content::Array(items) = &mut self.content {
            let item = items.get_mut(index(first)?)?;
            if rest.is_empty() {
                *item = node;
                return Some(());
            }
            return item.insert(rest, node, place);
        }
        let Content::Table(entries) = &mut self.content else { return None };
        let at = entries.iter().position(|e| e.key == *first).unwrap_or_else(|| {
            let empty = Node { place: place.to_owned(), content: Content::Table(Vec::new()) };
            entries.push(Entry { key: (*first).to_owned(), place: place.to_owned(), node: empty });
            entries.len() - 1
        });
        let entry = entries.get_mut(at)?;
        if rest.is_empty() {
            entry.place = place.to_owned();
            entry.node = node;
            return Some(());
        }
        entry.node.insert(rest, node, place)
    }

    /// Where the field at `path` stands, or the nearest table around it that exists.
    fn find(&self, path: &[&str]) -> Option<&String> {
        let (first, rest) = path.split_first()?;
        if let Content::Array(items) = &self.content {
            let item = items.get(index(first)?)?;
            return item.find(rest).or(Some(&item.place));
        }
        let Content::Table(entries) = &self.content else { return None };
        let entry = entries.iter().find(|e| e.key == *first)?;
        entry.node.find(rest).or(Some(&entry.place))
    }
}

/// The text of a document and its name.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn not_toml(&self, error: &toml::de::Error) -> Error {
        let place = error.span().map_or_else(|| self.name.to_owned(), |span| self.place(span.start));
        Error::spec(format!("is not TOML: {}", error.message().trim().replace('\n', "; "))).object(place)
    }

    /// `file:line:column`, both counted from 1, columns in characters.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        format!("{}:{line}:{column}", self.name)
    }

    fn entries(&self, values: toml::Table, places: &DeTable<'_>) -> Vec<Entry> {
        let mut entries: Vec<(usize, Entry)> = values
            .into_iter()
            .filter_map(|(key, value)| {
                let (name, spanned) = places.get_key_value(key.as_str())?;
                let start = name.span().start;
                let node = self.node(value, spanned);
                Some((start, Entry { key, place: self.place(start), node }))
            })
            .collect();
        entries.sort_by_key(|(start, _)| *start);
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    fn node(&self, value: Value, spanned: &Spanned<DeValue<'_>>) -> Node {
        let content = match (value, spanned.get_ref()) {
            (Value::Array(values), DeValue::Array(places)) => {
                Content::Array(values.into_iter().zip(places.iter()).map(|(v, p)| self.node(v, p)).collect())
            }
            (Value::Table(values), DeValue::Table(places)) => Content::Table(self.entries(values, places)),
            (plain, _) => Content::Plain(plain),
        };
        Node { place: self.place(spanned.span().start), content }
    }
}
