//! Golden numbers (verified against torch float64 autograd), central differences, burn's autodiff.

use super::*;
use crate::{
    kernels::{gather, lanes},
    skeleton::{gradient::LatentGrad, parameters::Parameter},
};

const D: usize = 6;
const F: usize = 12;
const B: usize = 5;
const LANES: &[usize] = &[0, B];

/// The generator of the golden numbers, exact in integers.
fn u(t: u64, n: usize) -> f64 {
    let m = n as u64 + 1000 * t;
    ((m * m * 7919 + m * 104_729 + 12_345) % 65_537) as f64 / 32_768.5 - 1.0
}

fn fill<R: Real>(t: u64, n: usize, scale: f64) -> Vec<R> {
    (0..n).map(|i| R::of(scale * u(t, i))).collect()
}

fn golden<R: Real>() -> (Parameters<R>, Vec<R>) {
    let mut atoms: Vec<f64> = fill(3, F * D, 1.0);
    atoms.chunks_mut(D).for_each(|row| {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        row.iter_mut().for_each(|v| *v /= norm);
    });
    let parameters = Parameters {
        d_in: D,
        w_enc: Parameter::new(fill(2, F * D, 0.6)),
        b_enc: Parameter::new(fill(4, F, 0.05)),
        w_dec: Parameter::new(atoms.into_iter().map(R::of).collect()),
        b_dec: Parameter::new(fill(5, D, 0.1)),
    };
    (parameters, fill(1, B * D, 1.5))
}

const TOP_K: Objective = Objective { k: 3, aux_coefficient: 0.0, k_aux: 2, per_variance: false };
const TOP_K_AUX: Objective = Objective { aux_coefficient: 1.0 / 32.0, ..TOP_K };

/// Dense gradients: [dWe, dbe, dWd, dbd].
fn dense<R: Real>(p: &Parameters<R>, gradient: &Gradient<R>) -> [Vec<f64>; 4] {
    let (mut grad, mut out) = (LatentGrad::new(p.d_in), [const { Vec::new() }; 4]);
    let mut through = vec![0f64; p.d_in];
    for latent in 0..p.n_latents() {
        gradient.latent(latent, &mut grad);
        out[0].extend(grad.w_enc.iter().map(|v| v.f64()));
        out[1].push(grad.b_enc.f64());
        out[2].extend(grad.w_dec.iter().map(|v| v.f64()));
        let row = &p.w_enc.value[latent * p.d_in..][..p.d_in];
        through.iter_mut().zip(row).for_each(|(t, w)| *t += grad.b_enc.f64() * w.f64());
    }
    out[3] = gradient.b_dec(&through).iter().map(|v| v.f64()).collect();
    out
}

fn step<'a, R: Real>(
    path: Path,
    parameters: &'a Parameters<R>,
    x: &'a [R],
    lanes: &'a [usize],
    dead: &'a [u32],
) -> Step<'a, 'a, R> {
    let scatter = lanes::moments(path, x, D, lanes).scatter(B);
    Step { path, screen: Screen::Off, parameters, x, lanes, scatter, dead }
}

fn run<R: Real>(objective: &Objective, dead: &[u32], lanes: &[usize]) -> (Losses, [Vec<f64>; 4], Codes) {
    let (parameters, x) = golden::<R>();
    let step = step(Path::best(), &parameters, &x, lanes, dead);
    let backward = objective.evaluate(&step, &mut Rooms::default());
    (backward.losses, dense(&parameters, &backward.gradient), backward.codes)
}

fn close(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance * expected.abs().max(1.0), "{actual} is not {expected}");
}

fn norm(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// (loss, [(Frobenius norm, first element); dWe, dbe, dWd, dbd])
type Golden = (f64, [(f64, f64); 4]);

const GOLDEN_TOP_K: Golden = (
    8.097_212_687_0,
    [
        (5.371_907_68, 0.149_292_29),
        (3.024_957_76, 0.773_146_46),
        (5.279_881_07, 0.259_615_35),
        (5.623_929_47, 1.491_643_65),
    ],
);
const GOLDEN_AUX: Golden = (
    8.152_141_133_5,
    [
        (5.383_959_85, 0.149_292_29),
        (3.029_265_12, 0.773_146_46),
        (5.285_361_58, 0.259_615_35),
        (5.626_452_30, 1.488_115_91),
    ],
);

fn check<R: Real>(objective: &Objective, dead: &[u32], golden: &Golden, loss_tol: f64, grad_tol: f64) {
    let (losses, grads, _) = run::<R>(objective, dead, LANES);
    close(losses.total, golden.0, loss_tol);
    for (grad, &(frobenius, first)) in grads.iter().zip(&golden.1) {
        close(norm(grad), frobenius, grad_tol);
        close(grad[0], first, grad_tol);
    }
}

#[test]
fn golden_numbers_top_k() {
    // The table prints losses to 10 and gradients to 8 digits after the point.
    check::<f64>(&TOP_K, &[], &GOLDEN_TOP_K, 1e-10, 5e-9);
    check::<f32>(&TOP_K, &[], &GOLDEN_TOP_K, 1e-5, 1e-5);
    let (_, _, codes) = run::<f64>(&TOP_K, &[], LANES);
    let rows: Vec<&[u32]> = (0..B).map(|b| codes.row(b).0).collect();
    assert_eq!(rows, [&[1, 5, 10][..], &[1, 10, 11], &[1, 4, 7], &[0, 4, 7], &[4, 7, 9]]);
    close(codes.values.iter().map(|&v| f64::from(v)).sum(), 11.493_119_47, 1e-6);
}

#[test]
fn golden_numbers_aux_k() {
    let dead = [8, 9, 10, 11];
    check::<f64>(&TOP_K_AUX, &dead, &GOLDEN_AUX, 1e-10, 5e-9);
    check::<f32>(&TOP_K_AUX, &dead, &GOLDEN_AUX, 1e-5, 1e-5);
    close(run::<f64>(&TOP_K_AUX, &dead, LANES).0.aux, 1.757_710_29, 5e-9);
}

#[test]
fn few_dead_latents_scale_the_auxiliary_loss() {
    let full = Objective { k_aux: 2, ..TOP_K_AUX };
    let wide = Objective { k_aux: 4, ..TOP_K_AUX };
    let (two, four) = (run::<f64>(&full, &[8, 9], LANES).0.aux, run::<f64>(&wide, &[8, 9], LANES).0.aux);
    close(four, two / 2.0, 1e-12);
}

/// Loss with the auxiliary residual held fixed, as AuxK detaches it.
fn loss_at(p: &Parameters<f64>, x: &[f64], objective: &Objective, dead: &[u32], detached: &[f64]) -> f64 {
    let main = objective
        .evaluate(&step(Path::Portable, p, x, LANES, dead), &mut Rooms::default())
        .losses
        .reconstruction;
    if dead.is_empty() {
        return main;
    }
    let encoder = Encoder::subset(&p.w_enc.value, &p.b_enc.value, D, dead);
    let selection = Selection::TopK(objective.k_aux);
    let Selected { codes, values, .. } =
        encoder.select(Path::Portable, Screen::Off, x, &p.b_dec.value, selection);
    let mut hat = vec![0f64; x.len()];
    gather::decode(Path::Portable, &codes, &values, &p.w_dec.value, &[0.0; D], &mut hat);
    let scatter = lanes::moments(Path::Portable, detached, D, LANES).scatter(B);
    let missed: f64 = detached.iter().zip(&hat).map(|(e, h)| (e - h).powi(2)).sum();
    let few = (dead.len() as f64 / objective.k_aux as f64).min(1.0);
    main + objective.aux_coefficient * few * missed / scatter
}

fn error_of(p: &Parameters<f64>, x: &[f64], k: usize) -> Vec<f64> {
    let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, D);
    let Selected { codes, values, .. } =
        encoder.select(Path::Portable, Screen::Off, x, &p.b_dec.value, Selection::TopK(k));
    let mut hat = vec![0f64; x.len()];
    gather::decode(Path::Portable, &codes, &values, &p.w_dec.value, &p.b_dec.value, &mut hat);
    x.iter().zip(&hat).map(|(x, h)| x - h).collect()
}

#[test]
fn gradients_equal_central_differences() {
    for (objective, dead) in [(TOP_K, &[][..]), (TOP_K_AUX, &[8, 9, 10, 11][..])] {
        for per_variance in [false, true] {
            let objective = Objective { per_variance, ..objective };
            let (p, x) = golden::<f64>();
            let detached = error_of(&p, &x, objective.k);
            let backward =
                objective.evaluate(&step(Path::best(), &p, &x, LANES, dead), &mut Rooms::default());
            let grads = dense(&p, &backward.gradient);
            for (which, grad) in grads.iter().enumerate() {
                for (i, &g) in grad.iter().enumerate() {
                    let at = |delta: f64| {
                        let mut q = p.clone();
                        let tensor = match which {
                            0 => &mut q.w_enc,
                            1 => &mut q.b_enc,
                            2 => &mut q.w_dec,
                            _ => &mut q.b_dec,
                        };
                        tensor.value[i] += delta;
                        loss_at(&q, &x, &objective, dead, &detached)
                    };
                    close(g, (at(1e-6) - at(-1e-6)) / 2e-6, 1e-6);
                }
            }
        }
    }
}

#[test]
fn every_path_gives_the_same_bits() {
    let (p, x) = golden::<f32>();
    let of = |path| {
        let step = step(path, &p, &x, &[0, 2, 5], &[8, 9, 10, 11]);
        dense(&p, &TOP_K_AUX.evaluate(&step, &mut Rooms::default()).gradient)
    };
    for path in Path::available() {
        assert_eq!(of(path), of(Path::Portable), "{path:?}");
    }
}

#[test]
fn lanes_only_change_the_order_of_sums() {
    let (one, many) = (run::<f64>(&TOP_K, &[], LANES), run::<f64>(&TOP_K, &[], &[0, 1, 1, 3, 5]));
    close(one.0.total, many.0.total, 1e-14);
    for (a, b) in one.1.iter().flatten().zip(many.1.iter().flatten()) {
        close(*a, *b, 1e-13);
    }
}

/// An oracle that shares nothing with the kernels: burn's autodiff on the dense formula.
#[test]
fn gradients_equal_burn_autodiff() {
    use burn::{
        backend::{Autodiff, Flex},
        tensor::{Tensor, TensorData},
    };
    type A = Autodiff<Flex>;
    let device = Default::default();
    let (p, x) = golden::<f32>();
    let matrix = |v: &[f32], r: usize, c: usize| {
        Tensor::<A, 2>::from_data(TensorData::new(v.to_vec(), [r, c]), &device)
    };
    let we = matrix(&p.w_enc.value, F, D).require_grad();
    let be = matrix(&p.b_enc.value, 1, F).require_grad();
    let wd = matrix(&p.w_dec.value, F, D).require_grad();
    let bd = matrix(&p.b_dec.value, 1, D).require_grad();
    let xt = matrix(&x, B, D);
    let encoder = Encoder::all(&p.w_enc.value, &p.b_enc.value, D);
    let codes = encoder.select(Path::best(), Screen::Off, &x, &p.b_dec.value, Selection::TopK(3)).codes;
    let mut mask = vec![0f32; B * F];
    (0..B).for_each(|b| codes.row(b).0.iter().for_each(|&l| mask[b * F + l as usize] = 1.0));
    let z = (xt.clone() - bd.clone()).matmul(we.clone().transpose()) + be.clone();
    let error = xt - ((z * matrix(&mask, B, F)).matmul(wd.clone()) + bd.clone());
    let grads = (error.powi_scalar(2).sum() / B as f32).backward();
    let read = |t: &Tensor<A, 2>| -> Vec<f32> { t.grad(&grads).unwrap().into_data().to_vec().unwrap() };
    let ours = run::<f32>(&TOP_K, &[], LANES).1;
    for (ours, oracle) in ours.iter().zip([read(&we), read(&be), read(&wd), read(&bd)]) {
        ours.iter().zip(oracle).for_each(|(a, b)| close(*a, f64::from(b), 1e-5));
    }
}
