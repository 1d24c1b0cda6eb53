//! One file per learner, one line each in the registry at the end.

pub mod absent;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::learner::{Columns, DictLearner, Role, Setup};

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
    /// The columns it reads beside the activations, or what else it needs; empty: nothing.
    pub columns: &'static str,
    /// Ways to use it that its fields choose.
    pub modes: &'static [&'static str],
    /// An example spec.
    pub example: &'static str,
    /// Its table with a few latents, as JSON: what the conformance suite learns with.
    #[serde(skip)]
    pub small: &'static str,
}

impl LearnerInfo {
    /// Why its small example learns on the CPU alone, if it does.
    pub fn cpu_only(&self) -> Option<&'static str> {
        serde_json::from_str::<LearnerSpec>(self.small).ok().and_then(|spec| spec.cpu_only())
    }
}

/// The table `[learner]` of one kind: what a variant's file gives the registry.
pub trait LearnerConfig {
    /// A learner at its start.
    ///
    /// # Errors
    /// A field is out of range.
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid>;

    /// Checks the fields against each other and the width of the data.
    ///
    /// # Errors
    /// The first field that is out of range.
    fn validate(&self, d_in: usize) -> Result<(), Invalid>;

    /// Number of latents; the most there can be, if the learner decides.
    fn n_latents(&self) -> usize;

    /// Latents per row by construction; `None` if the learner fixes none.
    fn k(&self) -> Option<usize>;

    /// The columns it reads.
    fn columns(&self) -> Columns {
        Columns::default()
    }

    /// URLs of files it reads before the first step.
    fn files(&self) -> Vec<String> {
        Vec::new()
    }

    /// Where somebody listens who computes its loss.
    fn outside(&self) -> Option<String> {
        None
    }

    /// Why no coder can take the place of its encoder, where its reconstruction is not a sum of atoms.
    fn uncodable(&self) -> Option<&'static str> {
        None
    }

    /// Why it learns on the CPU alone. A kind whose steps ask for weights and rows by [`Loss`] only, and
    /// never read them, says `None` and learns on cards, too.
    ///
    /// [`Loss`]: crate::skeleton::objective::Loss
    fn cpu_only(&self) -> Option<&'static str> {
        Some("its steps are its own, and the processor's alone")
    }

    /// Numbers as large as the target of a batch that a step holds at once on a card: what its codes leave.
    fn residuals(&self) -> usize {
        2
    }
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
            fn config(&self) -> &dyn LearnerConfig {
                match self { $(LearnerSpec::$config(config) => config,)* }
            }

            /// The word in `[learner] kind`.
            pub fn kind(&self) -> &'static str {
                match self { $(LearnerSpec::$config(_) => $module::INFO.kind,)* }
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
    batchtopk::BatchTopK,
    abstopk::AbsTopK,
    relu::Relu,
    jumprelu::JumpRelu,
    gated::Gated,
    panneal::PAnneal,
    matryoshka::Matryoshka,
    archetypal::Archetypal,
    kron::Kron,
    mp::Mp,
    adaptivek::AdaptiveK,
    vsae::VSae,
    csr::Csr,
    discrete::Discrete,
    transcoder::Transcoder,
    crosscoder::Crosscoder,
    gradient::Gradient,
    guided::Guided,
    boost::Boost,
    recommender::Recommender,
    e2e::E2e,
    bilinear::Bilinear,
    mairal::Mairal,
    masked::Masked,
    deep::Deep,
    supervised::Supervised,
    itda::Itda,
    snmf::Snmf,
    odl::Odl,
    bsc::Bsc,
    tsc::Tsc,
    gsc::Gsc,
}

impl LearnerSpec {
    /// A learner at its start.
    ///
    /// # Errors
    /// A field is out of range.
    pub fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        self.validate(setup.d_in)?;
        self.config().build(setup)
    }

    /// Checks the fields against each other and the width of the data.
    ///
    /// # Errors
    /// The first field that is out of range.
    pub fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.config().validate(d_in)
    }

    /// Number of latents; the most there can be, if the learner decides.
    pub fn n_latents(&self) -> usize {
        self.config().n_latents()
    }

    /// Latents per row by construction; `None` if the learner fixes none.
    pub fn k(&self) -> Option<usize> {
        self.config().k()
    }

    /// The columns it reads.
    pub fn columns(&self) -> Columns {
        self.config().columns()
    }

    /// URLs of files it reads before the first step.
    pub fn files(&self) -> Vec<String> {
        self.config().files()
    }

    /// Where somebody listens who computes its loss.
    pub fn outside(&self) -> Option<String> {
        self.config().outside()
    }

    /// Why no coder can take the place of its encoder ([`crate::coders::Recoded`]), if none can.
    pub fn uncodable(&self) -> Option<&'static str> {
        let targets = self.columns().beside.into_iter().any(|beside| beside.role == Role::Target);
        let target = targets.then_some("it reconstructs another column than the one it reads");
        target.or_else(|| self.config().uncodable())
    }
}

impl LearnerSpec {
    /// Why it learns on the CPU alone, if it does.
    pub fn cpu_only(&self) -> Option<&'static str> {
        self.config().cpu_only()
    }

    /// Numbers as large as the target of a batch that a step holds at once on a card.
    pub fn residuals(&self) -> usize {
        self.config().residuals()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    /// A small learner of every kind, as the kind itself says.
    #[test]
    fn every_learner_keeps_every_promise() {
        for info in registry() {
            let spec: LearnerSpec = serde_json::from_str(info.small).unwrap();
            assert_eq!(spec.kind(), info.kind);
            conformance::check(&spec);
        }
    }

    #[test]
    fn the_registry_is_complete_and_cites_its_sources() {
        for info in registry() {
            assert!(
                info.paper.contains("arXiv") || info.paper.contains("http") || info.paper.contains("doi"),
                "{}",
                info.kind
            );
            assert!(!info.summary.is_empty() && info.example.starts_with("jobs/specs/"), "{}", info.kind);
        }
    }
}
