//! Every learner whose export names an architecture of SAELens: the real SAELens has loaded one, and what
//! it made of it is what we make of it.
//!
//! `tests/python/sae_lens.sh` writes the fixture, a folder per learner: the export, some rows, and the codes
//! and reconstructions of SAELens.
#![allow(clippy::disallowed_methods, reason = "the environment tells where exports are to be written")]

use std::{collections::BTreeSet, fs, path::Path};

use atomflow_workers::{
    codes::Codes,
    conformance,
    export::ExportedFile,
    frozen::{Atoms, Frozen},
    learner::Dictionary,
    pursuit::Rounds,
    skeleton::{FrozenParameters, FrozenSae, Inference},
    state::LearnerState,
    threads::Threads,
    variants::{LearnerSpec, registry},
};
use serde_json::Value;

use super::readers::{assert_close, dense, floats, layout};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/sae_lens/exports");

/// Where `writes_exports` writes.
const EXPORTS: &str = "ATOMFLOW_SAE_LENS_EXPORTS";

/// Rows that are encoded, of width [`D_IN`].
const ROWS: usize = 12;
const D_IN: usize = 24;

/// What learners export in a mode that their small spec is not in.
const MODES: &[(&str, &str)] = &[
    ("crosscoder_of_one", r#"{"kind": "crosscoder", "n_latents": 40, "k": 4, "inputs": ["a"]}"#),
    ("panneal_relu", r#"{"kind": "panneal", "n_latents": 40, "l1_coefficient": 0.05, "anneal_steps": 2}"#),
    ("relu_2023", r#"{"kind": "relu", "n_latents": 40, "l1_coefficient": 0.05, "form": "2023"}"#),
    ("transcoder_relu", r#"{"kind": "transcoder", "n_latents": 40, "k": 40, "target": "y"}"#),
    (
        "transcoder_relu_skip",
        r#"{"kind": "transcoder", "n_latents": 40, "k": 40, "target": "y", "skip": true}"#,
    ),
    ("transcoder_batch", r#"{"kind": "transcoder", "n_latents": 40, "k": 4, "target": "y", "batch": true}"#),
    (
        "transcoder_batch_skip",
        r#"{"kind": "transcoder", "n_latents": 40, "k": 4, "target": "y", "batch": true, "skip": true}"#,
    ),
];

/// What SAELens 6.54.12 has for inference, less `temporal`, which reads sequences.
const ARCHITECTURES: [&str; 10] = [
    "abstopk",
    "gated",
    "jumprelu",
    "jumprelu_skip_transcoder",
    "jumprelu_transcoder",
    "matching_pursuit",
    "skip_transcoder",
    "standard",
    "topk",
    "transcoder",
];

/// A learner's dictionary and its export.
struct Case {
    name: String,
    dictionary: Box<dyn Dictionary>,
    files: Vec<ExportedFile>,
}

impl Case {
    fn new(name: &str, spec: &str) -> Self {
        let spec: LearnerSpec = serde_json::from_str(spec).unwrap();
        let dictionary = conformance::dictionary(&spec);
        let files = dictionary.export().unwrap();
        Case { name: name.to_owned(), dictionary, files }
    }

    fn file(&self, name: &str) -> &[u8] {
        &self.files.iter().find(|file| file.name == name).unwrap().bytes
    }

    fn architecture(&self) -> String {
        architecture(&serde_json::from_slice(self.file("cfg.json")).unwrap())
    }

    fn fixture(&self, name: &str) -> Vec<u8> {
        let path = Path::new(FIXTURE).join(&self.name).join(name);
        fs::read(&path).unwrap_or_else(|e| panic!("{}: {e} (tests/python/sae_lens.sh)", path.display()))
    }
}

fn architecture(cfg: &Value) -> String {
    cfg["architecture"].as_str().unwrap().to_owned()
}

/// Every learner, and some in other modes, of which SAELens is to load the export.
fn cases() -> Vec<Case> {
    let small: Vec<(&str, &str)> = registry().iter().map(|info| (info.kind, info.small)).collect();
    let cases = small.iter().chain(MODES).map(|(name, spec)| Case::new(name, spec));
    cases.filter(|case| !case.architecture().starts_with("atomflow_")).collect()
}

/// Rows in the units of the data: [`conformance::dictionary`] has seen them multiplied by 3.
fn rows() -> Vec<f32> {
    conformance::rows(50)[..ROWS * D_IN].iter().map(|v| v / 3.0).collect()
}

#[test]
fn the_fixture_has_every_architecture_and_nothing_else() {
    let cases = cases();
    let architectures: BTreeSet<String> = cases.iter().map(Case::architecture).collect();
    assert_eq!(architectures.iter().map(String::as_str).collect::<Vec<_>>(), ARCHITECTURES);
    let names: BTreeSet<String> = cases.into_iter().map(|case| case.name).collect();
    let folders = fs::read_dir(FIXTURE).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(folders.map(|name| name.into_string().unwrap()).collect::<BTreeSet<_>>(), names);
}

#[test]
fn sae_lens_makes_of_every_export_what_we_make_of_it() {
    for case in cases() {
        let outputs = case.fixture("outputs.safetensors");
        let theirs = safetensors::SafeTensors::deserialize(&outputs).unwrap();
        let theirs = |name| floats(theirs.tensor(name).unwrap());
        let loaded = Loaded::new(&case.fixture("cfg.json"), &case.fixture("sae_weights.safetensors"));
        let (codes, x_hat) = loaded.pass(&theirs("x"));
        assert_close(&format!("{}: codes", case.name), &codes, &theirs("codes"));
        assert_close(&format!("{}: reconstructions", case.name), &x_hat, &theirs("x_hat"));
        let active = codes.iter().filter(|code| **code != 0.0).count();
        assert!(active > 0 && active < codes.len(), "{}: {active} codes say little", case.name);
    }
}

/// The fixture was made by some version of the program. One that learns other numbers must still write the
/// same `cfg.json`, and tensors of the same names, types and shapes, that mean what it computes.
#[test]
fn exports_look_like_those_of_the_fixture_and_mean_the_dictionary() {
    for case in cases() {
        let (cfg, weights) = (case.file("cfg.json"), case.file("sae_weights.safetensors"));
        let name = &case.name;
        assert_eq!(
            String::from_utf8_lossy(cfg),
            String::from_utf8_lossy(&case.fixture("cfg.json")),
            "{name}"
        );
        let theirs = case.fixture("sae_weights.safetensors");
        let layout = |bytes| layout(&safetensors::SafeTensors::deserialize(bytes).unwrap());
        assert_eq!(layout(weights), layout(&theirs), "{name}");
        let x = rows();
        let (codes, x_hat) = Loaded::new(cfg, weights).pass(&x);
        let own = case.dictionary.encode(&x);
        assert_close(&format!("{name}: codes"), &dense(&own), &codes);
        assert_close(&format!("{name}: reconstructions"), &reconstructed(&case, &x, &own), &x_hat);
    }
}

/// A booster is exported without its base: its reconstruction is what it decodes to.
fn reconstructed(case: &Case, x: &[f32], codes: &Codes) -> Vec<f32> {
    let mut x_hat = vec![0.0; codes.rows() * case.dictionary.d_out()];
    match case.name.as_str() {
        "boost" => case.dictionary.decode(codes, &mut x_hat),
        _ => case.dictionary.reconstruct(x, codes, &mut x_hat),
    }
    x_hat
}

#[test]
#[ignore = "writes what SAELens is to load; tests/python/sae_lens.sh"]
fn writes_exports() {
    let root = std::env::var(EXPORTS).unwrap();
    for case in cases() {
        let folder = Path::new(&root).join(&case.name);
        fs::create_dir_all(&folder).unwrap();
        for file in &case.files {
            fs::write(folder.join(file.name), &file.bytes).unwrap();
        }
        let mut x = LearnerState::default();
        x.push_f32("x", vec![ROWS, D_IN], &rows());
        fs::write(folder.join("rows.safetensors"), x.to_bytes().unwrap()).unwrap();
    }
}

// ---------------------------------------------------------------- exports as SAELens reads them

/// A dictionary made of exported files alone.
struct Loaded {
    dictionary: Box<dyn Dictionary>,
    /// `[d_out, d_in]`.
    skip: Option<Vec<f32>>,
}

impl Loaded {
    fn new(cfg: &[u8], weights: &[u8]) -> Self {
        let threads = Threads::new(1).unwrap();
        let (json, state) =
            (serde_json::from_slice(cfg).unwrap(), LearnerState::from_bytes(weights).unwrap());
        let dictionary: Box<dyn Dictionary> = match architecture(&json).as_str() {
            "matching_pursuit" => Box::new(pursuit(&json, &state, threads)),
            name if name.ends_with("transcoder") => Box::new(transcoder(&json, &state, threads)),
            _ => Box::new(FrozenSae::import(cfg, weights, threads).unwrap()),
        };
        let shape = [dictionary.d_out(), dictionary.d_in()];
        let skip = architecture(&json).contains("skip").then(|| state.f32("W_skip", &shape).unwrap());
        Loaded { dictionary, skip }
    }

    /// Codes, `[rows, n_latents]`, and reconstructions, `[rows, d_out]`.
    fn pass(&self, x: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let (codes, width) = (self.dictionary.encode(x), self.dictionary.d_out());
        let mut x_hat = vec![0.0; codes.rows() * width];
        self.dictionary.decode(&codes, &mut x_hat);
        if let Some(skip) = &self.skip {
            for (y, x) in x_hat.chunks_mut(width).zip(x.chunks(D_IN)) {
                let through = |row: &[f32]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                y.iter_mut().zip(skip.chunks(D_IN)).for_each(|(y, row)| *y += through(row));
            }
        }
        (dense(&codes), x_hat)
    }
}

fn size(cfg: &Value, name: &str) -> usize {
    usize::try_from(cfg[name].as_u64().unwrap()).unwrap()
}

fn pursuit(cfg: &Value, state: &LearnerState, threads: Threads) -> Frozen<Rounds> {
    let (d_in, n) = (size(cfg, "d_in"), size(cfg, "d_sae"));
    let tensor = |name, shape: &[usize]| state.f32(name, shape).unwrap();
    let atoms = Atoms { d_in, w_dec: tensor("W_dec", &[n, d_in]), b_dec: tensor("b_dec", &[d_in]) };
    let coder = Rounds::new(size(cfg, "max_iterations"), false);
    Frozen { kind: "mp", atoms, coder, threads, cfg: Value::Null, tensors: LearnerState::default() }
}

fn transcoder(cfg: &Value, state: &LearnerState, threads: Threads) -> FrozenSae {
    let [d_in, n, d_out] = ["d_in", "d_sae", "d_out"].map(|name| size(cfg, name));
    let tensor = |name, shape: &[usize]| state.f32(name, shape).unwrap();
    let columns = tensor("W_enc", &[d_in, n]);
    let parameters = FrozenParameters {
        d_in,
        pre_bias: false,
        w_enc: (0..n * d_in).map(|i| columns[(i % d_in) * n + i / d_in]).collect(),
        b_enc: tensor("b_enc", &[n]),
        w_dec: tensor("W_dec", &[n, d_out]),
        b_dec: tensor("b_dec", &[d_out]),
        threads,
        card: None,
    };
    let jumps = architecture(cfg).starts_with("jumprelu");
    let thresholds = if jumps { tensor("threshold", &[n]) } else { vec![0.0] };
    FrozenSae::new(Inference::Above(thresholds), parameters)
}
