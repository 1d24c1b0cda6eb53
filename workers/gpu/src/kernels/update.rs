//! One step of every parameter, latent by latent: gradient, projection, Adam, renormalisation.
//!
//! One cube per latent. Its gradient lies in the registers of the cube's threads and nowhere else. The order
//! of calls: [`Gathered::of`], then [`before_encoding`], which needs the encoder from before the step, then
//! [`step`], and [`super::adam::adam`] for `b_dec`. Where gradients of several batches are added before the step,
//! [`super::dense`] has its two halves: the same lines and the same bits, with the gradient in memory between them.

use cubecl::prelude::*;

use super::{
    adam::{Constants, Parameter, Step},
    columns,
    descent::{Form, step_atom, step_bias, step_encoder},
    gather::Gathered,
    moments::Moments,
    residual::positions,
    spread::{add_segments, add_x, add_y},
    weights::{Matrix, Weights},
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// The parameters of the latents.
#[derive(Debug, Clone)]
pub struct Latents {
    /// `[n, d_in]`; rounded, with the bias behind each row.
    pub w_enc: Weights,
    /// `[n]`.
    pub b_enc: Parameter,
    /// Atoms, `[n, d_out]`.
    pub w_dec: Weights,
}

impl Latents {
    /// Of no latents.
    pub fn none<R: Runtime>(card: &Card<R>) -> Self {
        let none = || card.room(0);
        let weights =
            || Weights { value: none(), moments: Moments::Floats { m: none(), v: none() }, rounded: None };
        Latents {
            w_enc: weights(),
            b_enc: Parameter { value: none(), m: none(), v: none() },
            w_dec: weights(),
        }
    }
}

/// What gradients have beside the terms of the batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// Of `b_enc`, `[n]`.
    pub bias: Option<&'a Floats>,
    /// What each atom adds of itself to its own gradient, `[n]`.
    pub pull: Option<&'a Floats>,
}

/// `Σ_latents through·w_enc`, `[d_in]`: what the gradient of `b_dec` is less by where `b_dec` is subtracted
/// before encoding. To be asked for before [`step`].
pub fn before_encoding<R: Runtime>(card: &Card<R>, gathered: &Gathered, latents: &Latents) -> Floats {
    let d_in = gathered.batch.centre.len();
    columns::weighted(card, &gathered.through, latents.w_enc.lines(), d_in)
}

/// One step of the parameters of all latents. With `unit_norm`, the gradient along an atom is removed, and
/// atoms have norm 1 afterwards.
pub fn step<R: Runtime>(
    card: &Card<R>,
    gathered: &Gathered,
    latents: &Latents,
    beside: Beside,
    constants: &Constants,
    unit_norm: bool,
) {
    let Gathered { batch, lists, .. } = gathered;
    let Latents { w_enc, b_enc, w_dec } = latents;
    let (n, d_in, d_out) = (b_enc.value.len(), batch.centre.len(), batch.d_out);
    let form = Form::of(d_in, d_out, beside, unit_norm);
    let absent: Floats = card.room(1);
    step_latents::launch::<R>(
        card.client(),
        cubes(n),
        form.units(),
        positions([batch.x.len(), batch.y.len(), gathered.sums.len(), w_enc.positions(), w_dec.positions()]),
        lists.starts.arg(),
        lists.segments.arg(),
        lists.rows.arg(),
        lists.decoder.arg(),
        lists.encoder.arg(),
        batch.x.arg(),
        batch.centre.arg(),
        batch.y.arg(),
        gathered.sums.arg(),
        gathered.through.arg(),
        beside.bias.unwrap_or(&absent).arg(),
        beside.pull.unwrap_or(&absent).arg(),
        w_enc.arg(),
        b_enc.value.arg(),
        b_enc.m.arg(),
        b_enc.v.arg(),
        w_dec.arg(),
        constants.arg(),
        n,
        batch.part,
        gathered.y_rows,
        d_in,
        d_out,
        w_enc.lines().pitch(d_in),
        w_dec.lines().pitch(d_out),
        form,
        gathered.parts,
    );
}

#[cube(launch, address_type = "dynamic")]
fn step_latents(
    starts: &Array<u32>,
    segments: &Array<u32>,
    rows: &Array<u32>,
    decoder: &Array<f32>,
    encoder: &Array<f32>,
    x: &Array<f32>,
    centre: &Array<f32>,
    y: &Array<f32>,
    sums: &Array<f32>,
    through: &Array<f32>,
    bias: &Array<f32>,
    pull: &Array<f32>,
    w_enc: &mut Matrix,
    b_enc: &mut Array<f32>,
    b_enc_m: &mut Array<f32>,
    b_enc_v: &mut Array<f32>,
    w_dec: &mut Matrix,
    step: Step,
    n: usize,
    part: usize,
    y_rows: usize,
    d_in: usize,
    d_out: usize,
    pitch_in: usize,
    pitch_out: usize,
    #[comptime] form: Form,
    #[comptime] parts: bool,
) {
    let latent = CUBE_POS;
    if latent >= n {
        terminate!();
    }
    let threads = comptime!(form.threads);
    let columns = comptime!(form.columns_in);
    let mut g = Array::<f32>::new(columns);
    sum_encoder(
        &mut g, latent, starts, segments, rows, encoder, x, centre, sums, part, d_in, d_out, columns,
        threads, parts,
    );
    step_encoder(&g, latent, w_enc, &step, d_in, pitch_in, form);
    if UNIT_POS == 0 {
        step_bias(through[latent], latent, bias, b_enc, b_enc_m, b_enc_v, w_enc, &step, d_in, pitch_in, form);
    }

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    sum_atom(&mut g, latent, starts, segments, rows, decoder, y, sums, y_rows, d_in, d_out, columns, threads);
    step_atom(&mut g, latent, pull, w_dec, &step, d_out, pitch_out, form);
}

/// The gradient of a latent's encoder row.
#[cube]
pub(super) fn sum_encoder(
    g: &mut Array<f32>,
    latent: usize,
    starts: &Array<u32>,
    segments: &Array<u32>,
    rows: &Array<u32>,
    encoder: &Array<f32>,
    x: &Array<f32>,
    centre: &Array<f32>,
    sums: &Array<f32>,
    part: usize,
    d_in: usize,
    d_out: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
    #[comptime] parts: bool,
) {
    let (from, to) = (starts[latent] as usize, starts[latent + 1] as usize);
    let (first, last) = (segments[latent] as usize, segments[latent + 1] as usize);
    add_segments(g, sums, first, last, d_in + d_out + 1, 0usize, d_in, columns, threads);
    if first == last {
        add_x(g, from, to, rows, encoder, x, centre, part, 0usize, d_in, columns, threads, parts);
    }
}

/// The gradient of a latent's atom, but for what the atom adds of itself.
#[cube]
pub(super) fn sum_atom(
    g: &mut Array<f32>,
    latent: usize,
    starts: &Array<u32>,
    segments: &Array<u32>,
    rows: &Array<u32>,
    decoder: &Array<f32>,
    y: &Array<f32>,
    sums: &Array<f32>,
    y_rows: usize,
    d_in: usize,
    d_out: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    let (from, to) = (starts[latent] as usize, starts[latent + 1] as usize);
    let (first, last) = (segments[latent] as usize, segments[latent + 1] as usize);
    add_segments(g, sums, first, last, d_in + d_out + 1, d_in, d_out, columns, threads);
    if first == last {
        add_y(g, from, to, rows, decoder, y, y_rows, 0usize, d_out, columns, threads);
    }
}
