//! Guided SAE: the first latents are reserved for labelled concepts and learn to predict their labels,
//! beside reconstructing like all others.
//!
//! Härle et al. 2025 (*Measuring and Guiding Monosemanticity*), `ml-research/measuring-and-guiding-monosemanticity`.
//! The loss is `‖e‖²/variance + γ·Σ_c BCE(σ(z_c), y_c)`, dense over the reserved latents; rows without a
//! label are left out of its term. Selection is plain TopK.

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
    /// `[learner] kind = "guided"`.
    pub struct Guided {
        /// Latents kept per row.
        pub k: usize,
        /// Columns of labels, true or false (or 1 and 0; null is unknown). The i-th guides latent i.
        pub labels: Vec<String>,
        /// Weight γ of the labels.
        #[serde(default = "gamma")]
        pub gamma: f64,
        /// Weight of positive rows, for labels that are rarely true.
        #[serde(default = "one")]
        pub positive_weight: f64,
    }
}

fn gamma() -> f64 {
    0.1
}

fn one() -> f64 {
    1.0
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "guided",
    family: "sparse autoencoder",
    summary: "TopK whose first latents learn labelled concepts (G-SAE)",
    paper: "Härle et al. 2025, arXiv:2506.19382",
    columns: "labels: truth values",
    modes: &[],
    example: "jobs/specs/learners/guided.toml",
    small: r#"{"kind": "guided", "n_latents": 40, "k": 4, "labels": ["p", "q"], "dead_after_tokens": 200}"#,
};

impl LearnerConfig for Guided {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let one_each = setup.beside_widths.iter().all(|&width| width == 1);
        Invalid::unless(one_each, "labels", "must name columns of one truth value per row")?;
        let known = |labels: &Vec<f32>| labels.is_empty() || labels.iter().any(|&y| knows(f64::from(y)));
        let all = setup.beside.iter().all(known);
        Invalid::unless(all, "labels", "has a column without true, false, 0 or 1 in the calibration sample")?;
        Ok(Box::new(Sae::new(self.clone(), &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        positive("gamma", self.gamma)?;
        positive("positive_weight", self.positive_weight)?;
        let named = !self.labels.is_empty() && self.labels.iter().all(|name| !name.is_empty());
        Invalid::unless(named, "labels", "must name at least one column")?;
        Invalid::unless(self.labels.len() <= self.n_latents, "labels", "must not be more than n_latents")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn columns(&self) -> Columns {
        let label = |name: &String| Beside { name: name.clone(), role: Role::Label };
        Columns { inputs: Vec::new(), beside: self.labels.iter().map(label).collect() }
    }

    fn cpu_only(&self) -> Option<&'static str> {
        None
    }
}

/// Whether a number is a label: a truth value, or the probability of one.
fn knows(label: f64) -> bool {
    (0.0..=1.0).contains(&label)
}

impl Guided {
    /// Adds the cross-entropy of the reserved latents' pre-activations.
    fn guide<R: Real>(&self, loss: &mut Loss<R>) {
        let (step, p) = (loss.step, loss.step.parameters);
        let weight = self.gamma / step.rows() as f64;
        let (mut codes, mut slopes, mut sum) = (Codes::new(p.n_latents()), Vec::new(), 0f64);
        let mut centred = vec![R::ZERO; p.d_in];
        #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
        let reserved: Vec<u32> = (0..step.beside.len() as u32).collect();
        let (rows, biases) = loss.encoder(&reserved);
        for (row, x) in step.x.chunks_exact(p.d_in).enumerate() {
            for ((to, &x), &centre) in centred.iter_mut().zip(x).zip(loss.centre()) {
                *to = x - centre;
            }
            let mut pairs = Vec::new();
            for (latent, labels) in step.beside.iter().enumerate() {
                let Some(y) = labels.get(row).map(|y| y.f64()).filter(|&y| knows(y)) else { continue };
                let z = vector::dot(&centred, &rows[latent * p.d_in..][..p.d_in]) + biases[latent];
                let (cost, slope) = cross_entropy(z.f64(), y, self.positive_weight);
                sum += weight * cost;
                slopes.push(R::of(weight * slope));
                #[allow(clippy::cast_possible_truncation, reason = "latents are counted in u32")]
                pairs.push((latent as u32, 1.0));
            }
            codes.push_row(pairs);
        }
        loss.add(sum);
        loss.push_encoder(&codes, &slopes);
    }
}

/// `−w·y·ln σ(z) − (1 − y)·ln(1 − σ(z))` and its derivative, without overflow.
fn cross_entropy(z: f64, y: f64, positive: f64) -> (f64, f64) {
    // ln σ(z) = −softplus(−z).
    let softplus = |v: f64| v.max(0.0) + (-v.abs()).exp().ln_1p();
    let sigma = 1.0 / (1.0 + (-z).exp());
    let cost = positive * y * softplus(-z) + (1.0 - y) * softplus(z);
    (cost, (1.0 - y) * sigma - positive * y * (1.0 - sigma))
}

impl SaeVariant for Guided {
    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.k));
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
        if self.gamma > 0.0 {
            self.guide(loss);
        }
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        Box::new(FrozenSae::new(Inference::TopK(self.k), folded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        learner::ActivationBatch,
        planted,
        skeleton::golden::{self, B, Case, F, close},
        threads::Threads,
    };

    fn learner(gamma: f64) -> Guided {
        let spec = serde_json::json!({ "n_latents": F, "k": 3, "labels": ["y"], "gamma": gamma });
        serde_json::from_value(spec).unwrap()
    }

    fn case<R: Real>(labels: [f64; B]) -> Case<R> {
        Case { beside: vec![labels.map(R::of).to_vec()], ..Case::default() }
    }

    #[test]
    fn golden_cross_entropy() {
        let outcome = case::<f64>([1.0, 0.0, 1.0, 0.0, 1.0]).run(&mut learner(1.0));
        close(outcome.losses.penalty, 0.793_441_55, 5e-9);
    }

    #[test]
    fn gradients_equal_central_differences_and_missing_labels_are_left_out() {
        for labels in [[1.0, 0.0, 1.0, 0.0, 1.0], [1.0, f64::NAN, 0.0, f64::NAN, 1.0]] {
            let case = case::<f64>(labels);
            let outcome = case.run(&mut learner(0.7));
            golden::central_differences(&case, &outcome.gradients, &[], |c| {
                c.run(&mut learner(0.7)).losses.total
            });
            golden::paths_and_lanes(&self::case(labels), &case, || Box::new(learner(0.7)));
        }
        let unknown = case::<f64>([f64::NAN; B]).run(&mut learner(0.7));
        assert_eq!(unknown.losses.penalty, 0.0);
    }

    #[test]
    fn without_weight_it_is_top_k() {
        let spec = serde_json::json!({ "n_latents": F, "k": 3 });
        let mut top_k: super::super::topk::TopK = serde_json::from_value(spec).unwrap();
        let case = case::<f64>([1.0; B]);
        assert_eq!(case.run(&mut learner(0.0)), case.run(&mut top_k));
    }

    /// A label that is true where a planted atom is active: the reserved latent separates it.
    #[test]
    fn a_planted_label_is_learned() {
        let atoms = planted::atoms();
        let label = |x: &[f32]| {
            let active = |row: &[f32]| f32::from(u8::from(vector::dot(row, &atoms[..planted::D]) > 0.45));
            vec![x.chunks(planted::D).map(active).collect::<Vec<f32>>()]
        };
        let spec = serde_json::json!({
            "n_latents": 64, "k": 4, "labels": ["y"], "gamma": 1.0, "schedule": { "lr": 2e-3 },
        });
        let spec: Guided = serde_json::from_value(spec).unwrap();
        let sample = planted::batch(&atoms, 9999);
        let (beside, threads) = (label(&sample), Threads::new(0).unwrap());
        let setup = Setup {
            beside: &beside,
            beside_widths: &[1],
            ..Setup::plain(&planted::D, 800, 1, &sample, threads)
        };
        let mut learner = spec.build(&setup).unwrap();
        for step in 0..800 {
            let x = planted::batch(&atoms, step % 16);
            learner.step(&ActivationBatch::new(&x, &[0, planted::ROWS]).with_beside(&label(&x)));
        }
        let dictionary = learner.freeze(&Scales::of(1.0));
        let linear = dictionary.linear_encoder().unwrap();
        let x = planted::batch(&atoms, 500);
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        for (row, y) in x.chunks(planted::D).zip(&label(&x)[0]) {
            let z = vector::dot(row, &linear.rows[..planted::D]);
            if *y > 0.5 { positive.push(z) } else { negative.push(z) }
        }
        let wins = positive.iter().map(|p| negative.iter().filter(|n| p > n).count()).sum::<usize>();
        let auc = wins as f64 / (positive.len() * negative.len()) as f64;
        assert!(auc >= 0.99, "AUC {auc}");
    }

    #[test]
    fn labels_that_are_no_truth_values_are_refused() {
        let sample = vec![0.5; 2 * F];
        let build = |labels: [f32; 2]| {
            let beside = [labels.to_vec()];
            let threads = Threads::new(1).unwrap();
            let setup =
                Setup { beside: &beside, beside_widths: &[1], ..Setup::plain(&F, 10, 1, &sample, threads) };
            learner(1.0).build(&setup).err().map(|e| e.field)
        };
        assert_eq!(build([2.5, f32::NAN]), Some("labels"));
        assert_eq!(build([1.0, f32::NAN]), None);
    }
}
