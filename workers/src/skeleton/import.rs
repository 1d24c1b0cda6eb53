//! Dictionaries that SAELens, or an export of ours, has written.

use serde_json::Value;

use super::{FrozenParameters, FrozenSae, Inference};
use crate::{export, kernels::vector, learner::Mismatch, state::LearnerState, threads::Threads};

impl FrozenSae {
    /// A dictionary in the layout of SAELens, of one of the architectures `topk`, `abstopk`, `jumprelu`,
    /// `standard` and `gated`.
    ///
    /// # Errors
    /// The files are something else.
    pub fn import(cfg: &[u8], weights: &[u8], threads: Threads) -> Result<Self, Mismatch> {
        let cfg: Value = serde_json::from_slice(cfg).map_err(|e| Mismatch(e.to_string()))?;
        let size = |name: &str| {
            let size = cfg[name].as_u64().and_then(|n| usize::try_from(n).ok());
            size.ok_or_else(|| Mismatch(format!("cfg.json has no number `{name}`")))
        };
        let (weights, d, n) = (LearnerState::from_bytes(weights)?, size("d_in")?, size("d_sae")?);
        let mut w_enc = export::transpose(&weights.f32("W_enc", &[d, n])?, d, n);
        let b_enc = || weights.f32("b_enc", &[n]);
        let (inference, b_enc) = match cfg["architecture"].as_str() {
            Some("topk") => (Inference::TopK(size("k")?), b_enc()?),
            Some("abstopk") => (Inference::AbsTopK(size("k")?), b_enc()?),
            Some("jumprelu") => (Inference::Above(weights.f32("threshold", &[n])?), b_enc()?),
            Some("standard") => (Inference::Above(vec![0.0]), b_enc()?),
            Some("gated") => gated(&weights, d, n, &mut w_enc)?,
            other => return Err(Mismatch(format!("architecture {other:?} is not known here"))),
        };
        let pre_bias = cfg["apply_b_dec_to_input"].as_bool().unwrap_or(true);
        let (w_dec, b_dec) = (weights.f32("W_dec", &[n, d])?, weights.f32("b_dec", &[d])?);
        let parameters =
            FrozenParameters { d_in: d, pre_bias, w_enc, b_enc, w_dec, b_dec, threads, card: None };
        Ok(FrozenSae::new(inference, parameters))
    }
}

/// A gate is a threshold of the magnitude: with the gain eʳ in the rows of the encoder, `h + b_gate > 0`
/// says that the magnitude `eʳ·h + b_mag` is above `b_mag − eʳ·b_gate`. Thresholds and biases.
fn gated(
    weights: &LearnerState,
    d: usize,
    n: usize,
    w_enc: &mut [f32],
) -> Result<(Inference, Vec<f32>), Mismatch> {
    let tensor = |name| weights.f32(name, &[n]);
    let (r_mag, b_mag, b_gate) = (tensor("r_mag")?, tensor("b_mag")?, tensor("b_gate")?);
    let gains: Vec<f32> = r_mag.iter().map(|r| r.exp()).collect();
    w_enc.chunks_exact_mut(d).zip(&gains).for_each(|(row, &gain)| vector::scale(gain, row));
    let gates = b_gate.iter().zip(&gains).map(|(b, gain)| b * gain);
    let thresholds = b_mag.iter().zip(gates).map(|(mag, gate)| (mag - gate).max(0.0)).collect();
    Ok((Inference::Above(thresholds), b_mag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learner::Dictionary;

    /// Two latents of one vector, by hand: `h = x − b_dec`, the gate `h·w + b_gate > 0`, the magnitude
    /// `eʳ·h·w + b_mag`.
    #[test]
    fn a_gate_with_a_gain_is_a_threshold() {
        let mut weights = LearnerState::default();
        weights.push_f32("W_enc", vec![1, 2], &[1.0, -2.0]);
        weights.push_f32("W_dec", vec![2, 1], &[1.0, -1.0]);
        weights.push_f32("b_dec", vec![1], &[0.5]);
        weights.push_f32("r_mag", vec![2], &[2f32.ln(), -(2f32.ln())]);
        weights.push_f32("b_mag", vec![2], &[0.25, 3.0]);
        weights.push_f32("b_gate", vec![2], &[-0.5, 1.0]);
        let cfg = br#"{"architecture": "gated", "d_in": 1, "d_sae": 2}"#;
        let bytes = weights.to_bytes().unwrap();
        let sae = FrozenSae::import(cfg, &bytes, Threads::new(1).unwrap()).unwrap();
        // h = 1.5, 0.25, −1: gates (1, −2), (−0.25, 0.5), (−1.5, 3).
        let codes = sae.encode(&[2.0, 0.75, -0.5]);
        let rows: Vec<_> = (0..3).map(|row| codes.row(row)).collect();
        let expected: [(&[u32], &[f32]); 3] = [(&[0], &[3.25]), (&[1], &[2.75]), (&[1], &[4.0])];
        for ((latents, values), (right, wanted)) in rows.into_iter().zip(expected) {
            assert_eq!(latents, right);
            values.iter().zip(wanted).for_each(|(v, w)| assert!((v - w).abs() < 1e-6, "{v} {w}"));
        }
    }

    #[test]
    fn what_is_not_known_is_refused() {
        let bytes = LearnerState::default().to_bytes().unwrap();
        let cfg = br#"{"architecture": "temporal", "d_in": 1, "d_sae": 2}"#;
        assert!(FrozenSae::import(cfg, &bytes, Threads::new(1).unwrap()).is_err());
    }
}
