//! `sweep = {k = [16, 32], n_latents = [1152, 2304]}`: one learner table becomes one for each
//! combination, before anything is checked. A value keeps the place where it stands in the list, so
//! that errors about it name that line.

use atomflow_pipeline::{Error, Result};
use toml::Value;

use super::document::{Content, Entry, Node};

/// More would be a slip: each holds a model in memory.
const LEARNERS_MAX: usize = 1024;

/// Expands every sweep of `learner`. Several tables are a list; one table, however written, is a table.
///
/// # Errors
/// A sweep is not a table of lists of plain values, or gives too many learners.
pub(super) fn expand(root: &mut Node) -> Result<()> {
    let Content::Table(entries) = &mut root.content else { return Ok(()) };
    let Some(entry) = entries.iter_mut().find(|entry| entry.key == "learner") else { return Ok(()) };
    let tables = match &entry.node.content {
        Content::Table(_) => {
            vec![(Node { place: entry.place.clone(), ..entry.node.clone() }, "learner".to_owned())]
        }
        Content::Array(items) => {
            items.iter().cloned().enumerate().map(|(at, item)| (item, format!("learner[{at}]"))).collect()
        }
        Content::Plain(_) => return Ok(()),
    };
    let mut all = Vec::new();
    for (table, field) in tables {
        all.extend(variants(table, &field)?);
        if all.len() > LEARNERS_MAX {
            return Err(Error::spec(format!("more than {LEARNERS_MAX} learners"))
                .object(entry.place.clone())
                .field(format!("{field}.sweep"))
                .hint("all combinations are learned at the same time; sweep fewer values"));
        }
    }
    entry.node.content = match <[Node; 1]>::try_from(all) {
        Ok([one]) => one.content,
        Err(several) => Content::Array(several),
    };
    Ok(())
}

/// A field and the values it takes.
struct Axis {
    path: Vec<String>,
    values: Vec<Node>,
}

fn variants(mut table: Node, field: &str) -> Result<Vec<Node>> {
    let Content::Table(entries) = &mut table.content else { return Ok(vec![table]) };
    let Some(at) = entries.iter().position(|entry| entry.key == "sweep") else { return Ok(vec![table]) };
    let sweep = entries.remove(at);
    let mut axes = Vec::new();
    collect(&sweep, &[], &format!("{field}.sweep"), &mut axes)?;
    let mut variants = vec![(table, Vec::new())];
    for axis in &axes {
        let with = |(table, taken): (Node, Vec<(String, String)>)| {
            axis.values.iter().map(move |value| with_value(&table, &taken, axis, value))
        };
        variants = variants.into_iter().flat_map(with).collect();
        if variants.len() > LEARNERS_MAX {
            break;
        }
    }
    Ok(variants.into_iter().map(|(table, taken)| named(table, &taken)).collect())
}

/// Values stand in lists below dotted keys or nested tables.
fn collect(entry: &Entry, path: &[String], field: &str, axes: &mut Vec<Axis>) -> Result<()> {
    let wrong = |what: &str, node: &Node| {
        Error::spec(what)
            .object(node.place.clone())
            .field(field)
            .hint("write sweep = {k = [16, 32], \"schedule.lr\" = [1e-3, 2e-3]}")
    };
    match &entry.node.content {
        Content::Table(fields) => fields.iter().try_for_each(|inner| {
            let path: Vec<String> =
                path.iter().cloned().chain(inner.key.split('.').map(str::to_owned)).collect();
            collect(inner, &path, &format!("{field}.{}", inner.key), axes)
        }),
        Content::Array(values) if !path.is_empty() => {
            let plain = |value: &&Node| !matches!(value.content, Content::Plain(_));
            match (values.is_empty(), values.iter().find(plain)) {
                (true, _) => Err(wrong("names no value", &entry.node)),
                (_, Some(value)) => Err(wrong("must be a list of plain values", value)),
                _ if path == ["name"] || path == ["kind"] => {
                    Err(wrong("cannot be swept: write a [[learner]] for each", &entry.node))
                }
                _ => {
                    axes.push(Axis { path: path.to_vec(), values: values.clone() });
                    Ok(())
                }
            }
        }
        _ if path.is_empty() => Err(wrong("must be a table of lists", &entry.node)),
        _ => Err(wrong("must be a list of values", &entry.node)),
    }
}

type Variant = (Node, Vec<(String, String)>);

fn with_value(table: &Node, taken: &[(String, String)], axis: &Axis, value: &Node) -> Variant {
    let (mut table, mut taken) = (table.clone(), taken.to_vec());
    let path: Vec<&str> = axis.path.iter().map(String::as_str).collect();
    // A path through something that is not a table leaves the table as it is, and the schema
    // complains of what stands there.
    let _ = table.insert(&path, value.clone(), &value.place);
    taken.push((axis.path.join("."), text(value)));
    (table, taken)
}

/// Tells the variants of one table apart. `n_latents` and `k` are in the name that a learner without
/// one gets; every other swept field is added to it.
fn named(mut table: Node, taken: &[(String, String)]) -> Node {
    let in_default = |field: &str| field == "n_latents" || field == "k";
    let own = table.plain("name");
    if own.is_none() && taken.iter().all(|(field, _)| in_default(field)) {
        return table;
    }
    let base = own.clone().unwrap_or_else(|| {
        let part = |field: &str, sign: &str| table.plain(field).map(|value| format!("-{sign}{value}"));
        let parts = [table.plain("kind"), part("n_latents", "n"), part("k", "k")];
        parts.into_iter().flatten().collect()
    });
    let added = taken.iter().filter(|(field, _)| own.is_some() || !in_default(field));
    let name = added.fold(base, |name, (field, value)| format!("{name}-{}{value}", short(field)));
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let name: String = name.chars().map(plain).collect();
    let node = Node { place: table.place.clone(), content: Content::Plain(Value::String(name)) };
    let place = table.place.clone();
    let _ = table.insert(&["name"], node, &place);
    table
}

fn short(field: &str) -> &str {
    match field.rsplit('.').next().unwrap_or(field) {
        "n_latents" => "n",
        last => last,
    }
}

fn text(node: &Node) -> String {
    match &node.content {
        Content::Plain(Value::String(text)) => text.clone(),
        Content::Plain(value) => value.to_string(),
        _ => String::new(),
    }
}

impl Node {
    /// The plain value of a field of this table, as text.
    fn plain(&self, field: &str) -> Option<String> {
        let Content::Table(entries) = &self.content else { return None };
        let entry = entries.iter().find(|entry| entry.key == field)?;
        matches!(entry.node.content, Content::Plain(_)).then(|| text(&entry.node))
    }
}
