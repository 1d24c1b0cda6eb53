//! Golden numbers (methods.md §0.7, verified against torch float64 autograd), central differences and
//! the equality of paths, for any variant.

use super::{
    SaeVariant,
    aux_k::AuxK,
    clip,
    gradient::LatentGrad,
    objective::{Backward, Loss, Losses, Step},
    parameters::{Extra, Parameter, Parameters},
    rooms::Rooms,
};
use crate::kernels::{Path, Real, encode::Screen, lanes};

/// Width of the golden rows.
pub(crate) const D: usize = 6;
/// Golden latents.
pub(crate) const F: usize = 12;
/// Golden rows.
pub(crate) const B: usize = 5;

/// The generator of the golden numbers, exact in integers.
pub(crate) fn u(t: u64, n: usize) -> f64 {
    let m = n as u64 + 1000 * t;
    ((m * m * 7919 + m * 104_729 + 12_345) % 65_537) as f64 / 32_768.5 - 1.0
}

/// `n` numbers of stream `t`, scaled.
pub(crate) fn fill<R: Real>(t: u64, n: usize, scale: f64) -> Vec<R> {
    (0..n).map(|i| R::of(scale * u(t, i))).collect()
}

/// The golden atoms: rows of stream 3, unit norm.
pub(crate) fn unit_rows<R: Real>() -> Vec<R> {
    let mut atoms: Vec<f64> = fill(3, F * D, 1.0);
    atoms.chunks_mut(D).for_each(|row| {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v /= norm);
    });
    atoms.into_iter().map(R::of).collect()
}

/// The golden rows.
pub(crate) fn rows<R: Real>() -> Vec<R> {
    fill(1, B * D, 1.5)
}

/// The golden parameters.
pub(crate) fn parameters<R: Real>() -> Parameters<R> {
    Parameters {
        d_in: D,
        pre_bias: true,
        w_enc: Parameter::new(fill(2, F * D, 0.6)),
        b_enc: Parameter::new(fill(4, F, 0.05)),
        w_dec: Parameter::new(unit_rows()),
        b_dec: Parameter::new(fill(5, D, 0.1)),
        extras: Vec::new(),
    }
}

/// What the variant is given.
#[derive(Debug, Clone)]
pub(crate) struct Case<R> {
    /// Instructions to use.
    pub path: Path,
    /// Parameters, extras included.
    pub parameters: Parameters<R>,
    /// Rows.
    pub x: Vec<R>,
    /// What is reconstructed, if not the rows.
    pub target: Option<Vec<R>>,
    /// Columns beside them.
    pub beside: Vec<Vec<R>>,
    /// Lanes.
    pub lanes: Vec<usize>,
    /// Dead latents.
    pub dead: Vec<u32>,
    /// The auxiliary loss.
    pub aux: AuxK,
    /// Number of the step, and of all steps.
    pub number: (u64, u64),
    /// The largest norm of the gradient.
    pub clip: Option<f64>,
}

impl<R: Real> Default for Case<R> {
    fn default() -> Self {
        Case {
            path: Path::best(),
            parameters: parameters(),
            x: rows(),
            target: None,
            beside: Vec::new(),
            lanes: vec![0, B],
            dead: Vec::new(),
            aux: AuxK::OFF,
            number: (1, 1),
            clip: None,
        }
    }
}

/// The loss, dense gradients [dWe, dbe, dWd, dbd, extras…], and the pairs that fired.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// The loss.
    pub losses: Losses,
    /// Gradients.
    pub gradients: Vec<Vec<f64>>,
    /// Pairs of the first code with a value.
    pub nnz: usize,
}

impl<R: Real> Case<R> {
    /// With an extra parameter.
    pub(crate) fn extra(mut self, name: &'static str, values: Vec<R>) -> Self {
        let shape = vec![values.len()];
        self.parameters.extras.push(Extra::new(name, shape, values));
        self
    }

    /// Runs the forward pass of a variant and makes its gradients dense.
    pub(crate) fn run(&self, variant: &mut impl SaeVariant) -> Outcome {
        let p = &self.parameters;
        let target = self.target.as_deref().unwrap_or(&self.x);
        let scatter =
            lanes::moments(self.path, target, p.d_out(), &self.lanes).scatter(self.x.len() / p.d_in);
        let step = Step {
            path: self.path,
            card: None,
            screen: Screen::Off,
            parameters: p,
            x: &self.x,
            target,
            beside: &self.beside,
            lanes: &self.lanes,
            scatter,
            dead: &self.dead,
            k_aux: if self.aux.coefficient > 0.0 { self.aux.k } else { 0 },
            number: self.number.0,
            steps: self.number.1,
        };
        let mut rooms = Rooms::default();
        let mut loss = Loss::new(step, &mut rooms);
        variant.forward(&mut loss, &self.aux);
        let mut backward = loss.backward();
        if let Some(most) = self.clip {
            backward.gradient.scale(clip::factor(self.path, p, &backward.gradient, most));
        }
        Outcome { losses: backward.losses, gradients: dense(p, &backward), nnz: backward.nnz }
    }
}

fn dense<R: Real>(p: &Parameters<R>, backward: &Backward<R>) -> Vec<Vec<f64>> {
    let gradient = &backward.gradient;
    let (mut grad, mut out) = (LatentGrad::new(p.d_in, p.d_out()), vec![Vec::new(); 4]);
    let mut through = vec![0f64; p.d_in];
    for latent in 0..p.n_latents() {
        gradient.latent(latent, &mut grad);
        let pull = gradient.pull.as_ref().map_or(0.0, |pull| pull[latent].f64());
        out[0].extend(grad.w_enc.iter().map(|v| v.f64()));
        out[1].push(grad.b_enc.f64());
        out[2].extend(grad.w_dec.iter().zip(p.atom(latent)).map(|(v, d)| v.f64() + pull * d.f64()));
        let row = &p.w_enc.value[latent * p.d_in..][..p.d_in];
        through.iter_mut().zip(row).for_each(|(t, w)| *t += grad.through.f64() * w.f64());
    }
    out[3] = gradient.b_dec(&through).iter().map(|v| v.f64()).collect();
    out.extend(gradient.extras.iter().map(|extra| extra.iter().map(|v| v.f64()).collect()));
    out
}

/// Fails unless `actual` is `expected` to a relative tolerance (absolute below 1).
pub(crate) fn close(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance * expected.abs().max(1.0), "{actual} is not {expected}");
}

/// Frobenius norm.
pub(crate) fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The loss and, per gradient, its Frobenius norm and first element. The table prints losses to 10 and
/// gradients to 8 digits after the point.
pub(crate) fn check(outcome: &Outcome, loss: f64, gradients: &[(f64, f64)]) {
    close(outcome.losses.total, loss, 1e-10);
    assert_eq!(outcome.gradients.len(), gradients.len());
    for (gradient, &(frobenius, first)) in outcome.gradients.iter().zip(gradients) {
        close(norm(gradient), frobenius, 5e-9);
        close(gradient[0], first, 5e-9);
    }
}

/// Compares every gradient with central differences of `loss`, which may hold detached parts fixed;
/// tensors in `skip` (by number) are estimates and are left out.
pub(crate) fn central_differences(
    case: &Case<f64>,
    gradients: &[Vec<f64>],
    skip: &[usize],
    mut loss: impl FnMut(&Case<f64>) -> f64,
) {
    for (which, gradient) in gradients.iter().enumerate().filter(|(which, _)| !skip.contains(which)) {
        for (i, &g) in gradient.iter().enumerate() {
            let mut at = |delta: f64| {
                let mut case = case.clone();
                let p = &mut case.parameters;
                let tensor = match which {
                    0 => &mut p.w_enc,
                    1 => &mut p.b_enc,
                    2 => &mut p.w_dec,
                    3 => &mut p.b_dec,
                    extra => &mut p.extras[extra - 4].parameter,
                };
                tensor.value[i] += delta;
                loss(&case)
            };
            close(g, (at(1e-6) - at(-1e-6)) / 2e-6, 2e-6);
        }
    }
}

/// The same bits on every path, in f32; and lanes change nothing but the order of sums, in f64.
pub(crate) fn paths_and_lanes(
    single: &Case<f32>,
    double: &Case<f64>,
    mut variant: impl FnMut() -> Box<dyn FnOnceRun>,
) {
    let lanes = [vec![0, B], vec![0, 1, 1, 3, B]];
    let of = |path, variant: Box<dyn FnOnceRun>| {
        variant.single(&Case { path, lanes: vec![0, 2, B], ..single.clone() })
    };
    let portable = of(Path::Portable, variant());
    for path in Path::available() {
        assert_eq!(of(path, variant()).gradients, portable.gradients, "{path:?}");
    }
    let [one, many] = lanes.map(|lanes| variant().double(&Case { lanes, ..double.clone() }));
    close(one.losses.total, many.losses.total, 1e-13);
    for (a, b) in one.gradients.iter().flatten().zip(many.gradients.iter().flatten()) {
        close(*a, *b, 1e-12);
    }
}

/// A variant that can be run once in either precision.
pub(crate) trait FnOnceRun {
    /// In f32.
    fn single(self: Box<Self>, case: &Case<f32>) -> Outcome;
    /// In f64.
    fn double(self: Box<Self>, case: &Case<f64>) -> Outcome;
}

impl<V: SaeVariant> FnOnceRun for V {
    fn single(mut self: Box<Self>, case: &Case<f32>) -> Outcome {
        case.run(&mut *self)
    }

    fn double(mut self: Box<Self>, case: &Case<f64>) -> Outcome {
        case.run(&mut *self)
    }
}
