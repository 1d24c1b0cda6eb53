//! Gradient SAE: latents are selected by how much they are and by how much they matter downstream, given a
//! stored column with the gradient of the model's loss.
//!
//! Olmo et al. 2024 (*Features that Make a Difference: Leveraging Gradients for Improved Dictionary
//! Learning*). The score is `z + β·|z·⟨ĝ, atom⟩|`, ĝ the gradient divided by its norm, since gradients
//! differ in size from token to token; the paper's exact sign and scale were not available. Values stay
//! the pre-activations, and at harvest it is plain TopK. Scores are looked at among the 4·k largest
//! pre-activations, which costs 8·d·k instead of a second dense product.

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    codes::Codes,
    kernels::{
        Real,
        encode::{Selected, Selection},
        vector,
    },
    learner::{Beside, Columns, DictLearner, Dictionary, Role, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::Parameters,
        spec::{k_of, positive, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "gradient"`.
    pub struct Gradient {
        /// Latents kept per row.
        pub k: usize,
        /// The column with the gradient of the loss, as wide as the activation.
        pub gradient: String,
        /// How much influence counts beside size; 0 is TopK.
        #[serde(default = "one")]
        pub beta: f64,
    }
}

fn one() -> f64 {
    1.0
}

/// Candidates per latent kept.
const CANDIDATES: usize = 4;

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "gradient",
    family: "sparse autoencoder",
    summary: "TopK whose selection also looks at the gradient of the model's loss (g-SAE)",
    paper: "Olmo et al. 2024, arXiv:2411.10397",
    columns: "gradient: a vector",
    modes: &[],
    example: "jobs/specs/learners/gradient.toml",
    small: r#"{"kind": "gradient", "n_latents": 40, "k": 4, "gradient": "g", "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Gradient {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let width = setup.beside_widths.first().copied().unwrap_or(setup.d_in);
        Invalid::unless(width == setup.d_in, "gradient", "must name a column as wide as the activation")?;
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        positive("beta", self.beta)?;
        Invalid::unless(!self.gradient.is_empty(), "gradient", "must name a column of vectors")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        let gradient = Beside { name: self.gradient.clone(), role: Role::Gradient };
        Columns { inputs: Vec::new(), beside: vec![gradient] }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

impl Gradient {
    /// `z + β·|z·⟨ĝ, atom⟩|` of every candidate.
    fn scores<R: Real>(&self, loss: &mut Loss<R>, codes: &Codes, values: &[R]) -> Vec<R> {
        let step = loss.step;
        let (gradient, d) = (&step.beside[0], step.parameters.d_in);
        let along = loss.against_atoms(codes, gradient).along_atoms;
        let norms = vector::norms_on(step.path, gradient, d);
        let mut scores = Vec::with_capacity(values.len());
        for (row, &norm) in norms.iter().enumerate() {
            let beta = if norm > R::ZERO { R::of(self.beta) / norm } else { R::ZERO };
            for pair in codes.offsets[row]..codes.offsets[row + 1] {
                let influence = values[pair] * along[pair];
                let size = if influence < R::ZERO { -influence } else { influence };
                scores.push(values[pair] + beta * size);
            }
        }
        scores
    }
}

impl SaeVariant for Gradient {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let candidates = CANDIDATES * self.k;
        let Selected { codes, values, .. } = loss.select(Selection::TopK(candidates));
        let scores = self.scores(loss, &codes, &values);
        let (codes, values) = codes.largest_by(&scores, &values, |_| self.k);
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(self.k), folded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skeleton::golden::{self, B, Case, D, F, fill};

    fn learner(beta: f64) -> Gradient {
        let spec = serde_json::json!({ "n_latents": F, "k": 3, "gradient": "g", "beta": beta });
        serde_json::from_value(spec).unwrap()
    }

    fn case<R: Real>(size: f64) -> Case<R> {
        Case { beside: vec![fill(30, B * D, size)], ..Case::default() }
    }

    #[test]
    fn without_gradient_or_weight_it_is_top_k() {
        let spec = serde_json::json!({ "n_latents": F, "k": 3 });
        let mut top_k: super::super::topk::TopK = serde_json::from_value(spec).unwrap();
        let expected = case::<f64>(1.0).run(&mut top_k);
        assert_eq!(case::<f64>(1.0).run(&mut learner(0.0)), expected);
        assert_eq!(case::<f64>(0.0).run(&mut learner(5.0)), expected);
        assert_ne!(case::<f64>(1.0).run(&mut learner(5.0)), expected);
    }

    #[test]
    fn gradients_equal_central_differences() {
        let case = case::<f64>(1.0);
        let outcome = case.run(&mut learner(2.0));
        golden::central_differences(&case, &outcome.gradients, &[], |c| {
            c.run(&mut learner(2.0)).losses.total
        });
        golden::paths_and_lanes(&self::case(1.0), &case, || Box::new(learner(2.0)));
    }

    /// Two latents of equal size: the one that the loss depends on is taken.
    #[test]
    fn the_gradient_decides_between_equals() {
        for relevant in [0usize, 1] {
            let mut case = Case::<f64> { x: vec![0.0; D], lanes: vec![0, 1], ..Case::default() };
            let p = &mut case.parameters;
            p.b_dec.value.fill(0.0);
            p.b_enc.value.fill(0.0);
            p.w_enc.value.fill(0.0);
            p.w_dec.value.fill(0.0);
            for latent in [0, 1] {
                p.w_enc.value[latent * D + latent] = 0.5;
                p.w_dec.value[latent * D + latent] = 1.0;
            }
            (case.x[0], case.x[1]) = (1.0, 1.0);
            let mut gradient = vec![0.0; D];
            gradient[relevant] = -0.3;
            case.beside = vec![gradient];
            let outcome = case.run(&mut Gradient { k: 1, ..learner(1.0) });
            // The gradient of the bias is not zero for the chosen latent alone.
            assert_ne!(outcome.gradients[0][relevant * D + (1 - relevant)], 0.0);
            assert_eq!(outcome.gradients[0][(1 - relevant) * D..][..D], [0.0; D]);
        }
    }
}
