//! Transcoder: reconstructs one column from the sparse code of another, such as an MLP's output from its
//! input; with `skip`, a dense linear map goes beside the code.
//!
//! Dunefsky et al. 2024 (*Transcoders find interpretable LLM feature circuits*); Paulo et al. 2025
//! (*Transcoders beat sparse autoencoders*: skip transcoders).

use std::borrow::Cow;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::{
        Path, Real,
        encode::{Selected, Selection},
        product::Panels,
    },
    learner::{
        ActivationBatch, Beside, Columns, DictLearner, Dictionary, LinearEncoder, Mismatch, Role, Scales,
        Setup,
    },
    linear::product::cross,
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        frozen::Exported,
        objective::{Loss, Part, Unit},
        parameters::{Extra, Parameters},
        spec::{k_of, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "transcoder"`.
    pub struct Transcoder {
        /// Latents kept per row.
        pub k: usize,
        /// The column that is reconstructed.
        pub target: String,
        /// Adds a dense linear map from the input to the reconstruction.
        #[serde(default)]
        pub skip: bool,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "transcoder",
    family: "sparse autoencoder",
    summary: "reconstructs another column from a TopK code of the input; optionally with a dense skip",
    paper: "Dunefsky et al. 2024, arXiv:2406.11944; Paulo et al. 2025, arXiv:2501.18823",
    columns: "target: a vector",
    modes: &["skip: a dense linear map beside the code"],
    example: "jobs/specs/learners/transcoder.toml",
    small: r#"{"kind": "transcoder", "n_latents": 40, "k": 4, "target": "y", "skip": true, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Transcoder {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let width = setup.beside_widths.first().copied().unwrap_or(setup.d_in);
        let learner = Learner { config: self.clone(), width };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        Invalid::unless(!self.target.is_empty(), "target", "must name a column of vectors")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        let target = Beside { name: self.target.clone(), role: Role::Target };
        Columns { inputs: Vec::new(), beside: vec![target] }
    }
}

/// The settings and the width of the target.
#[derive(Debug)]
struct Learner {
    config: Transcoder,
    width: usize,
}

impl Learner {
    /// What the dense map leaves of the target: the code explains that.
    fn unexplained<R: Real>(&self, loss: &Loss<R>) -> Vec<R> {
        let (step, mut left) = (loss.step, vec![R::ZERO; loss.step.target.len()]);
        let map = Panels::of_rows(step.parameters.extra(0), step.parameters.d_in);
        map.times(step.path, step.x, &mut left);
        left.iter_mut().zip(step.target).for_each(|(left, &y)| *left = y - *left);
        left
    }

    /// ∂loss/∂map = Σ g xᵀ, g the gradient of what is reconstructed.
    fn map_gradient<R: Real>(&self, loss: &mut Loss<R>, part: &Part<R>) {
        let (step, rate) = (loss.step, part.rate());
        let sum = cross(step.path, step.lanes, (&part.e, self.width), (step.x, step.parameters.d_in));
        loss.extra_gradient(0).iter_mut().zip(sum).for_each(|(total, sum)| *total += rate * sum);
    }
}

impl SaeVariant for Learner {
    fn target<'b>(&self, batch: &ActivationBatch<'b>) -> Option<(usize, Cow<'b, [f32]>)> {
        batch.beside.first().map(|target| (self.width, Cow::Borrowed(&target[..])))
    }

    fn begin(&mut self, parameters: &mut Parameters<f32>, setup: &Setup) -> Vec<Extra<f32>> {
        let shape = vec![parameters.d_out(), setup.d_in];
        let map = Extra::new("skip", shape, vec![0.0; parameters.d_out() * setup.d_in]);
        if self.config.skip { vec![map] } else { Vec::new() }
    }

    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.config.k));
        let scale = loss.scale(Unit::Variance);
        let part = if self.config.skip {
            let left = self.unexplained(loss);
            let part = loss.reconstruct_from(&left, codes, values, scale);
            self.map_gradient(loss, &part);
            part
        } else {
            loss.reconstruct(codes, values, scale)
        };
        aux.add(loss, &part);
        loss.push(part);
    }

    fn freeze(&self, p: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        let (scale, target) = (scales.first(), scales.beside.first().copied().unwrap_or(1.0));
        // Codes are in units of the input, atoms bring them to those of the target.
        let ratio = scale / target;
        let w_dec = folded.w_dec.iter().map(|v| v * ratio).collect();
        let b_dec = p.b_dec.value.iter().map(|v| v / target).collect();
        let folded = FrozenParameters { w_dec, b_dec, ..folded };
        let skip = self.config.skip.then(|| p.extra(0).iter().map(|v| v * ratio).collect::<Vec<f32>>());
        let inference = Inference::TopK(self.config.k);
        let mut exported = Exported::of(&inference, folded.b_enc.len());
        exported.architecture = if skip.is_some() { "skip_transcoder" } else { "transcoder" };
        if let Some(map) = &skip {
            exported.tensors.push(("W_skip", vec![self.width, folded.d_in], map.clone()));
        }
        Box::new(Frozen { sae: FrozenSae::with_export(inference, folded, exported), skip })
    }
}

/// A transcoder that no longer changes.
#[derive(Debug)]
struct Frozen {
    sae: FrozenSae,
    /// `[d_out, d_in]`.
    skip: Option<Vec<f32>>,
}

impl Dictionary for Frozen {
    fn d_in(&self) -> usize {
        self.sae.d_in()
    }

    fn d_out(&self) -> usize {
        self.sae.d_out()
    }

    fn n_latents(&self) -> usize {
        self.sae.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.sae.encode(x)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.sae.decode(codes, x_hat);
    }

    fn reconstruct(&self, x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
        self.decode(codes, x_hat);
        let Some(map) = &self.skip else { return };
        let mut around = vec![0f32; x_hat.len()];
        self.sae.parameters().threads.install(|| {
            Panels::of_rows(map, self.d_in()).times(Path::best(), x, &mut around);
        });
        x_hat.iter_mut().zip(around).for_each(|(x_hat, more)| *x_hat += more);
    }

    fn atoms(&self) -> &[f32] {
        self.sae.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.sae.linear_encoder()
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        self.sae.export()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::skeleton::golden::{self, B, Case, D, F, close, fill};

    const OUT: usize = 4;

    fn learner(skip: bool) -> Learner {
        let spec = serde_json::json!({ "n_latents": F, "k": 3, "target": "y", "skip": skip });
        Learner { config: serde_json::from_value(spec).unwrap(), width: OUT }
    }

    fn case<R: Real>(skip: bool) -> Case<R> {
        let mut case = Case::<R> { target: Some(fill(20, B * OUT, 1.0)), ..Case::default() };
        let p = &mut case.parameters;
        p.pre_bias = false;
        p.w_dec = crate::skeleton::parameters::Parameter::new(fill(21, F * OUT, 0.7));
        p.b_dec = crate::skeleton::parameters::Parameter::new(fill(22, OUT, 0.1));
        if skip { case.extra("skip", fill(23, OUT * D, 0.3)) } else { case }
    }

    #[test]
    fn gradients_equal_central_differences() {
        for skip in [false, true] {
            let case = case::<f64>(skip);
            let outcome = case.run(&mut learner(skip));
            let loss = |c: &Case<f64>| c.run(&mut learner(skip)).losses.total;
            golden::central_differences(&case, &outcome.gradients, &[], loss);
            golden::paths_and_lanes(&self::case(skip), &case, || Box::new(learner(skip)));
        }
    }

    /// The rows themselves as target, and the same weights: an autoencoder without pre-bias.
    #[test]
    fn the_input_as_target_is_an_autoencoder() {
        let mut case = Case::<f64>::default();
        case.parameters.pre_bias = false;
        let spec = serde_json::json!({ "n_latents": F, "k": 3 });
        let mut top_k: super::super::topk::TopK = serde_json::from_value(spec).unwrap();
        let expected = case.run(&mut top_k);
        let outcome =
            Case { target: Some(case.x.clone()), ..case }.run(&mut Learner { width: D, ..learner(false) });
        assert_eq!(outcome, expected);
    }

    /// A code of zeros: the skip alone is linear regression, and a step along its gradient lowers the loss.
    #[test]
    fn the_skip_is_learned() {
        let mut case = case::<f64>(true);
        let before = case.run(&mut learner(true));
        for (value, g) in case.parameters.extras[0].parameter.value.iter_mut().zip(&before.gradients[4]) {
            *value -= 0.02 * g;
        }
        assert!(case.run(&mut learner(true)).losses.total < before.losses.total);
        close(before.losses.aux, 0.0, 0.0);
    }
}
