//! Adam (Kingma & Ba 2015) on one row of parameters at a time.

use super::real::Real;

/// The constants of one step: bias corrections are folded in once, not per element.
#[derive(Debug, Clone, Copy)]
pub struct AdamStep<R> {
    /// β₁.
    pub beta1: R,
    /// β₂.
    pub beta2: R,
    /// `1 − β₁`, `1 − β₂`.
    pub rest: (R, R),
    /// `lr / (1 − β₁ᵗ)`.
    pub rate: R,
    /// `1 / (1 − β₂ᵗ)`.
    pub unbias2: R,
    /// ε.
    pub eps: R,
}

/// β₁, β₂ (Kingma & Ba) and ε of `openai/sparse_autoencoder`: ε far below √v, since the loss is
/// divided by the variance and gradients per weight are small.
pub const BETA1: f64 = 0.9;
/// See [`BETA1`].
pub const BETA2: f64 = 0.999;
/// See [`BETA1`].
pub const EPS: f64 = 6.25e-10;

impl<R: Real> AdamStep<R> {
    /// Step number `t`, counted from 1, with learning rate `lr`.
    pub fn new(lr: f64, t: u64) -> Self {
        AdamStep::with_momentum(lr, t, BETA1)
    }

    /// The same with another β₁: 0 for learners whose gradient is an estimate of a jump.
    pub fn with_momentum(lr: f64, t: u64, beta1: f64) -> Self {
        let t = i32::try_from(t).unwrap_or(i32::MAX);
        AdamStep {
            beta1: R::of(beta1),
            beta2: R::of(BETA2),
            rest: (R::of(1.0 - beta1), R::of(1.0 - BETA2)),
            rate: R::of(lr / (1.0 - beta1.powi(t))),
            unbias2: R::of(1.0 / (1.0 - BETA2.powi(t))),
            eps: R::of(EPS),
        }
    }

    /// Applies gradient `g` to parameters `p` with moments `m` and `v`, all of one length.
    #[inline(always)]
    pub fn apply(&self, g: &[R], p: &mut [R], m: &mut [R], v: &mut [R]) {
        for (((&g, p), m), v) in g.iter().zip(p).zip(m).zip(v) {
            *m = self.beta1.fma(*m, self.rest.0 * g);
            *v = self.beta2.fma(*v, self.rest.1 * g * g);
            *p = *p - self.rate * *m / ((*v * self.unbias2).sqrt() + self.eps);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_equal_the_textbook() {
        let (lr, grads) = (0.01, [0.5f64, -0.2, 0.7]);
        let (mut p, mut m, mut v) = ([1.0f64], [0.0], [0.0]);
        let (mut tp, mut tm, mut tv) = (1.0f64, 0.0f64, 0.0f64);
        for (i, &g) in grads.iter().enumerate() {
            let t = i as u64 + 1;
            AdamStep::new(lr, t).apply(&[g], &mut p, &mut m, &mut v);
            tm = 0.9 * tm + 0.1 * g;
            tv = 0.999 * tv + 0.001 * g * g;
            let (mh, vh) = (tm / (1.0 - 0.9f64.powi(t as i32)), tv / (1.0 - 0.999f64.powi(t as i32)));
            tp -= lr * mh / (vh.sqrt() + EPS);
        }
        assert!((p[0] - tp).abs() < 1e-12);
    }
}
