//! The step of [`super::update`] in two halves, with the gradient of all latents in memory between them: so that it
//! can be added to those of other cards.
//!
//! [`gradient`], then whatever adds, then [`step_from`]: with nothing in between, the bits of
//! [`super::update::step`]. What acts on a gradient once stands in the second half: a bias of its own, what an atom
//! adds of itself, the projection.

use cubecl::prelude::*;

use super::{
    adam::{Constants, Step},
    descent::{Form, step_atom, step_bias, step_encoder},
    gather::Gathered,
    residual::{address, positions},
    spread::{load, store},
    update::{Beside, Latents, sum_atom, sum_encoder},
    weights::Matrix,
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// The gradient of all latents.
#[derive(Debug, Clone)]
pub struct Dense {
    /// `[n, d_in]`.
    pub w_enc: Floats,
    /// `[n]`: what [`Gathered::through`] is.
    pub b_enc: Floats,
    /// `[n, d_out]`, without projection.
    pub w_dec: Floats,
}

impl Dense {
    /// Room for the gradient of `n` latents.
    pub fn room<R: Runtime>(card: &Card<R>, n: usize, d_in: usize, d_out: usize) -> Self {
        Dense { w_enc: card.room(n * d_in), b_enc: card.room(n), w_dec: card.room(n * d_out) }
    }
}

/// The gradient of the latents that `gathered` was made for, into `into`; every number there is written.
pub fn gradient<R: Runtime>(card: &Card<R>, gathered: &Gathered, into: &Dense) {
    let Gathered { batch, lists, .. } = gathered;
    let (n, d_in, d_out) = (into.b_enc.len(), batch.centre.len(), batch.d_out);
    let form = Form::of(d_in, d_out, Beside::default(), false);
    sum_latents::launch::<R>(
        card.client(),
        cubes(n),
        form.units(),
        address([&batch.x, &batch.y, &gathered.sums, &into.w_enc, &into.w_dec]),
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
        into.w_enc.arg(),
        into.b_enc.arg(),
        into.w_dec.arg(),
        n,
        batch.part,
        gathered.y_rows,
        d_in,
        d_out,
        form,
        gathered.parts,
    );
}

#[cube(launch, address_type = "dynamic")]
fn sum_latents(
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
    of_w_enc: &mut Array<f32>,
    of_b_enc: &mut Array<f32>,
    of_w_dec: &mut Array<f32>,
    n: usize,
    part: usize,
    y_rows: usize,
    d_in: usize,
    d_out: usize,
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
    store(&g, of_w_enc, latent * d_in, d_in, columns, threads);
    if UNIT_POS == 0 {
        of_b_enc[latent] = through[latent];
    }

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    sum_atom(&mut g, latent, starts, segments, rows, decoder, y, sums, y_rows, d_in, d_out, columns, threads);
    store(&g, of_w_dec, latent * d_out, d_out, columns, threads);
}

/// One step of the parameters of all latents with the gradient `dense`, otherwise as [`super::update::step`].
pub fn step_from<R: Runtime>(
    card: &Card<R>,
    dense: &Dense,
    latents: &Latents,
    beside: Beside,
    constants: &Constants,
    unit_norm: bool,
) {
    let Latents { w_enc, b_enc, w_dec } = latents;
    let n = b_enc.value.len();
    let [d_in, d_out] = [w_enc, w_dec].map(|of| of.value.len() / n.max(1));
    let form = Form::of(d_in, d_out, beside, unit_norm);
    let absent: Floats = card.room(1);
    step_latents_from::launch::<R>(
        card.client(),
        cubes(n),
        form.units(),
        positions([w_enc.positions(), w_dec.positions()]),
        dense.w_enc.arg(),
        dense.b_enc.arg(),
        dense.w_dec.arg(),
        beside.bias.unwrap_or(&absent).arg(),
        beside.pull.unwrap_or(&absent).arg(),
        w_enc.arg(),
        b_enc.value.arg(),
        b_enc.m.arg(),
        b_enc.v.arg(),
        w_dec.arg(),
        constants.arg(),
        n,
        d_in,
        d_out,
        w_enc.lines().pitch(d_in),
        w_dec.lines().pitch(d_out),
        form,
    );
}

#[cube(launch, address_type = "dynamic")]
fn step_latents_from(
    of_w_enc: &Array<f32>,
    of_b_enc: &Array<f32>,
    of_w_dec: &Array<f32>,
    bias: &Array<f32>,
    pull: &Array<f32>,
    w_enc: &mut Matrix,
    b_enc: &mut Array<f32>,
    b_enc_m: &mut Array<f32>,
    b_enc_v: &mut Array<f32>,
    w_dec: &mut Matrix,
    step: Step,
    n: usize,
    d_in: usize,
    d_out: usize,
    pitch_in: usize,
    pitch_out: usize,
    #[comptime] form: Form,
) {
    let latent = CUBE_POS;
    if latent >= n {
        terminate!();
    }
    let threads = comptime!(form.threads);
    let columns = comptime!(form.columns_in);
    let mut g = Array::<f32>::new(columns);
    load(&mut g, of_w_enc, latent * d_in, d_in, columns, threads);
    step_encoder(&g, latent, w_enc, &step, d_in, pitch_in, form);
    if UNIT_POS == 0 {
        step_bias(
            of_b_enc[latent],
            latent,
            bias,
            b_enc,
            b_enc_m,
            b_enc_v,
            w_enc,
            &step,
            d_in,
            pitch_in,
            form,
        );
    }

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    load(&mut g, of_w_dec, latent * d_out, d_out, columns, threads);
    step_atom(&mut g, latent, pull, w_dec, &step, d_out, pitch_out, form);
}
