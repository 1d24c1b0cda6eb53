//! End-to-end SAE: TopK codes whose loss somebody else computes, such as the change of a model's output
//! when the reconstruction takes the place of the activation.
//!
//! Braun et al. 2024 (*Identifying Functionally Important Features with End-to-End Sparse Dictionary
//! Learning*), `ApolloResearch/e2e_sae`. The model does not live here: x and x_hat go to another process
//! over a local socket, ∂loss/∂x_hat comes back (`docs/outside-loss.md`).

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{Beside, Columns, DictLearner, Dictionary, Role, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::Loss,
        outside::{Answer, Outside, Reconstruction},
        parameters::Parameters,
        spec::{k_of, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "e2e"`.
    pub struct E2e {
        /// Latents kept per row.
        pub k: usize,
        /// Where the other process listens: `unix:/path/to/socket`.
        pub outside: String,
        /// Columns of numbers that are sent along, such as `seq_id` and `pos`: which tokens these are.
        #[serde(default)]
        pub send: Vec<String>,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "e2e",
    family: "sparse autoencoder",
    summary: "TopK whose loss another process computes from the reconstruction (end-to-end SAE)",
    paper: "Braun et al. 2024, arXiv:2405.12241",
    columns: "outside: a process that answers; send: numbers",
    modes: &[],
    example: "jobs/specs/learners/e2e.toml",
    small: r#"{"kind": "e2e", "n_latents": 40, "k": 4, "outside": "unix:/none", "dead_after_tokens": 200}"#,
};

impl LearnerConfig for E2e {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let missing = Invalid { field: "outside", reason: "must name a socket that somebody answers on" };
        let outside = setup.outside.clone().ok_or(missing)?;
        let learner = Learner { k: self.k, outside, scale: setup.scales.first() };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        let named = self.outside.strip_prefix("unix:").is_some_and(|path| !path.is_empty());
        Invalid::unless(named, "outside", "must be `unix:` and the path of a socket")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        let label = |name: &String| Beside { name: name.clone(), role: Role::Label };
        Columns { inputs: Vec::new(), beside: self.send.iter().map(label).collect() }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }

    fn outside(&self) -> Option<String> {
        Some(self.outside.clone())
    }
}

/// The other side, and the scale that it does not know of.
#[derive(Debug)]
struct Learner {
    k: usize,
    outside: Outside,
    scale: f32,
}

impl Learner {
    /// Asks about `x_hat = x − e`. Without an answer the loss is not a number, which ends the learner.
    fn ask<R: Real>(&self, loss: &Loss<R>, e: &[R]) -> Answer {
        let step = loss.step;
        #[allow(clippy::cast_possible_truncation, reason = "the other side speaks f32")]
        let unscaled = |v: R| v.f64() as f32 / self.scale;
        let x: Vec<f32> = step.x.iter().map(|&x| unscaled(x)).collect();
        let x_hat: Vec<f32> = step.x.iter().zip(e).map(|(&x, &e)| unscaled(x - e)).collect();
        #[allow(clippy::cast_possible_truncation, reason = "the other side speaks f32")]
        let narrow = |column: &Vec<R>| column.iter().map(|v| v.f64() as f32).collect();
        let beside: Vec<Vec<f32>> = step.beside.iter().map(narrow).collect();
        let (d, number) = (step.parameters.d_in, step.number);
        let question = Reconstruction { step: number, d, x: &x, x_hat: &x_hat, beside: &beside };
        let nothing = || Answer { loss: f64::NAN, gradient: vec![0.0; x.len()] };
        self.outside.answer(&question).filter(|a| a.gradient.len() == x.len()).unwrap_or_else(nothing)
    }
}

impl SaeVariant for Learner {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, _: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.k));
        let (e, moments) = loss.unexplained(&codes, &values);
        loss.report(&codes, &values, moments.squared_norm);
        let answer = self.ask(loss, &loss.here(&e));
        loss.add(answer.loss);
        // The answer is about rows that are not scaled.
        let g: Vec<R> =
            answer.gradient.iter().map(|&g| R::of(f64::from(g) / f64::from(self.scale))).collect();
        loss.push_decoded(codes, &values, g);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(self.k), folded))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::skeleton::{
        golden::{self, Case, F, close},
        outside::OutsideLoss,
    };

    /// The squared error, divided by the number of rows: what a local SAE minimises.
    #[derive(Debug)]
    struct Local;

    impl OutsideLoss for Local {
        fn answer(&self, r: &Reconstruction) -> Option<Answer> {
            let rows = (r.x.len() / r.d) as f64;
            let e: Vec<f64> = r.x.iter().zip(r.x_hat).map(|(x, y)| f64::from(x - y)).collect();
            let loss = e.iter().map(|e| e * e).sum::<f64>() / rows;
            Some(Answer { loss, gradient: e.iter().map(|e| (-2.0 * e / rows) as f32).collect() })
        }
    }

    #[derive(Debug)]
    struct Silent;

    impl OutsideLoss for Silent {
        fn answer(&self, _: &Reconstruction) -> Option<Answer> {
            None
        }
    }

    fn learner(outside: Outside, scale: f32) -> Learner {
        Learner { k: 3, outside, scale }
    }

    /// The identity test: with −2Se as the answer it is the local SAE, whatever the scale.
    #[test]
    fn the_local_loss_from_outside_is_the_local_learner() {
        let case = Case::<f64>::default();
        let spec = serde_json::json!({ "n_latents": F, "k": 3 });
        let mut top_k: super::super::topk::TopK = serde_json::from_value(spec).unwrap();
        let local = case.run(&mut top_k);
        let factor = local.losses.scatter / golden::B as f64;
        let outside = case.run(&mut learner(Arc::new(Local), 1.0));
        close(outside.losses.total, local.losses.total * factor, 1e-6);
        for (a, b) in outside.gradients.iter().flatten().zip(local.gradients.iter().flatten()) {
            close(*a, b * factor, 1e-6);
        }
        assert_eq!(outside.nnz, local.nnz);
        // Rows that were multiplied by 4: the error is a sixteenth in the units of the data.
        let scaled = case.run(&mut learner(Arc::new(Local), 4.0));
        close(scaled.losses.total * 16.0, outside.losses.total, 1e-6);
        for (a, b) in scaled.gradients.iter().flatten().zip(outside.gradients.iter().flatten()) {
            close(*a * 16.0, *b, 1e-6);
        }
    }

    #[test]
    fn without_an_answer_the_loss_is_not_a_number() {
        assert!(Case::<f32>::default().run(&mut learner(Arc::new(Silent), 1.0)).losses.total.is_nan());
    }
}
