//! Dictionaries as files that SAELens loads: `cfg.json` and `sae_weights.safetensors`.
//!
//! Layout measured against SAELens 6.54.12: `W_enc [d_in, n_latents]`, `b_enc`, `W_dec
//! [n_latents, d_in]`, `b_dec`; `metadata.sae_lens_version` must be a PEP 440 version.

use serde_json::{Value, json};

use crate::{learner::Mismatch, skeleton::sae::FrozenParameters, state::LearnerState};

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

/// The SAELens files of a linear dictionary. `extra` are the fields its architecture adds to `cfg.json`.
///
/// # Errors
/// A tensor does not fit its shape (a bug).
pub fn sae_lens(
    p: &FrozenParameters,
    architecture: &str,
    extra: &Value,
) -> Result<Vec<ExportedFile>, Mismatch> {
    let (d, n) = (p.d_in, p.b_enc.len());
    let mut weights = LearnerState::default();
    weights.push_f32("W_enc", vec![d, n], &transpose(&p.w_enc, n, d));
    weights.push_f32("b_enc", vec![n], &p.b_enc);
    weights.push_f32("W_dec", vec![n, d], &p.w_dec);
    weights.push_f32("b_dec", vec![d], &p.b_dec);
    let mut cfg = json!({
        "architecture": architecture, "d_in": d, "d_sae": n, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": true, "normalize_activations": "none", "reshape_activations": "none",
        "metadata": { "sae_lens_version": SAE_LENS_VERSION },
    });
    if let (Some(cfg), Some(extra)) = (cfg.as_object_mut(), extra.as_object()) {
        cfg.extend(extra.clone());
    }
    let cfg = format!("{cfg:#}\n").into_bytes();
    Ok(vec![
        ExportedFile { name: "cfg.json", bytes: cfg },
        ExportedFile { name: "sae_weights.safetensors", bytes: weights.to_bytes()? },
    ])
}

/// The files of a dictionary that SAELens has no architecture for: the same two, with `architecture`
/// `atomflow_<kind>`, the fields `cfg` beside the usual ones, and whatever `tensors` there are.
///
/// # Errors
/// A tensor does not fit its shape (a bug).
pub fn plain(
    kind: &str,
    (d_in, d_sae): (usize, usize),
    tensors: &LearnerState,
    cfg: &Value,
) -> Result<Vec<ExportedFile>, Mismatch> {
    let architecture = format!("atomflow_{kind}");
    let mut all = json!({ "architecture": architecture, "d_in": d_in, "d_sae": d_sae, "dtype": "float32" });
    if let (Some(all), Some(cfg)) = (all.as_object_mut(), cfg.as_object()) {
        all.extend(cfg.clone());
    }
    Ok(vec![
        ExportedFile { name: "cfg.json", bytes: format!("{all:#}\n").into_bytes() },
        ExportedFile { name: "sae_weights.safetensors", bytes: tensors.to_bytes()? },
    ])
}

/// `[rows, columns]` → `[columns, rows]`.
fn transpose(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
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
