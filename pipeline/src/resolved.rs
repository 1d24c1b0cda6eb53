//! A learner with everything that was left out filled in, and the columns it asks for.

use atomflow_workers::{
    learner::{Beside, Role},
    variants::LearnerSpec,
};
use serde_json::Value;

use crate::{
    Error, Result,
    calibrate::Normalize,
    learners::LearnerTable,
    run::Job,
    sight::kind_of,
    source::{
        Asked,
        asked::{ACTIVATION, ValueKind},
    },
};

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

    /// The field of its table that says `text`, or the directory that `text` lies in; `otherwise` if
    /// that cannot be told.
    pub fn naming(&self, text: &str, otherwise: &str) -> String {
        let is = |said: &str| said == text || (!said.is_empty() && inside(said, text));
        let says = |value: &Value| match value {
            Value::String(said) => is(said),
            Value::Array(all) => all.iter().filter_map(Value::as_str).any(is),
            _ => false,
        };
        let table = serde_json::to_value(&self.spec).unwrap_or_default();
        let fields = table.as_object().into_iter().flatten().filter(|(name, _)| *name != "kind");
        let field = fields.into_iter().find(|(_, value)| says(value)).map(|(name, _)| name.as_str());
        format!("{}.{}", self.field, field.unwrap_or(otherwise))
    }
}

fn inside(directory: &str, path: &str) -> bool {
    path.strip_prefix(directory.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Target => "target",
        Role::Gradient => "gradient",
        Role::Label => "label",
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
    /// There is none, two have the same name, or one names its columns in two ways.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
