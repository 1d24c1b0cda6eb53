//! Dictionaries as files that SAELens loads: `cfg.json` and `sae_weights.safetensors`.
//!
//! Layout measured against SAELens 6.54.12: `W_enc [d_in, n_latents]`, `b_enc`, `W_dec
//! [n_latents, d_in]`, `b_dec`; `metadata.sae_lens_version` must be a PEP 440 version.

use serde_json::{Value, json};

use crate::{
    learner::Mismatch,
    skeleton::frozen::{Exported, FrozenParameters},
    state::LearnerState,
};

/// One file of an exported dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedFile {
    /// Name inside the dictionary's directory.
    pub name: &'static str,
    /// Contents.
    pub bytes: Vec<u8>,
}

/// The version of SAELens whose layout is written.
const SAE_LENS_VERSION: &str = "6.54.12";

/// The files of a linear dictionary, in the layout of SAELens where it has the architecture.
///
/// # Errors
/// A tensor does not fit its shape (a bug).
pub fn sae_lens(p: &FrozenParameters, exported: &Exported) -> Result<Vec<ExportedFile>, Mismatch> {
    let (d, n, d_out) = (p.d_in, p.b_enc.len(), p.b_dec.len());
    let mut weights = LearnerState::default();
    weights.push_f32("W_enc", vec![d, n], &transpose(&p.w_enc, n, d));
    // A gated encoder has two biases of its own instead, and SAELens refuses tensors it does not know.
    if exported.architecture != "gated" {
        weights.push_f32("b_enc", vec![n], &p.b_enc);
    }
    weights.push_f32("W_dec", vec![n, d_out], &p.w_dec);
    weights.push_f32("b_dec", vec![d_out], &p.b_dec);
    for (name, shape, values) in &exported.tensors {
        weights.push_f32(name, shape.clone(), values);
    }
    let mut cfg = cfg(exported.architecture, d, n);
    let fields = json!({
        "apply_b_dec_to_input": p.pre_bias, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": { "sae_lens_version": SAE_LENS_VERSION },
    });
    extend(&mut cfg, &fields);
    // Left out, SAELens takes the output of a transcoder to be 768 wide.
    if d_out != d || exported.architecture.contains("transcoder") {
        extend(&mut cfg, &json!({ "d_out": d_out }));
    }
    extend(&mut cfg, &exported.cfg);
    files(&cfg, &weights)
}

/// The files of a dictionary without an encoder of its own: `cfg.json` with `architecture`
/// `atomflow_<kind>`, unless `extra` names one of SAELens, and its tensors (`W_dec` `[n_latents, d_out]`,
/// `b_dec` `[d_out]`, and its own).
///
/// # Errors
/// A tensor does not fit its shape (a bug).
pub fn plain(
    kind: &str,
    (d_in, n_latents): (usize, usize),
    tensors: &LearnerState,
    extra: &Value,
) -> Result<Vec<ExportedFile>, Mismatch> {
    let mut cfg = cfg(&format!("atomflow_{kind}"), d_in, n_latents);
    extend(&mut cfg, extra);
    files(&cfg, tensors)
}

/// What `cfg.json` says of `k` rounds of matching pursuit, for [`plain`]: SAELens has the architecture,
/// and would stop a row earlier unless told not to.
pub fn matching_pursuit(k: usize) -> Value {
    json!({
        "architecture": "matching_pursuit",
        "apply_b_dec_to_input": true, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": { "sae_lens_version": SAE_LENS_VERSION },
        "max_iterations": k, "residual_threshold": 0.0, "stop_on_duplicate_support": false,
    })
}

fn cfg(architecture: &str, d_in: usize, n_latents: usize) -> Value {
    json!({
        "architecture": architecture, "d_in": d_in, "d_sae": n_latents, "dtype": "float32", "device": "cpu",
    })
}

fn extend(cfg: &mut Value, fields: &Value) {
    if let (Some(cfg), Some(fields)) = (cfg.as_object_mut(), fields.as_object()) {
        cfg.extend(fields.clone());
    }
}

fn files(cfg: &Value, weights: &LearnerState) -> Result<Vec<ExportedFile>, Mismatch> {
    let cfg = format!("{cfg:#}\n").into_bytes();
    Ok(vec![
        ExportedFile { name: "cfg.json", bytes: cfg },
        ExportedFile { name: "sae_weights.safetensors", bytes: weights.to_bytes()? },
    ])
}

/// `[rows, columns]` → `[columns, rows]`.
pub(crate) fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| matrix[r * columns + c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposes() {
        assert_eq!(transpose(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }
}
