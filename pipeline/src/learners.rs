//! Who learns: one table or a list of them, each with a name, a seed, a column and a scale.

use std::collections::BTreeSet;

use atomflow_workers::{
    learner::{Beside, Role},
    variants::LearnerSpec,
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Result,
    calibrate::Normalize,
    run::Job,
    sight::kind_of,
    source::{
        Asked,
        asked::{ACTIVATION, ValueKind},
    },
};

/// `[learner]` or `[[learner]]`: what learns from the rows of one reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Learners {
    /// One dictionary; its results lie in the directory of the run.
    One(Box<LearnerTable>),
    /// Several; the results of each lie in `learners/<name>` there.
    Many(Vec<LearnerTable>),
}

/// One learner: its kind and the fields of that kind, and what it does not share with the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnerTable {
    /// What the fields of all kinds say.
    #[serde(flatten)]
    pub shared: Shared,
    /// The kind and its own fields.
    #[serde(flatten)]
    pub spec: LearnerSpec,
}

/// Fields that learners of every kind have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Shared {
    /// Name of its directory and in reports. Left out: made of kind, n_latents and k.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Seed of its initial atoms; the order of rows follows the job's. Left out: the job's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Its scale instead of `normalize.method`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalize: Option<Normalize>,
    /// The column it learns from instead of `source.columns.activation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
}

/// A learner with everything that was left out filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Unique in its job; part of paths.
    pub name: String,
    /// How errors call its table: `learner` or `learner[2]`.
    pub field: String,
    /// Seed of its initial atoms.
    pub seed: u64,
    /// Its scale.
    pub normalize: Normalize,
    /// The columns it encodes, one after the other.
    pub inputs: Vec<String>,
    /// The columns beside them.
    pub beside: Vec<Beside>,
    /// What it is.
    pub spec: LearnerSpec,
    /// What names the column of a learner that names none itself.
    activation_field: String,
}

impl Resolved {
    /// Every column it reads, inputs first.
    pub fn asked(&self) -> Vec<Asked> {
        let own = self.spec.columns().inputs;
        let input = |name: &String| {
            let field =
                if own.is_empty() { self.activation_field.clone() } else { self.naming(name, "inputs") };
            Asked { name: name.clone(), kind: ValueKind::Vectors, field }
        };
        let beside = self.beside.iter().map(|beside| {
            let field = self.naming(&beside.name, word(beside.role));
            Asked { name: beside.name.clone(), kind: kind_of(beside.role), field }
        });
        self.inputs.iter().map(input).chain(beside).collect()
    }

    /// The field of its table that says `text`; `otherwise` if that cannot be told.
    pub fn naming(&self, text: &str, otherwise: &str) -> String {
        let says = |value: &Value| match value {
            Value::String(said) => said == text,
            Value::Array(all) => all.iter().any(|value| value == text),
            _ => false,
        };
        let table = serde_json::to_value(&self.spec).unwrap_or_default();
        let fields = table.as_object().into_iter().flatten().filter(|(name, _)| *name != "kind");
        let field = fields.into_iter().find(|(_, value)| says(value)).map(|(name, _)| name.as_str());
        format!("{}.{}", self.field, field.unwrap_or(otherwise))
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Target => "target",
        Role::Gradient => "gradient",
        Role::Label => "label",
    }
}

impl Learners {
    /// Every table, in the order of the spec.
    pub fn tables(&self) -> &[LearnerTable] {
        match self {
            Learners::One(table) => std::slice::from_ref(table),
            Learners::Many(tables) => tables,
        }
    }

    /// Whether each learner has a directory of its own.
    pub fn are_several(&self) -> bool {
        self.tables().len() > 1
    }

    /// The name of each, in order: its own, or `topk-n2304-k32`; a second one of that name ends in `-2`.
    ///
    /// # Errors
    /// Two tables give the same name.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut taken = BTreeSet::new();
        for (at, table) in self.tables().iter().enumerate() {
            let twice = table.shared.name.as_ref().filter(|name| !taken.insert((*name).clone()));
            if let Some(name) = twice {
                return Err(Error::spec(format!("`{name}` is the name of another learner, too"))
                    .field(format!("{}.name", self.field(at)))
                    .hint("every learner needs a name of its own, or none: then it gets one"));
            }
        }
        let mut name = |table: &LearnerTable| match &table.shared.name {
            Some(name) => name.clone(),
            None => unused(&default_name(&table.spec), &mut taken),
        };
        Ok(self.tables().iter().map(&mut name).collect())
    }

    fn field(&self, at: usize) -> String {
        if matches!(self, Learners::One(_)) { "learner".to_owned() } else { format!("learner[{at}]") }
    }
}

impl Job {
    /// The columns that learners use, the source's own activation column first: the norm rule is about
    /// the first, which is another one only if no learner uses the source's own. It always holds vectors.
    ///
    /// # Errors
    /// As for [`Job::learners`].
    pub fn columns(&self) -> Result<Vec<Asked>> {
        let mut columns: Vec<Asked> = Vec::new();
        for asked in self.learners()?.iter().flat_map(Resolved::asked) {
            if !columns.iter().any(|column| column.is(&asked)) {
                columns.push(asked);
            }
        }
        let own = Asked::activation(&self.source.columns);
        columns.sort_by_key(|column| !column.is(&own));
        Ok(columns)
    }

    /// Every learner of the job, in the order of the spec.
    ///
    /// # Errors
    /// There is none, two have the same name, or one names its columns twice.
    pub fn learners(&self) -> Result<Vec<Resolved>> {
        if self.learner.tables().is_empty() {
            return Err(Error::spec("there is nothing that learns").field("learner"));
        }
        let names = self.learner.names()?;
        let tables = self.learner.tables().iter().zip(names).enumerate();
        tables.map(|(at, (table, name))| self.resolve(table, name, self.learner.field(at))).collect()
    }

    fn resolve(&self, table: &LearnerTable, name: String, field: String) -> Result<Resolved> {
        let (own, columns) = (table.shared.activation.as_ref(), table.spec.columns());
        let activation_field = own.map_or_else(|| ACTIVATION.to_owned(), |_| format!("{field}.activation"));
        if own.is_some() && !columns.inputs.is_empty() {
            let message = format!("says nothing: the columns of a {} are its own fields", table.spec.kind());
            return Err(Error::spec(message).field(activation_field).hint("leave the line out"));
        }
        let activation = || vec![own.unwrap_or(&self.source.columns.activation).clone()];
        Ok(Resolved {
            name,
            field,
            seed: table.shared.seed.unwrap_or(self.seed),
            normalize: table.shared.normalize.unwrap_or(self.normalize.method),
            inputs: if columns.inputs.is_empty() { activation() } else { columns.inputs },
            beside: columns.beside,
            spec: table.spec.clone(),
            activation_field,
        })
    }
}

fn default_name(spec: &LearnerSpec) -> String {
    let k = spec.k().map_or_else(String::new, |k| format!("-k{k}"));
    format!("{}-n{}{k}", spec.kind(), spec.n_latents())
}

fn unused(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2..).map(|n: usize| format!("{name}-{n}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name));
    let free = free.unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// The fields of every kind stand beside those of its own, and `sweep` among them: a job file may say
/// it, and expands into tables that do not.
impl JsonSchema for LearnerTable {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LearnerTable".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = LearnerSpec::json_schema(generator).to_value();
        let shared = Shared::json_schema(generator).to_value();
        let fields = shared.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
        let sweep = serde_json::json!({
            "type": "object",
            "description": "One learner for each combination of these values: `{k = [16, 32], \"schedule.lr\" = [1e-3, 2e-3]}`.",
            "additionalProperties": { "type": ["array", "object"] },
        });
        let kinds = schema.get_mut("oneOf").and_then(Value::as_array_mut);
        for kind in kinds.into_iter().flatten() {
            if let Some(properties) = kind.get_mut("properties").and_then(Value::as_object_mut) {
                properties.extend(fields.clone());
                properties.insert("sweep".to_owned(), sweep.clone());
            }
        }
        Schema::try_from(schema).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learners(text: &str) -> Learners {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn one_table_reads_and_writes_as_before() {
        let text = r#"{"kind":"topk","n_latents":64,"k":4}"#;
        let one = learners(text);
        assert!(!one.are_several());
        assert_eq!(one.names().unwrap(), ["topk-n64-k4"]);
        let plain: LearnerSpec = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&one).unwrap(), serde_json::to_value(&plain).unwrap());
        assert_eq!(learners(&serde_json::to_string(&one).unwrap()), one);
    }

    #[test]
    fn names_are_given_where_there_are_none() {
        let table = r#"{"kind":"topk","n_latents":64,"k":4}"#;
        let several = learners(&format!(
            r#"[{table},{{"kind":"topk","n_latents":64,"k":4,"name":"topk-n64-k4-2"}},{table},{table}]"#
        ));
        assert_eq!(
            several.names().unwrap(),
            ["topk-n64-k4", "topk-n64-k4-2", "topk-n64-k4-3", "topk-n64-k4-4"]
        );
        let twins = r#"[{"kind":"topk","n_latents":64,"k":4,"name":"a"},{"kind":"topk","n_latents":64,"k":8,"name":"a"}]"#;
        let error = learners(twins).names().unwrap_err();
        assert_eq!(error.place().field.as_deref(), Some("learner[1].name"));
    }

    fn job(learner: &str) -> Job {
        let text = format!(r#"{{"name":"n","source":{{"url":"x"}},"learner":{learner}}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn columns_are_read_once_and_the_sources_own_first() {
        let table = |activation: &str| format!(r#"{{"kind":"topk","n_latents":64,"k":4{activation}}}"#);
        let other = table(r#","activation":"other""#);
        let all = job(&format!("[{other},{},{other}]", table("")));
        let columns = all.columns().unwrap();
        let told: Vec<(&str, &str)> = columns.iter().map(|c| (c.name.as_str(), c.field.as_str())).collect();
        assert_eq!(told, [("activation", ACTIVATION), ("other", "learner[0].activation")]);
        assert_eq!(job(&other).columns().unwrap()[0].field, "learner.activation");
    }

    /// Of a learner that reads all there is; its inputs come before what is beside them.
    #[test]
    fn what_a_learner_asks_for_is_known_by_the_field_that_names_it() {
        let plain = job(r#"{"kind":"topk","n_latents":64,"k":4}"#).learners().unwrap().remove(0);
        let beside = |name: &str, role| Beside { name: name.to_owned(), role };
        let beside = vec![beside("mlp_out", Role::Target), beside("toxic", Role::Label)];
        let learner = Resolved { beside, ..plain };
        let asked = learner.asked();
        let told: Vec<(&str, ValueKind, &str)> =
            asked.iter().map(|a| (a.name.as_str(), a.kind, a.field.as_str())).collect();
        let expected = [
            ("activation", ValueKind::Vectors, ACTIVATION),
            ("mlp_out", ValueKind::Vectors, "learner.target"),
            ("toxic", ValueKind::Labels, "learner.label"),
        ];
        assert_eq!(told, expected);
        assert_eq!(learner.naming("topk", "kind"), "learner.kind");
    }

    #[test]
    fn fields_of_no_kind_are_refused() {
        let wrong = r#"{"kind":"topk","n_latents":64,"k":4,"colour":1}"#;
        assert!(serde_json::from_str::<Learners>(wrong).is_err());
    }
}
