//! Adam (Kingma & Ba 2015), as `atomflow_workers::kernels::adam` has it: the same operations in the same order.

use cubecl::prelude::*;

use super::residual::address;
use crate::{
    Runtime,
    card::{Card, Floats, cubes, units},
};

const THREADS: usize = 256;

/// The constants of one step, with the bias corrections folded in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Constants {
    /// β₁.
    pub beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// `1 − β₁`.
    pub rest1: f32,
    /// `1 − β₂`.
    pub rest2: f32,
    /// `lr / (1 − β₁ᵗ)`.
    pub rate: f32,
    /// `1 / (1 − β₂ᵗ)`.
    pub unbias2: f32,
    /// Beside `√v`.
    pub eps: f32,
}

/// A parameter with its moments, all of one length.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// As it is now.
    pub value: Floats,
    /// Mean of gradients.
    pub m: Floats,
    /// Mean of squared gradients.
    pub v: Floats,
}

/// [`Constants`] as kernels take them.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Step {
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    rate: f32,
    unbias2: f32,
    eps: f32,
}

impl Constants {
    /// As an argument of a kernel.
    pub(super) fn arg<R: Runtime>(&self) -> StepLaunch<R> {
        let Constants { beta1, beta2, rest1, rest2, rate, unbias2, eps } = *self;
        StepLaunch::new(beta1, beta2, rest1, rest2, rate, unbias2, eps)
    }
}

/// One step of a parameter with gradient `g`.
pub fn adam<R: Runtime>(card: &Card<R>, parameter: &Parameter, g: &Floats, constants: &Constants) {
    let Parameter { value, m, v } = parameter;
    if !g.is_empty() {
        adam_step::launch::<R>(
            card.client(),
            cubes(g.len().div_ceil(THREADS)),
            units(THREADS as u32),
            address([g]),
            g.arg(),
            value.arg(),
            m.arg(),
            v.arg(),
            constants.arg(),
            g.len(),
        );
    }
}

#[cube(launch, address_type = "dynamic")]
fn adam_step(
    g: &Array<f32>,
    value: &mut Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    step: Step,
    len: usize,
) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        value[i] = descend(g[i], i, value[i], m, v, &step);
    }
}

/// What becomes of `value` with gradient `g`; its moments at `i` are stepped.
#[cube]
pub(super) fn descend(
    g: f32,
    i: usize,
    value: f32,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    step: &Step,
) -> f32 {
    let (mean, square) = moments(g, m[i], v[i], step);
    m[i] = mean;
    v[i] = square;
    moved(value, mean, square, step)
}

/// Both moments after gradient `g`.
#[cube]
pub(super) fn moments(g: f32, mean: f32, square: f32, step: &Step) -> (f32, f32) {
    (fma(step.beta1, mean, step.rest1 * g), fma(step.beta2, square, step.rest2 * g * g))
}

/// A value moved by them.
#[cube]
pub(super) fn moved(value: f32, mean: f32, square: f32, step: &Step) -> f32 {
    value - step.rate * mean / ((square * step.unbias2).sqrt() + step.eps)
}
