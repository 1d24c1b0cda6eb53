//! AdaptiveK: how many latents a row gets follows from how complex its context is. A ridge probe reads the
//! complexity s (0 to 10) off the activation, `k(x) = round(k_min + σ(6(s/10 − ½))·(k_max − k_min))`.
//!
//! `hiyukie/adaptiveK`. Labels are needed for a part of the calibration sample. After it the probe stays as it
//! is, unless a share of the steps at the end is joint: then it goes on learning from the labels of batches.

mod frozen;
mod joint;
mod probe;

use self::{
    frozen::AdaptiveDictionary,
    joint::{Joint, Labelled},
    probe::Probe,
};
use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{Beside, Columns, DictLearner, Dictionary, Mismatch, Role, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        frozen::Exported,
        objective::{Loss, Part, Unit},
        parameters::Parameters,
        spec::{k_of, positive, sae_config, share},
    },
    state::LearnerState,
};

sae_config! {
    /// `[learner] kind = "adaptivek"`.
    pub struct AdaptiveK {
        /// Latents of the simplest rows.
        #[serde(default = "k_min")]
        pub k_min: usize,
        /// Latents of the most complex rows.
        #[serde(default = "k_max")]
        pub k_max: usize,
        /// Column with the complexity of a row, from 0 up; null where nobody knows it.
        #[serde(default = "complexity")]
        pub complexity: String,
        /// The complexity of the most complex rows; half of it gets the middle of the range of k.
        #[serde(default = "most_complex")]
        pub most_complex: f64,
        /// Weight of `‖codes‖₁/‖x‖₂`.
        #[serde(default)]
        pub l1_weight: f64,
        /// Share of the steps, at the end, in which the probe learns from the labels of batches, too; 0.1 in
        /// the reference code. 0: it stays as the calibration sample made it.
        #[serde(default)]
        pub joint_share: f64,
        /// Learning rate of the probe in those steps.
        #[serde(default = "probe_lr")]
        pub probe_lr: f64,
        /// Weight of how far the probe is from what the sample made it, in those steps.
        #[serde(default = "deviation_weight")]
        pub deviation_weight: f64,
    }
}

fn probe_lr() -> f64 {
    1e-3
}

fn deviation_weight() -> f64 {
    0.2
}

fn k_min() -> usize {
    20
}

fn k_max() -> usize {
    320
}

fn complexity() -> String {
    "complexity".to_owned()
}

fn most_complex() -> f64 {
    10.0
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "adaptivek",
    family: "sparse autoencoder",
    summary: "TopK with a k per row, from the complexity of its context as a linear probe reads it",
    paper: "AdaptiveK, https://github.com/hiyukie/adaptiveK",
    columns: "complexity: a number 0 to 10 for some rows",
    modes: &["joint_share: the probe learns from batches at the end"],
    example: "jobs/specs/learners/adaptivek.toml",
    small: r#"{"kind": "adaptivek", "n_latents": 40, "k_min": 2, "k_max": 6, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for AdaptiveK {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let labels = setup.beside.first().map_or(&[][..], |labels| &labels[..]);
        // A learner that goes on from a checkpoint is built without a sample, and reads its probe there.
        let fit = || match setup.sample {
            [] => Some(Probe::unknown(setup.d_in)),
            sample => Probe::fit(sample, setup.d_in, labels),
        };
        let probe = setup.threads.install(fit).map(|probe| probe.of_ten(self.most_complex));
        let reason = "has no number in any row of the calibration sample: some rows must be labelled";
        let probe = probe.ok_or(Invalid { field: "complexity", reason })?;
        let joint = || Joint::new(probe.clone(), self.probe_lr, self.deviation_weight);
        let joint = (self.joint_share > 0.0).then(joint);
        Ok(Box::new(Sae::new(Adaptive { config: self.clone(), probe, joint }, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k_max, self.n_latents)
            .map_err(|_| Invalid { field: "k_max", reason: "must be between 1 and n_latents" })?;
        let fits = (1..=self.k_max).contains(&self.k_min);
        Invalid::unless(fits, "k_min", "must be between 1 and k_max")?;
        let most = self.most_complex;
        Invalid::unless(most.is_finite() && most > 0.0, "most_complex", "must be positive")?;
        share("joint_share", self.joint_share)?;
        positive("probe_lr", self.probe_lr)?;
        positive("deviation_weight", self.deviation_weight)?;
        positive("l1_weight", self.l1_weight)
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        None
    }

    fn columns(&self) -> Columns {
        Columns {
            inputs: Vec::new(),
            beside: vec![Beside { name: self.complexity.clone(), role: Role::Label }],
        }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

/// The variant with its probe.
#[derive(Debug)]
struct Adaptive {
    config: AdaptiveK,
    probe: Probe,
    /// How the probe learns, if it ever does.
    joint: Option<Joint>,
}

impl Adaptive {
    fn range(&self) -> (usize, usize) {
        (self.config.k_min, self.config.k_max)
    }

    /// A step of the probe, if this is one of the last steps.
    fn learn_probe<R: Real>(&mut self, loss: &Loss<R>) {
        let (step, config) = (&loss.step, &self.config);
        let (Some(joint), Some(labels)) = (&mut self.joint, step.beside.first()) else { return };
        if step.progress() >= 1.0 - config.joint_share {
            let (x, lanes, unit) = (step.x, step.lanes, 10.0 / config.most_complex);
            joint.step(&mut self.probe, &Labelled { x, labels, unit, lanes });
        }
    }

    /// `weight/rows · Σ‖codes‖₁/‖x‖₂`.
    fn penalise<R: Real>(&self, loss: &mut Loss<R>, part: &mut Part<R>) {
        let (d, rows) = (loss.step.parameters.d_in, loss.step.rows() as f64);
        let mut sum = 0f64;
        for (row, x) in loss.step.x.chunks_exact(d).enumerate() {
            let norm = x.iter().map(|&v| v.f64() * v.f64()).sum::<f64>().sqrt();
            let weight = if norm > 0.0 { self.config.l1_weight / rows / norm } else { 0.0 };
            for pair in part.codes.offsets[row]..part.codes.offsets[row + 1] {
                sum += weight * part.values[pair].f64();
                part.slope[pair] += R::of(weight);
            }
        }
        loss.add(sum);
    }
}

impl SaeVariant for Adaptive {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let latents = self.probe.latents(loss.step.x, self.range());
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.config.k_max));
        let (codes, values) = codes.largest(&values, |row| latents[row]);
        let mut main = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &main);
        if self.config.l1_weight > 0.0 {
            self.penalise(loss, &mut main);
        }
        loss.push(main);
        self.learn_probe(loss);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, scales: &Scales) -> Box<dyn Dictionary> {
        let probe = self.probe.unscaled(scales.first());
        #[allow(clippy::cast_possible_truncation, reason = "dictionaries are f32")]
        let single: Vec<f32> = probe.weights.iter().chain([&probe.intercept]).map(|&v| v as f32).collect();
        let (d, (k_min, k_max)) = (folded.d_in, self.range());
        let exported = Exported {
            architecture: "atomflow_adaptivek",
            cfg: serde_json::json!({ "k_min": k_min, "k_max": k_max }),
            tensors: vec![
                ("probe", vec![d], single[..d].to_vec()),
                ("probe_bias", vec![1], single[d..].to_vec()),
            ],
        };
        let threads = folded.threads.clone();
        let most = FrozenSae::with_export(Inference::TopK(k_max), folded, exported);
        Box::new(AdaptiveDictionary { most, probe, range: (k_min, k_max), threads })
    }

    fn save(&self, state: &mut LearnerState) {
        state.push_f64("probe", &self.probe.weights);
        state.push_f64("probe_bias", &[self.probe.intercept]);
        state.push_f64("probe_penalty", &[self.probe.penalty]);
        self.joint.iter().for_each(|joint| joint.save(state));
    }

    fn load(&mut self, state: &LearnerState) -> Result<(), Mismatch> {
        let weights = state.f64("probe", self.probe.weights.len())?;
        let intercept = state.f64("probe_bias", 1)?[0];
        let penalty = state.f64("probe_penalty", 1)?[0];
        self.joint = self.joint.as_ref().map(|joint| joint.read(state)).transpose()?;
        self.probe = Probe { weights, intercept, penalty };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
