//! SAE Boost: a small dictionary for what a frozen one leaves unexplained on a new domain.
//!
//! Koriagin et al. 2025 (*Teach Old SAEs New Domain Tricks with Boosting*, arXiv:2507.12990). Encodes x,
//! reconstructs `t = x − SAE₀(x)`; the base is read from an exported dictionary (SAELens layout, see
//! [`FrozenSae::import`]). What it says of a row is added to what the base says.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{Invalid, LearnerConfig, LearnerInfo};
use crate::{
    codes::Codes,
    export::ExportedFile,
    kernels::{
        Real,
        encode::{Selected, Selection},
    },
    learner::{ActivationBatch, DictLearner, Dictionary, LinearEncoder, Mismatch, Scales, Setup},
    skeleton::{
        FrozenParameters, FrozenSae, Inference, Sae, SaeVariant,
        aux_k::AuxK,
        objective::{Loss, Unit},
        parameters::{Extra, Parameters},
        spec::{k_of, sae_config},
    },
};

sae_config! {
    /// `[learner] kind = "boost"`.
    pub struct Boost {
        /// Latents kept per row.
        pub k: usize,
        /// Directory of the frozen dictionary: `cfg.json` and `sae_weights.safetensors`.
        pub base: String,
    }
}

/// The row of `atomflow learners`.
pub const INFO: LearnerInfo = LearnerInfo {
    kind: "boost",
    family: "sparse autoencoder",
    summary: "learns what a frozen dictionary leaves unexplained on a new domain (SAE Boost)",
    paper: "Koriagin et al. 2025, arXiv:2507.12990",
    columns: "base: an exported dictionary",
    modes: &[],
    example: "jobs/specs/learners/boost.toml",
    small: r#"{"kind": "boost", "n_latents": 40, "k": 4, "base": "base", "dead_after_tokens": 200}"#,
};

impl Boost {
    fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.base.trim_end_matches('/'))
    }

    fn read(&self, setup: &Setup) -> Result<FrozenSae, Invalid> {
        let missing = Invalid { field: "base", reason: "must hold cfg.json and sae_weights.safetensors" };
        let file = |name| setup.files.get(&self.file(name)).ok_or_else(|| missing.clone());
        let (cfg, weights) = (file("cfg.json")?, file("sae_weights.safetensors")?);
        let unreadable = Invalid {
            field: "base",
            reason: "must be a TopK, AbsTopK, JumpReLU, ReLU or gated dictionary in the layout of SAELens",
        };
        let base = FrozenSae::import(cfg, weights, setup.threads.clone()).map_err(|_| unreadable)?;
        Invalid::unless(base.d_in() == setup.d_in, "base", "must be of the same width as the activations")?;
        Ok(base)
    }
}

impl LearnerConfig for Boost {
    fn build(&self, setup: &Setup) -> Result<Box<dyn DictLearner>, Invalid> {
        let base = std::sync::Arc::new(self.read(setup)?);
        let learner = Learner { k: self.k, base, scale: setup.scales.first(), d: setup.d_in };
        Ok(Box::new(Sae::new(learner, &self.sae(), setup)))
    }

    fn validate(&self, d_in: usize) -> Result<(), Invalid> {
        self.sae().validate(d_in)?;
        k_of(self.k, self.n_latents)?;
        Invalid::unless(!self.base.is_empty(), "base", "must name the directory of a dictionary")
    }

    fn n_latents(&self) -> usize {
        self.n_latents
    }

    fn k(&self) -> Option<usize> {
        Some(self.k)
    }

    fn files(&self) -> Vec<String> {
        vec![self.file("cfg.json"), self.file("sae_weights.safetensors")]
    }

    fn uncodable(&self) -> Option<&'static str> {
        Some("what it adds to is the reconstruction of its base")
    }
}

/// The frozen base, which speaks of rows that are not scaled.
#[derive(Debug)]
struct Learner {
    k: usize,
    base: std::sync::Arc<FrozenSae>,
    scale: f32,
    d: usize,
}

/// Numbers that one task scales.
const TASK: usize = 16_384;

impl SaeVariant for Learner {
    fn target<'b>(&self, batch: &ActivationBatch<'b>) -> Option<(usize, Cow<'b, [f32]>)> {
        let mut x = vec![0f32; batch.x.len()];
        let rows = x.par_chunks_mut(TASK).zip(batch.x.par_chunks(TASK));
        rows.for_each(|(x, scaled)| x.iter_mut().zip(scaled).for_each(|(x, v)| *x = v / self.scale));
        let mut left = vec![0f32; x.len()];
        self.base.decode(&self.base.encode(&x), &mut left);
        let rows = left.par_chunks_mut(TASK).zip(x.par_chunks(TASK));
        rows.for_each(|(left, x)| {
            left.iter_mut().zip(x).for_each(|(left, x)| *left = (x - *left) * self.scale);
        });
        Some((self.d, Cow::Owned(left)))
    }

    /// Zero atoms cannot be normalised, and the base has its bias: this one starts without.
    fn begin(&mut self, parameters: &mut Parameters<f32>, _: &Setup) -> Vec<Extra<f32>> {
        parameters.b_dec.value.fill(0.0);
        parameters.w_enc.value.clone_from(&parameters.w_dec.value);
        Vec::new()
    }

    fn forward<R: Real>(&mut self, loss: &mut Loss<R>, aux: &AuxK) {
        let Selected { codes, values, .. } = loss.select(Selection::TopK(self.k));
        let part = loss.reconstruct(codes, values, loss.scale(Unit::Variance));
        aux.add(loss, &part);
        loss.push(part);
    }

    /// The decoder bias of a booster stays zero: what is the same for all rows is the base's to say.
    fn project(&self, parameters: &mut Parameters<f32>) {
        parameters.b_dec.value.fill(0.0);
    }

    fn freeze(&self, _: &Parameters<f32>, folded: FrozenParameters, _: &Scales) -> Box<dyn Dictionary> {
        let booster = FrozenSae::new(Inference::TopK(self.k), folded);
        Box::new(Boosted { booster, base: self.base.clone() })
    }
}

/// Base and booster: latents are the booster's, reconstructions the sum of both.
#[derive(Debug)]
struct Boosted {
    booster: FrozenSae,
    base: std::sync::Arc<FrozenSae>,
}

impl Dictionary for Boosted {
    fn d_in(&self) -> usize {
        self.booster.d_in()
    }

    fn n_latents(&self) -> usize {
        self.booster.n_latents()
    }

    fn encode(&self, x: &[f32]) -> Codes {
        self.booster.encode(x)
    }

    fn decode(&self, codes: &Codes, x_hat: &mut [f32]) {
        self.booster.decode(codes, x_hat);
    }

    fn reconstruct(&self, x: &[f32], codes: &Codes, x_hat: &mut [f32]) {
        self.base.decode(&self.base.encode(x), x_hat);
        let mut more = vec![0f32; x_hat.len()];
        self.booster.decode(codes, &mut more);
        x_hat.iter_mut().zip(more).for_each(|(x_hat, more)| *x_hat += more);
    }

    fn atoms(&self) -> &[f32] {
        self.booster.atoms()
    }

    fn linear_encoder(&self) -> Option<LinearEncoder<'_>> {
        self.booster.linear_encoder()
    }

    fn export(&self) -> Result<Vec<ExportedFile>, Mismatch> {
        self.booster.export()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{planted, threads::Threads, variants::LearnerSpec};

    fn learn(
        json: serde_json::Value,
        setup: &Setup,
        batches: &[Vec<f32>],
        steps: usize,
    ) -> Box<dyn DictLearner> {
        let spec: LearnerSpec = serde_json::from_value(json).unwrap();
        let mut learner = spec.build(setup).unwrap();
        planted::train(&mut *learner, batches, steps);
        learner
    }

    fn fvu(dictionary: &dyn Dictionary, x: &[f32]) -> f64 {
        let mut x_hat = vec![0f32; x.len()];
        dictionary.reconstruct(x, &dictionary.encode(x), &mut x_hat);
        let mean = |c: usize| {
            x.chunks(planted::D).map(|row| f64::from(row[c])).sum::<f64>() / (x.len() / planted::D) as f64
        };
        let means: Vec<f64> = (0..planted::D).map(mean).collect();
        let missed: f64 = x.iter().zip(&x_hat).map(|(a, b)| f64::from(a - b).powi(2)).sum();
        let scatter: f64 =
            x.iter().enumerate().map(|(i, v)| (f64::from(*v) - means[i % planted::D]).powi(2)).sum();
        missed / scatter
    }

    /// A base that knows the first atoms; the domain has more: the booster finds those, the FVU on the
    /// domain falls, and what the base was good at stays as it was.
    #[test]
    fn the_booster_learns_what_the_base_does_not_know() {
        const OLD: usize = 96;
        let atoms = planted::atoms();
        let (old, new) = (&atoms[..OLD * planted::D], &atoms[OLD * planted::D..]);
        let rows = |atoms: &[f32], n| {
            (0..n)
                .map(|b| planted::rows_of(atoms, planted::D, planted::ROWS, planted::T2, b))
                .collect::<Vec<_>>()
        };
        let (general, domain) = (rows(old, 24), rows(&atoms, 24));
        let threads = Threads::new(0).unwrap();
        let schedule = serde_json::json!({ "lr": 2e-3 });
        let setup = Setup::plain(&planted::D, 2000, 1, &general[0], threads.clone());
        let base = serde_json::json!({ "kind": "topk", "n_latents": OLD, "k": 4, "schedule": schedule });
        let base = learn(base, &setup, &general, 2000).freeze(&Scales::of(1.0));
        let files = base
            .export()
            .unwrap()
            .into_iter()
            .map(|file| (format!("base/{}", file.name), file.bytes))
            .collect();
        let setup = Setup { files: &files, ..Setup::plain(&planted::D, 2000, 1, &domain[0], threads) };
        let boost = serde_json::json!({
            "kind": "boost", "n_latents": 32, "k": 2, "base": "base", "schedule": schedule, "dead_after_tokens": 20_000,
        });
        let boosted = learn(boost, &setup, &domain, 2000).freeze(&Scales::of(1.0));
        let (unseen, familiar) =
            (planted::batch(&atoms, 700), planted::rows_of(old, planted::D, planted::ROWS, planted::T2, 701));
        let (before, after) = (fvu(&*base, &unseen), fvu(&*boosted, &unseen));
        println!(
            "domain FVU {before} -> {after}; general {} -> {}",
            fvu(&*base, &familiar),
            fvu(&*boosted, &familiar)
        );
        assert!(after < 0.8 * before, "{before} -> {after}");
        let (mmcs, _) = planted::mmcs(new, boosted.atoms(), planted::D, false);
        assert!(mmcs > 0.8, "MMCS {mmcs}");
    }

    #[test]
    fn a_base_that_is_not_there_or_does_not_fit_is_refused() {
        let spec: Boost =
            serde_json::from_value(serde_json::json!({ "n_latents": 8, "k": 2, "base": "b/" })).unwrap();
        assert_eq!(spec.files(), ["b/cfg.json", "b/sae_weights.safetensors"]);
        let sample = vec![0.5; 4 * 6];
        let plain = || Setup::plain(&6, 10, 1, &sample, Threads::new(1).unwrap());
        assert_eq!(spec.build(&plain()).err().map(|e| e.field), Some("base"));
        let files = spec.files().into_iter().map(|name| (name, b"{}".to_vec())).collect();
        let setup = Setup { files: &files, ..plain() };
        assert!(spec.build(&setup).err().is_some_and(|e| e.reason.contains("layout of SAELens")));
    }
}
