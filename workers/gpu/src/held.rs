//! The parameters of an autoencoder as a card keeps them: put there, and fetched.

use atomflow_workers::{
    card::{Arithmetic, MomentsIn, Precision},
    skeleton::parameters::{self, Parameters},
};

use crate::{
    Runtime,
    card::{Card, Lost},
    kernels::{
        adam::Parameter,
        factors::{Factors, Rounding},
        moments::Moments,
        update::Latents,
        weights::Weights,
    },
};

/// A bias and its moments.
pub(crate) fn parameter<R: Runtime>(card: &Card<R>, here: &parameters::Parameter<f32>) -> Parameter {
    let [value, m, v] = [&here.value, &here.m, &here.v].map(|part| card.upload(part));
    Parameter { value, m, v }
}

/// Weights and biases of the latents, in what `arithmetic` says.
pub(crate) fn latents<R: Runtime>(card: &Card<R>, here: &Parameters<f32>, arithmetic: Arithmetic) -> Latents {
    let b_enc = parameter(card, &here.b_enc);
    let weights = |of: &parameters::Parameter<f32>, d: usize, bias| {
        let value = card.upload(&of.value);
        let moments = match arithmetic.moments {
            MomentsIn::F32 => Moments::floats(card, &of.m, &of.v),
            MomentsIn::Bits8 => Moments::bytes(card, &of.m, &of.v, d),
        };
        let rounded = match arithmetic.precision {
            Precision::Bf16 => Some(Factors::of(card, Rounding::Bf16, &value, d, bias)),
            Precision::F32 | Precision::Tf32 => None,
        };
        Weights { value, moments, rounded }
    };
    Latents {
        w_enc: weights(&here.w_enc, here.d_in, Some(&b_enc.value)),
        w_dec: weights(&here.w_dec, here.d_out(), None),
        b_enc,
    }
}

/// All four parameters with their moments, into `parameters`.
pub(crate) fn fetch<R: Runtime>(
    card: &Card<R>,
    Latents { w_enc, b_enc, w_dec }: &Latents,
    b_dec: &Parameter,
    parameters: &mut Parameters<f32>,
) -> Result<(), Lost> {
    let of_bias = |there: &Parameter| {
        let [value, m, v] = [&there.value, &there.m, &there.v].map(|part| card.download(part));
        Ok(parameters::Parameter { value: value?, m: m?, v: v? })
    };
    let of_weights = |there: &Weights| {
        let (m, v) = there.moments.download(card)?;
        Ok(parameters::Parameter { value: card.download(&there.value)?, m, v })
    };
    let [w_enc, w_dec] = [of_weights(w_enc)?, of_weights(w_dec)?];
    let [b_enc, b_dec] = [of_bias(b_enc)?, of_bias(b_dec)?];
    *parameters = Parameters { w_enc, b_enc, w_dec, b_dec, ..parameters.clone() };
    Ok(())
}

#[cfg(all(test, feature = "vulkan"))]
mod tests {
    use std::panic::catch_unwind;

    use atomflow_workers::card::memory::Held;
    use cubecl::wgpu::{WgpuDevice, WgpuRuntime};

    use super::*;

    fn start(d_in: usize, d_out: usize, n: usize) -> Parameters<f32> {
        let parameter = |len: usize| parameters::Parameter::new(vec![0.5; len]);
        Parameters {
            d_in,
            pre_bias: true,
            w_enc: parameter(n * d_in),
            b_enc: parameter(n),
            w_dec: parameter(n * d_out),
            b_dec: parameter(d_out),
            extras: Vec::new(),
        }
    }

    /// What `atomflow check` counts is what lies there.
    #[test]
    fn memory_is_counted_as_it_is_taken() {
        let Ok(card) = catch_unwind(|| Card::<WgpuRuntime>::open(&WgpuDevice::Cpu)) else {
            eprintln!("skipped: no software Vulkan device");
            return;
        };
        for [d_in, d_out, n] in [[24, 24, 40], [13, 20, 7], [96, 101, 9]] {
            for precision in [Precision::F32, Precision::Tf32, Precision::Bf16] {
                for moments in [MomentsIn::F32, MomentsIn::Bits8] {
                    let (arithmetic, here) = (Arithmetic { precision, moments }, start(d_in, d_out, n));
                    let latents = latents(&card, &here, arithmetic);
                    let biases = [&latents.b_enc, &parameter(&card, &here.b_dec)];
                    let of_biases: usize =
                        biases.map(|of| 4 * (of.value.len() + of.m.len() + of.v.len())).iter().sum();
                    let taken = latents.w_enc.taken() + latents.w_dec.taken() + of_biases + 4 * d_in;
                    let [d_in, d_out, n_latents] = [d_in, d_out, n].map(|of| of as u64);
                    let counted = Held { d_in, d_out, n_latents, arithmetic }.parameters();
                    assert_eq!(taken as u64, counted, "{d_in} {d_out} {n} {arithmetic:?}");
                }
            }
        }
    }
}
