//! One file per learner, one line each in the registry at the end.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::learner::{DictLearner, Setup};

/// One line of `atomflow learners`.
#[derive(Debug, Clone, Serialize)]
pub struct LearnerInfo {
    /// The word in `[learner] kind`.
    pub kind: &'static str,
    /// `sparse autoencoder`, `classical`, …
    pub family: &'static str,
    /// One line on what it is.
    pub summary: &'static str,
    /// Where the method is published.
    pub paper: &'static str,
    /// An example spec.
    pub example: &'static str,
}

/// A learner setting that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`learner.{field}` {reason}")]
pub struct Invalid {
    /// The field, relative to `[learner]`.
    pub field: &'static str,
    /// What it must be.
    pub reason: &'static str,
}

impl Invalid {
    /// Ok if `fine`.
    ///
    /// # Errors
    /// `field` is out of range.
    pub fn unless(fine: bool, field: &'static str, reason: &'static str) -> Result<(), Invalid> {
        if fine { Ok(()) } else { Err(Invalid { field, reason }) }
    }
}

/// Makes the module, the spec's enum arm, the builder arm and the registry row of each learner.
macro_rules! learners {
    ($($module:ident :: $config:ident),* $(,)?) => {
        $(pub mod $module;)*

        /// `[learner]`: what learns. `kind` chooses; the other fields belong to that kind.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(tag = "kind", rename_all = "lowercase")]
        pub enum LearnerSpec {
            $(#[doc = concat!("See `workers/src/variants/", stringify!($module), ".rs`.")]
            $config($module::$config),)*
        }

        impl LearnerSpec {
            /// A learner at its start.
            ///
            /// # Errors
            /// A field is out of range.
            pub fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
                match self { $(LearnerSpec::$config(config) => config.build(setup),)* }
            }

            /// Checks the fields against each other and the width of the data.
            ///
            /// # Errors
            /// The first field that is out of range.
            pub fn validate(&self, d_in: usize) -> Result<(), Invalid> {
                match self { $(LearnerSpec::$config(config) => config.validate(d_in),)* }
            }

            /// The word in `[learner] kind`.
            pub fn kind(&self) -> &'static str {
                match self { $(LearnerSpec::$config(_) => $module::INFO.kind,)* }
            }

            /// Number of latents.
            pub fn n_latents(&self) -> usize {
                match self { $(LearnerSpec::$config(config) => config.n_latents,)* }
            }

            /// Expected latents per row, for estimates of time and memory.
            pub fn k(&self) -> usize {
                match self { $(LearnerSpec::$config(config) => config.k,)* }
            }
        }

        /// Every learner, in the order of the registry.
        pub fn registry() -> Vec<LearnerInfo> {
            vec![$($module::INFO),*]
        }
    };
}

learners! {
    topk::TopK,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    /// A small learner of every kind: the example fields that a kind needs, defaults for the rest.
    fn small(kind: &str) -> LearnerSpec {
        let text = format!(r#"{{"kind": "{kind}", "n_latents": 40, "k": 4, "dead_after_tokens": 200}}"#);
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn every_learner_keeps_every_promise() {
        for info in registry() {
            conformance::check(&small(info.kind));
        }
    }

    #[test]
    fn the_registry_is_complete_and_cites_its_sources() {
        for info in registry() {
            assert!(info.paper.contains("arXiv") || info.paper.contains("http"), "{}", info.kind);
            assert!(!info.summary.is_empty() && info.example.starts_with("jobs/specs/"), "{}", info.kind);
        }
    }
}
