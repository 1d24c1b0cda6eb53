//! The JSON Schema of a spec, and a document compared with it.
//!
//! serde alone cannot say on which line a field of a tagged or flattened table is wrong. The schema
//! is generated from the same types, so walking it beside the document finds every unknown field,
//! missing field and wrong type at its own place, and gives the valid names for the message.

use atomflow_pipeline::{Error, Result};
use schemars::JsonSchema;
use serde_json::Value as Json;
use toml::Value;

use super::{
    document::{Content, Document, Entry, Node},
    nearest::did_you_mean,
};

/// The schema of one type.
#[derive(Debug, Clone)]
pub struct Schema {
    root: Json,
}

/// The schema of a job spec as kept in `jobs/schema/job.schema.json`.
pub fn text() -> String {
    format!("{:#}\n", Schema::of::<super::JobSpec>().root)
}

/// The same on one line.
pub fn line() -> String {
    format!("{}\n", Schema::of::<super::JobSpec>().root)
}

impl Schema {
    /// The schema of `T`.
    pub fn of<T: JsonSchema>() -> Schema {
        Schema { root: schemars::schema_for!(T).to_value() }
    }

    /// Compares the whole document with the schema.
    ///
    /// # Errors
    /// The first fault, in the order of the document.
    pub fn check(&self, document: &Document) -> Result<()> {
        self.node(&self.root, document.root(), "")
    }

    /// Whether a string is valid at `path` and nothing else is, as far as the schema can tell
    /// without knowing the rest of the document.
    pub(super) fn wants_text(&self, path: &[&str]) -> bool {
        let mut schemas = vec![&self.root];
        for part in path {
            schemas = schemas.into_iter().flat_map(|s| self.field(s, part)).collect();
        }
        !schemas.is_empty() && schemas.into_iter().all(|s| self.is_text(s))
    }

    fn is_text(&self, schema: &Json) -> bool {
        let schema = self.resolve(schema);
        let options = branches(schema);
        let text = |s: &Json| types(s).contains(&"string") || s.get("const").is_some_and(Json::is_string);
        if options.is_empty() { text(schema) } else { options.iter().all(|s| text(self.resolve(s))) }
    }

    /// Schemas of the field `name` in every branch of `schema`.
    fn field<'a>(&'a self, schema: &'a Json, name: &str) -> Vec<&'a Json> {
        let schema = self.resolve(schema);
        let own = match name.starts_with('[') {
            true => schema.get("items"),
            false => schema.pointer("/properties").and_then(|p| p.get(name)),
        };
        own.into_iter().chain(branches(schema).into_iter().flat_map(|s| self.field(s, name))).collect()
    }

    fn resolve<'a>(&'a self, schema: &'a Json) -> &'a Json {
        let reference = schema.get("$ref").and_then(Json::as_str).and_then(|r| r.strip_prefix('#'));
        reference.and_then(|pointer| self.root.pointer(pointer)).map_or(schema, |s| self.resolve(s))
    }

    fn node(&self, schema: &Json, node: &Node, path: &str) -> Result<()> {
        let schema = self.resolve(schema);
        let options: Vec<&Json> = branches(schema).into_iter().map(|s| self.resolve(s)).collect();
        if options.is_empty() {
            return self.plain(schema, node, path);
        }
        let words = words(&options);
        if !words.is_empty() {
            return word(&words, node, path);
        }
        match tag(&options) {
            Some(tag) => self.tagged(&options, tag, node, path),
            None => self.untagged(&options, node, path),
        }
    }

    /// One of several tables, chosen by the string in field `tag`.
    fn tagged(&self, options: &[&Json], tag: &str, node: &Node, path: &str) -> Result<()> {
        let Content::Table(entries) = &node.content else { return Err(wrong_type("a table", node, path)) };
        let kinds: Vec<&str> = options.iter().filter_map(|s| constant(s, tag)).collect();
        let entry = entries
            .iter()
            .find(|e| e.key == tag)
            .ok_or_else(|| missing(tag, node, path, &kinds.join(", ")))?;
        word(&kinds, &entry.node, &join(path, tag))?;
        let Content::Plain(Value::String(kind)) = &entry.node.content else { return Ok(()) };
        let chosen = options.iter().find(|s| constant(s, tag) == Some(kind));
        chosen.map_or(Ok(()), |s| self.plain(s, node, path))
    }

    /// One of several shapes without a tag: the shape of the value's own type speaks for itself.
    fn untagged(&self, options: &[&Json], node: &Node, path: &str) -> Result<()> {
        let fitting = options.iter().find(|s| self.shapes(s).iter().any(|t| fits(t, node)));
        match fitting {
            Some(schema) => self.node(schema, node, path),
            None => {
                let wanted: Vec<&str> = options.iter().flat_map(|s| self.shapes(s)).map(describe).collect();
                Err(wrong_type(&wanted.join(" or "), node, path))
            }
        }
    }

    /// The JSON types a schema allows, those of its branches included, each once.
    fn shapes<'a>(&'a self, schema: &'a Json) -> Vec<&'a str> {
        let schema = self.resolve(schema);
        let nested = branches(schema).into_iter().flat_map(|s| self.shapes(s));
        let mut shapes: Vec<&str> = types(schema).into_iter().chain(nested).collect();
        shapes.dedup();
        shapes
    }

    fn plain(&self, schema: &Json, node: &Node, path: &str) -> Result<()> {
        let types = types(schema);
        if !types.is_empty() && !types.iter().any(|t| fits(t, node)) {
            let wanted: Vec<&str> = types.iter().copied().map(describe).collect();
            return Err(wrong_type(&wanted.join(" or "), node, path));
        }
        let words = strings(schema.get("enum"));
        if !words.is_empty() {
            return word(&words, node, path);
        }
        match &node.content {
            Content::Table(entries) => self.table(schema, entries, node, path),
            Content::Array(items) => self.array(schema, items, path),
            Content::Plain(value) => minimum(schema, value, node, path),
        }
    }

    fn array(&self, schema: &Json, items: &[Node], path: &str) -> Result<()> {
        let Some(item) = schema.get("items") else { return Ok(()) };
        items.iter().enumerate().try_for_each(|(i, node)| self.node(item, node, &format!("{path}[{i}]")))
    }

    fn table(&self, schema: &Json, entries: &[Entry], node: &Node, path: &str) -> Result<()> {
        let Some(fields) = schema.get("properties").and_then(Json::as_object) else { return Ok(()) };
        for entry in entries {
            let field = fields.get(&entry.key).ok_or_else(|| self.unknown(schema, entry, path))?;
            // A table is called by its header line; a plain value by where it stands.
            let mut inner = entry.node.clone();
            if matches!(inner.content, Content::Table(_)) {
                inner.place.clone_from(&entry.place);
            }
            self.node(field, &inner, &join(path, &entry.key))?;
        }
        let absent = |name: &&str| entries.iter().all(|e| e.key != *name);
        match strings(schema.get("required")).into_iter().find(absent) {
            Some(name) => Err(missing(name, node, path, &said(fields.get(name)))),
            None => Ok(()),
        }
    }

    fn unknown(&self, schema: &Json, entry: &Entry, path: &str) -> Error {
        let valid = keys(schema);
        let key = entry.key.as_str();
        let elsewhere = self.tables_with(key);
        // The outermost: a field of an inner table is seldom missed for its place.
        let meant = match elsewhere.iter().min_by_key(|table| table.split('.').count()) {
            Some(table) if !valid.contains(&key) => format!("; did you mean `{}`?", join(table, key)),
            _ => did_you_mean(key, &valid),
        };
        let table = if path.is_empty() { "at the top".to_owned() } else { format!("in [{path}]") };
        Error::spec(format!("unknown field `{key}`{meant}"))
            .object(entry.place.clone())
            .field(join(path, key))
            .hint(format!("valid {table}: {}", valid.join(", ")))
    }

    /// Paths of the tables that have a field `name`, `""` for the top.
    fn tables_with(&self, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.search(&self.root, name, "", &mut found);
        found
    }

    fn search(&self, schema: &Json, name: &str, path: &str, found: &mut Vec<String>) {
        let schema = self.resolve(schema);
        for branch in branches(schema) {
            self.search(branch, name, path, found);
        }
        let Some(fields) = schema.get("properties").and_then(Json::as_object) else { return };
        if fields.contains_key(name) {
            found.push(path.to_owned());
        }
        for (key, field) in fields {
            self.search(field, name, &join(path, key), found);
        }
    }
}

/// `oneOf` or `anyOf`, without the null that stands for an absent field (TOML has no null).
fn branches(schema: &Json) -> Vec<&Json> {
    let list = schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Json::as_array);
    list.into_iter().flatten().filter(|s| s.get("type").and_then(Json::as_str) != Some("null")).collect()
}

fn types(schema: &Json) -> Vec<&str> {
    let one = schema.get("type").and_then(Json::as_str);
    one.into_iter().chain(strings(schema.get("type"))).filter(|t| *t != "null").collect()
}

fn strings(list: Option<&Json>) -> Vec<&str> {
    list.and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect()
}

fn keys(schema: &Json) -> Vec<&str> {
    let fields = schema.get("properties").and_then(Json::as_object);
    fields.into_iter().flat_map(|f| f.keys().map(String::as_str)).collect()
}

/// The words of a string enum: every branch is one constant, or a list of them.
fn words<'a>(options: &[&'a Json]) -> Vec<&'a str> {
    let of = |s: &'a Json| {
        let one = s.get("const").and_then(Json::as_str);
        one.into_iter().chain(strings(s.get("enum"))).collect::<Vec<_>>()
    };
    let lists: Vec<_> = options.iter().map(|s| of(s)).collect();
    if lists.iter().any(Vec::is_empty) { Vec::new() } else { lists.concat() }
}

/// The field whose constant tells the branches apart.
fn tag<'a>(options: &[&'a Json]) -> Option<&'a str> {
    let first = options.first()?;
    keys(first).into_iter().find(|name| options.iter().all(|s| constant(s, name).is_some()))
}

fn constant<'a>(schema: &'a Json, field: &str) -> Option<&'a str> {
    schema.get("properties")?.get(field)?.get("const")?.as_str()
}

fn fits(kind: &str, node: &Node) -> bool {
    match &node.content {
        Content::Table(_) => kind == "object",
        Content::Array(_) => kind == "array",
        Content::Plain(Value::String(_)) => kind == "string",
        Content::Plain(Value::Boolean(_)) => kind == "boolean",
        Content::Plain(Value::Integer(_)) => kind == "integer" || kind == "number",
        Content::Plain(Value::Float(_)) => kind == "number",
        Content::Plain(_) => false,
    }
}

fn describe(kind: &str) -> &str {
    match kind {
        "object" => "a table",
        "array" => "a list",
        "string" => "text in quotes",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a number",
        other => other,
    }
}

fn word(words: &[&str], node: &Node, path: &str) -> Result<()> {
    let Content::Plain(Value::String(word)) = &node.content else {
        return Err(wrong_type("text in quotes", node, path));
    };
    if words.contains(&word.as_str()) {
        return Ok(());
    }
    Err(Error::spec(format!("`{word}` is not a valid value{}", did_you_mean(word, words)))
        .object(node.place.clone())
        .field(path)
        .hint(format!("valid: {}", words.join(", "))))
}

fn minimum(schema: &Json, value: &Value, node: &Node, path: &str) -> Result<()> {
    let least = schema.get("minimum").and_then(Json::as_f64).unwrap_or(f64::NEG_INFINITY);
    #[allow(clippy::cast_precision_loss, reason = "compared with small bounds only")]
    let number = value.as_integer().map(|i| i as f64).or_else(|| value.as_float());
    match number {
        Some(number) if number < least => {
            Err(Error::spec(format!("must be {least} or more, and is {number}"))
                .object(node.place.clone())
                .field(path))
        }
        _ => Ok(()),
    }
}

fn wrong_type(wanted: &str, node: &Node, path: &str) -> Error {
    let is = match &node.content {
        Content::Table(_) => "a table".to_owned(),
        Content::Array(_) => "a list".to_owned(),
        Content::Plain(value) => format!("{value}"),
    };
    Error::spec(format!("must be {wanted}, and is {is}")).object(node.place.clone()).field(path)
}

fn missing(name: &str, node: &Node, path: &str, what: &str) -> Error {
    let table = if path.is_empty() { "at the top of the file".to_owned() } else { format!("to [{path}]") };
    Error::spec(format!("`{name}` is missing"))
        .object(node.place.clone())
        .field(join(path, name))
        .hint(format!("add `{name}` {table}: {what}"))
}

/// The first sentence of a field's description.
fn said(schema: Option<&Json>) -> String {
    let text = schema.and_then(|s| s.get("description")).and_then(Json::as_str).unwrap_or("required");
    let text = text.replace('\n', " ");
    let end = text.find(". ").unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).trim_end_matches('.').to_owned()
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
