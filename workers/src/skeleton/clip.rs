//! A bound on the norm of the gradient of a step, over all parameters at once.
//!
//! The gradient of a latent is made, measured and forgotten, and made again by the update: a dense one is
//! never stored. Squares are added in f64, latents in order inside fixed blocks and blocks in order, so
//! the factor is the same for any number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    gradient::{Gradient, LatentGrad},
    parameters::Parameters,
};
use crate::kernels::{Path, Real, simd::Kernel, vector};

/// Latents one task measures.
const BLOCK_LATENTS: usize = 32;

/// What the gradient has to be multiplied by for its norm to be at most `most`: 1 if it is. It is measured
/// as the loss makes it, before what is parallel to an atom of unit norm is taken away
/// (`saprmarks/dictionary_learning`). Runs on the current rayon pool.
pub fn factor<R: Real>(path: Path, parameters: &Parameters<R>, gradient: &Gradient<R>, most: f64) -> f64 {
    let norm = norm(path, parameters, gradient);
    if norm > most { most / norm } else { 1.0 }
}

fn norm<R: Real>(path: Path, parameters: &Parameters<R>, gradient: &Gradient<R>) -> f64 {
    let n = parameters.n_latents();
    let starts: Vec<usize> = (0..n).step_by(BLOCK_LATENTS).collect();
    let measure = |&first: &usize| {
        path.run(Measure { latents: first..(first + BLOCK_LATENTS).min(n), parameters, gradient })
    };
    let blocks: Vec<(f64, Vec<R>)> = starts.par_iter().map(measure).collect();
    let (mut total, mut through_encoder) = (0f64, vec![0f64; parameters.d_in]);
    for (squares, through) in blocks {
        total += squares;
        through_encoder.iter_mut().zip(through).for_each(|(sum, part)| *sum += part.f64());
    }
    let b_dec = gradient.b_dec(&through_encoder);
    let others = gradient.extras.iter().flatten().chain(&b_dec);
    (total + others.map(|g| g.f64() * g.f64()).sum::<f64>()).sqrt()
}

struct Measure<'a, 'b, R> {
    latents: Range<usize>,
    parameters: &'a Parameters<R>,
    gradient: &'a Gradient<'b, R>,
}

impl<R: Real> Kernel for Measure<'_, '_, R> {
    /// The sum of squares of some latents, and their `Σ through·w_enc`, `[d_in]`.
    type Output = (f64, Vec<R>);

    #[inline(always)]
    fn run(self) -> (f64, Vec<R>) {
        let p = self.parameters;
        let (mut grad, mut squares) = (LatentGrad::new(p.d_in, p.d_out()), 0f64);
        let mut through = vec![R::ZERO; p.d_in];
        for latent in self.latents {
            if !self.gradient.latent(latent, &mut grad) {
                continue;
            }
            vector::axpy(grad.through, &p.w_enc.value[latent * p.d_in..][..p.d_in], &mut through);
            if let Some(pull) = &self.gradient.pull {
                vector::axpy(pull[latent], p.atom(latent), &mut grad.w_dec);
            }
            squares +=
                vector::dot(&grad.w_enc, &grad.w_enc).f64() + vector::dot(&grad.w_dec, &grad.w_dec).f64();
            squares += grad.b_enc.f64() * grad.b_enc.f64();
        }
        (squares, through)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        skeleton::{
            aux_k::AuxK,
            golden::{Case, close, norm},
        },
        variants::relu::Relu,
    };

    /// Dead latents, the pull of norms and a pre-bias: every part of a gradient.
    fn gradients(form: &str, clip: Option<f64>) -> Vec<f64> {
        let spec = serde_json::json!({
            "n_latents": 12, "l1_coefficient": 0.3, "form": form, "sparsity_warmup_share": 0,
        });
        let mut relu: Relu = serde_json::from_value(spec).unwrap();
        let aux = AuxK { coefficient: 1.0 / 32.0, k: 2 };
        let case = Case::<f64> { clip, aux, dead: vec![8, 9, 10, 11], ..Case::default() };
        case.run(&mut relu).gradients.concat()
    }

    #[test]
    fn a_long_gradient_is_shortened_as_a_whole() {
        for form in ["april2024", "2023"] {
            let free = gradients(form, None);
            let length = norm(&free);
            assert!(length > 5.0);
            for most in [1.0, 0.01] {
                let clipped = gradients(form, Some(most));
                close(norm(&clipped) / most, 1.0, 1e-12);
                clipped.iter().zip(&free).for_each(|(c, f)| close(c * length / most, *f, 1e-12));
            }
            assert_eq!(gradients(form, Some(2.0 * length)), free);
        }
    }
}
