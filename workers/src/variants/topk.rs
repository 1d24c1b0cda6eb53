//! TopK with AuxK: `codes = ReLU(TopK_k(pre_acts))`. L0 is set, not bargained for.
//!
//! Makhzani & Frey 2013 (k-sparse autoencoders); Gao et al. 2024 (*Scaling and evaluating sparse
//! autoencoders*), `openai/sparse_autoencoder`. The residual of the auxiliary loss is detached.

use std::sync::OnceLock;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    codes::Codes,
    export::{self, ExportedFile},
    kernels::{
        Path,
        encode::{Encoder, Quantised, Selection},
        gather,
    },
    learner::{DictLearner, Dictionary, LinearEncoder, Mismatch, Setup},
    skeleton::{
        Sae, SaeVariant, SkeletonSpec, objective::Objective, sae::FrozenParameters, schedule::ScheduleSpec,
    },
};

/// `[learner] kind = "topk"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// Number of latents.
    pub n_latents: usize,
    /// Latents kept per row.
    pub k: usize,
    /// Weight of the auxiliary loss that revives dead latents; 0 turns it off.
    #[serde(default = "aux_coefficient")]
    pub aux_coefficient: f64,
    /// Dead latents that may explain the residual of a row. Left out: the power of two nearest d_in / 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k_aux: Option<usize>,
    /// Learning rate.
    #[serde(default)]
    pub schedule: ScheduleSpec,
    /// A latent that has not fired for this many tokens is dead.
    #[serde(default = "dead_after_tokens")]
    pub dead_after_tokens: u64,
}

/// Gao et al. 2024, §A.2.
fn aux_coefficient() -> f64 {
    1.0 / 32.0
}

fn dead_after_tokens() -> u64 {
    SkeletonSpec::default().dead_after_tokens
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "topk",
    family: "sparse autoencoder",
    summary: "keeps the k largest pre-activations of a row; AuxK revives dead latents",
    paper: "Gao et al. 2024, arXiv:2406.04093; Makhzani & Frey 2013, arXiv:1312.5663",
    columns: "",
    modes: &[],
    example: "jobs/specs/quickstart.toml",
    small: r#"{"kind": "topk", "n_latents": 40, "k": 4, "dead_after_tokens": 200}"#,
};

impl LearnerConfig for TopK {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let skeleton =
            SkeletonSpec { schedule: self.schedule.clone(), dead_after_tokens: self.dead_after_tokens };
        Ok(Box::new(Sae::new(self.clone(), self.n_latents, &skeleton, setup)))
    }

    fn validate(&self, _d_in: usize) -> Result<(), Invalid> {
        let n = self.n_latents;
        Invalid::unless(n > 0 && n < u32::MAX as usize, "n_latents", "must be between 1 and 2^32 − 2")?;
        Invalid::unless(self.k > 0 && self.k <= n, "k", "must be between 1 and n_latents")?;
        Invalid::unless(self.k_aux.is_none_or(|k| k <= n), "k_aux", "must not exceed n_latents")?;
        let alpha = self.aux_coefficient;
        Invalid::unless(alpha.is_finite() && alpha >= 0.0, "aux_coefficient", "must be 0 or positive")?;
        let lr = self.schedule.lr.unwrap_or(1.0);
        Invalid::unless(lr.is_finite() && lr > 0.0, "schedule.lr", "must be positive")?;
        let shares = self.schedule.warmup_share + self.schedule.decay_share;
        let fine = self.schedule.warmup_share >= 0.0 && self.schedule.decay_share >= 0.0 && shares <= 1.0;
        Invalid::unless(
            fine,
            "schedule",
            "warmup_share and decay_share must be positive and at most 1 together",
        )
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }
}

impl SaeVariant for TopK {
    fn objective(&self, d_in: usize) -> Objective {
        Objective {
            k: self.k,
            aux_coefficient: self.aux_coefficient,
            k_aux: self.k_aux.unwrap_or_else(|| k_aux_rule(d_in)).min(self.n_latents),
            per_variance: true,
        }
    }

    fn freeze(&self, parameters: FrozenParameters) -> Box<dyn Dictionary> {
        Box::new(FrozenTopK::new(self.k, parameters))
    }
}

/// The power of two nearest `d_in / 2` (Gao et al. 2024, §A.2), the lower one in a tie.
fn k_aux_rule(d_in: usize) -> usize {
    let half = (d_in / 2).max(1);
    let below = 1usize << half.ilog2();
    if half - below <= 2 * below - half { below } else { 2 * below }
}

/// A TopK dictionary that no longer changes.
#[derive(Debug)]
pub struct FrozenTopK {
    k: usize,
    path: Path,
    parameters: FrozenParameters,
    /// Made from the first rows, kept for all blocks.
    quantised: OnceLock<Option<Quantised>>,
}

impl FrozenTopK {
    /// With `k` latents kept per row.
    pub fn new(k: usize, parameters: FrozenParameters) -> Self {
        FrozenTopK { k, path: Path::best(), parameters, quantised: OnceLock::new() }
    }
}

impl Dictionary for FrozenTopK {
    fn d_in(&self) -> usize {
        self.parameters.d_in
    }

    fn n_latents(&self) -> usize {
        self.parameters.b_enc.len()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        let p = &self.parameters;
        let mut encoder = Encoder::all(&p.w_enc, &p.b_enc, p.d_in);
        let screen = p.threads.screen();
        p.threads.install(|| {
            if screen.available() {
                let made = self.quantised.get_or_init(|| encoder.quantise(self.path, x, &p.b_dec));
                encoder = made.as_ref().map_or(encoder, |quantised| encoder.with(quantised));
            }
            encoder.select(self.path, screen, x, &p.b_dec, Selection::TopK(self.k)).codes
        })
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        let p = &self.parameters;
        p.threads.install(|| gather::decode(self.path, codes, &codes.values, &p.w_dec, &p.b_dec, x_hat));
    }

    fn atoms(&self) -> &[f32] {
        &self.parameters.w_dec
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        Some(LinearEncoder { rows: &self.parameters.w_enc, bias: &self.parameters.b_enc })
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        let extra = json!({ "k": self.k, "rescale_acts_by_decoder_norm": false });
        export::sae_lens(&self.parameters, "topk", &extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        kernels::vector,
        learner::{ActivationBatch, Scales},
        random::{hash, unit},
        threads::Threads,
    };

    #[test]
    fn k_aux_is_the_power_of_two_nearest_half_the_width() {
        assert_eq!([576, 384, 768, 4096, 1].map(k_aux_rule), [256, 128, 256, 2048, 1]);
    }

    const D: usize = 64;
    const ATOMS: usize = 128;
    const ROWS: usize = 1024;

    fn normal(words: &[u64]) -> f64 {
        let (u, v) = (unit(hash(&[words, &[0]].concat())), unit(hash(&[words, &[1]].concat())));
        (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Unit-norm Gaussian atoms.
    fn planted() -> Vec<f32> {
        let mut atoms: Vec<f32> = (0..ATOMS * D).map(|i| normal(&[1, i as u64]) as f32).collect();
        atoms.chunks_mut(D).for_each(vector::normalize);
        atoms
    }

    /// Four planted atoms per row with coefficients in (0.5, 1.5), and noise of 0.01.
    fn batch(atoms: &[f32], step: u64) -> Vec<f32> {
        let mut x: Vec<f32> = (0..ROWS * D).map(|i| 0.01 * normal(&[2, step, i as u64]) as f32).collect();
        for (r, row) in x.chunks_mut(D).enumerate() {
            let mut order: Vec<u64> = (0..ATOMS as u64).collect();
            for i in 0..4 {
                order.swap(i, i + (hash(&[3, step, r as u64, i as u64]) % (ATOMS - i) as u64) as usize);
                let a = order[i];
                let c = 0.5 + unit(hash(&[4, step, r as u64, a]));
                vector::axpy(c as f32, &atoms[a as usize * D..][..D], row);
            }
        }
        x
    }

    /// Mean over planted atoms of the largest cosine to a learned one.
    fn mmcs(planted: &[f32], learned: &[f32]) -> f32 {
        let best = |a: &[f32]| learned.chunks(D).map(|l| vector::dot(a, l)).fold(-1.0, f32::max);
        planted.chunks(D).map(best).sum::<f32>() / ATOMS as f32
    }

    /// methods.md T2: MMCS ≥ .99 and FVU ≤ .05. The linear encoder's amortisation gap keeps the FVU
    /// far above the noise floor, so FVU ≈ 0 is not asked for.
    #[test]
    fn recovers_a_planted_dictionary() {
        let (atoms, steps) = (planted(), 4000);
        let spec = TopK {
            n_latents: ATOMS,
            k: 4,
            aux_coefficient: aux_coefficient(),
            k_aux: None,
            schedule: ScheduleSpec { lr: Some(2e-3), ..ScheduleSpec::default() },
            dead_after_tokens: 20_000,
        };
        let sample = batch(&atoms, 9999);
        let threads = Threads::new(0).unwrap();
        let setup = Setup::plain(&D, steps, 1, &sample, threads);
        let mut learner = spec.build(&setup).unwrap();
        // 48 batches, many times: making them costs more than learning from them.
        let batches: Vec<Vec<f32>> = (0..48).map(|s| batch(&atoms, s)).collect();
        let mut last = crate::learner::StepReport::default();
        for step in 0..steps as usize {
            last = learner.step(&ActivationBatch::new(&batches[step % 48], &[0, ROWS]));
        }
        let dictionary = learner.freeze(&Scales::of(1.0));
        let (mmcs, fvu) = (mmcs(&atoms, dictionary.atoms()), last.squared_error / last.scatter);
        assert!(mmcs >= 0.99, "MMCS {mmcs}, FVU {fvu}");
        assert!(fvu <= 0.05, "FVU {fvu}, MMCS {mmcs}");
    }

    /// Rows of `w_enc` that never fire: with AuxK they come back, without it they stay dead.
    #[test]
    fn aux_k_revives_killed_latents() {
        let atoms = planted();
        let dead_after = |aux_coefficient: f64| {
            let spec = TopK {
                n_latents: ATOMS,
                k: 4,
                aux_coefficient,
                k_aux: None,
                schedule: ScheduleSpec { lr: Some(2e-3), ..ScheduleSpec::default() },
                dead_after_tokens: 4 * ROWS as u64,
            };
            let sample = batch(&atoms, 9999);
            let setup = Setup::plain(&D, 200, 1, &sample, Threads::new(0).unwrap());
            let mut learner = spec.build(&setup).unwrap();
            let mut state = learner.save();
            // Too weak to be among the four largest, but not silent: AuxK can see them.
            let mut encoder = state.f32("w_enc", &[ATOMS, D]).unwrap();
            vector::scale(0.02, &mut encoder[..ATOMS / 3 * D]);
            state.push_f32("w_enc", vec![ATOMS, D], &encoder);
            learner.load(&state).unwrap();
            let mut dead = 0;
            for step in 0..200 {
                dead = learner.step(&ActivationBatch::new(&batch(&atoms, step % 8), &[0, ROWS])).dead;
            }
            dead
        };
        let (without, with) = (dead_after(0.0), dead_after(1.0));
        assert!(without >= ATOMS as u64 / 4, "{without} dead without AuxK");
        assert!(with < without / 2, "{with} dead with AuxK, {without} without");
    }
}
