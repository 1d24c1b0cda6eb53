//! Who learns: one table or a list of them, each with a name, a seed, a column and a scale.

use std::collections::BTreeSet;

use atomflow_workers::variants::LearnerSpec;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, calibrate::Normalize};

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
    /// The column it learns from instead of `source.columns.activation`; learners that read several
    /// columns name them in fields of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation: Option<String>,
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

    pub(crate) fn field(&self, at: usize) -> String {
        if matches!(self, Learners::One(_)) { "learner".to_owned() } else { format!("learner[{at}]") }
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

    #[test]
    fn fields_of_no_kind_are_refused() {
        let wrong = r#"{"kind":"topk","n_latents":64,"k":4,"colour":1}"#;
        assert!(serde_json::from_str::<Learners>(wrong).is_err());
    }
}
