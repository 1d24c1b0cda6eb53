//! Checks of [`crate::kernels::adam`]: three steps in a row, against f64.

use super::{Report, numbers::floats, read};
use crate::{
    Runtime,
    card::Card,
    kernels::adam::{Constants, Parameter, adam},
};

const TOLERANCE: f64 = 1e-6;
/// Steps in a row.
pub(super) const STEPS: u64 = 3;

const LR: f64 = 0.01;
const BETAS: (f64, f64) = (0.9, 0.999);
const EPS: f64 = 6.25e-10;

pub(super) fn constants(t: u64) -> Constants {
    let ((beta1, beta2), t) = (BETAS, t as i32);
    Constants {
        beta1: beta1 as f32,
        beta2: beta2 as f32,
        rest1: (1.0 - beta1) as f32,
        rest2: (1.0 - beta2) as f32,
        rate: (LR / (1.0 - beta1.powi(t))) as f32,
        unbias2: (1.0 / (1.0 - beta2.powi(t))) as f32,
        eps: EPS as f32,
    }
}

/// The textbook.
pub(super) fn descend([value, m, v]: &mut [Vec<f64>; 3], at: std::ops::Range<usize>, g: &[f64], t: u64) {
    let ((beta1, beta2), t) = (BETAS, t as i32);
    for (i, &g) in at.zip(g) {
        m[i] = beta1 * m[i] + (1.0 - beta1) * g;
        v[i] = beta2 * v[i] + (1.0 - beta2) * g * g;
        let (m, v) = (m[i] / (1.0 - beta1.powi(t)), v[i] / (1.0 - beta2.powi(t)));
        value[i] -= LR * m / (v.sqrt() + EPS);
    }
}

/// As `b_dec` is stepped.
pub(super) fn check<R: Runtime>(card: &Card<R>, report: &mut Report) {
    for len in [1, 255, 257, 8192] {
        let start = floats(900, len);
        let zeros = vec![0.0f32; len];
        let parameter =
            Parameter { value: card.upload(&start), m: card.upload(&zeros), v: card.upload(&zeros) };
        let wide = |numbers: &[f32]| numbers.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let mut slow = [wide(&start), wide(&zeros), wide(&zeros)];
        for t in 1..=STEPS {
            let g = floats(900 + t, len);
            adam(card, &parameter, &card.upload(&g), &constants(t));
            descend(&mut slow, 0..len, &wide(&g), t);
        }
        for (part, slow) in [&parameter.value, &parameter.m, &parameter.v].into_iter().zip(slow) {
            let slow: Vec<f32> = slow.into_iter().map(|x| x as f32).collect();
            report.close("adam", format!("len {len}"), &read(card, part), &slow, TOLERANCE);
        }
    }
}
