//! One step of every parameter, latent by latent: gradient, projection, Adam, renormalisation.
//!
//! One cube per latent. Its gradient lies in the registers of the cube's threads and nowhere else. The order
//! of calls: [`Gathered::of`], then [`before_encoding`], which needs the encoder from before the step, then
//! [`step`], and [`super::adam::adam`] for `b_dec`.

use cubecl::prelude::*;

use super::{
    adam::{Constants, Parameter, Step, descend, descend_row},
    columns,
    gather::Gathered,
    residual::address,
    spread::{Spread, add_segments, add_x, add_y, column, is_column, load},
    tree,
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// The parameters of the latents.
#[derive(Debug, Clone)]
pub struct Latents {
    /// `[n, d_in]`.
    pub w_enc: Parameter,
    /// `[n]`.
    pub b_enc: Parameter,
    /// Atoms, `[n, d_out]`.
    pub w_dec: Parameter,
}

/// What gradients have beside the terms of the batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// Of `b_enc`, `[n]`.
    pub bias: Option<&'a Floats>,
    /// What each atom adds of itself to its own gradient, `[n]`.
    pub pull: Option<&'a Floats>,
}

/// How a kernel is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    threads: usize,
    columns_in: usize,
    columns_out: usize,
    has_bias: bool,
    has_pull: bool,
    unit_norm: bool,
    parts: bool,
}

/// `Σ_latents through·w_enc`, `[d_in]`: what the gradient of `b_dec` is less by where `b_dec` is subtracted
/// before encoding. To be asked for before [`step`].
pub fn before_encoding<R: Runtime>(card: &Card<R>, gathered: &Gathered, latents: &Latents) -> Floats {
    let d_in = gathered.batch.centre.len();
    columns::weighted(card, &gathered.through, &latents.w_enc.value, d_in)
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
    let spread = Spread::of(d_in.max(d_out));
    let threads = spread.threads;
    let form = Form {
        threads,
        columns_in: Spread::over(threads, d_in).columns,
        columns_out: Spread::over(threads, d_out).columns,
        has_bias: beside.bias.is_some(),
        has_pull: beside.pull.is_some(),
        unit_norm,
        parts: gathered.parts,
    };
    let absent: Floats = card.room(1);
    step_latents::launch::<R>(
        card.client(),
        cubes(n),
        spread.units(),
        address([&batch.x, &batch.y, &gathered.sums, &w_enc.value, &w_dec.value]),
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
        w_enc.value.arg(),
        w_enc.m.arg(),
        w_enc.v.arg(),
        b_enc.value.arg(),
        b_enc.m.arg(),
        b_enc.v.arg(),
        w_dec.value.arg(),
        w_dec.m.arg(),
        w_dec.v.arg(),
        constants.arg(),
        n,
        batch.part,
        gathered.y_rows,
        d_in,
        d_out,
        form,
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
    w_enc: &mut Array<f32>,
    w_enc_m: &mut Array<f32>,
    w_enc_v: &mut Array<f32>,
    b_enc: &mut Array<f32>,
    b_enc_m: &mut Array<f32>,
    b_enc_v: &mut Array<f32>,
    w_dec: &mut Array<f32>,
    w_dec_m: &mut Array<f32>,
    w_dec_v: &mut Array<f32>,
    step: Step,
    n: usize,
    part: usize,
    y_rows: usize,
    d_in: usize,
    d_out: usize,
    #[comptime] form: Form,
) {
    let latent = CUBE_POS;
    if latent >= n {
        terminate!();
    }
    let threads = comptime!(form.threads);
    let (from, to) = (starts[latent] as usize, starts[latent + 1] as usize);
    let (first, last) = (segments[latent] as usize, segments[latent + 1] as usize);

    let columns = comptime!(form.columns_in);
    let mut g = Array::<f32>::new(columns);
    add_segments(&mut g, sums, first, last, d_in + d_out + 1, 0usize, d_in, columns, threads);
    if first == last {
        add_x(&mut g, from, to, rows, encoder, x, centre, part, 0usize, d_in, columns, threads, form.parts);
    }
    let mut row = Array::<f32>::new(columns);
    let at = latent * d_in;
    load(&mut row, w_enc, at, d_in, columns, threads);
    descend_row(&g, &mut row, at, d_in, w_enc_m, w_enc_v, &step, columns, threads);
    #[unroll]
    for j in 0..columns {
        if is_column(0usize, d_in, j, threads) {
            w_enc[at + column(0usize, d_in, j, threads)] = row[j];
        }
    }

    if UNIT_POS == 0 {
        let mut g = through[latent];
        if comptime!(form.has_bias) {
            g += bias[latent];
        }
        b_enc[latent] = descend(g, latent, b_enc[latent], b_enc_m, b_enc_v, &step);
    }

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    add_segments(&mut g, sums, first, last, d_in + d_out + 1, d_in, d_out, columns, threads);
    if first == last {
        add_y(&mut g, from, to, rows, decoder, y, y_rows, 0usize, d_out, columns, threads);
    }
    let mut pulled = 0.0f32;
    if comptime!(form.has_pull) {
        pulled = pull[latent];
    }
    step_atom(&mut g, latent * d_out, pulled, w_dec, w_dec_m, w_dec_v, &step, d_out, form);
}

/// One step of the atom that begins at `at`, with gradient `g`.
#[cube]
fn step_atom(
    g: &mut Array<f32>,
    at: usize,
    pulled: f32,
    w_dec: &mut Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    step: &Step,
    d: usize,
    #[comptime] form: Form,
) {
    let threads = comptime!(form.threads);
    let columns = comptime!(form.columns_out);
    let mut part = SharedMemory::<f32>::new(threads);
    let mut atom = Array::<f32>::new(columns);
    load(&mut atom, w_dec, at, d, columns, threads);
    let mut along = 0.0f32;
    #[unroll]
    for j in 0..columns {
        if comptime!(form.has_pull) {
            g[j] = fma(pulled, atom[j], g[j]);
        }
        along = fma(g[j], atom[j], along);
    }
    if comptime!(form.unit_norm) {
        let parallel = tree::total(along, &mut part, threads);
        #[unroll]
        for j in 0..columns {
            g[j] = fma(-parallel, atom[j], g[j]);
        }
    }
    descend_row(g, &mut atom, at, d, m, v, step, columns, threads);
    let mut square = 0.0f32;
    #[unroll]
    for j in 0..columns {
        let own = select(is_column(0usize, d, j, threads), atom[j], 0.0f32);
        square = fma(own, own, square);
    }
    let mut scale = 1.0f32;
    if comptime!(form.unit_norm) {
        let norm = tree::total(square, &mut part, threads).sqrt();
        // An atom of zeros stays one.
        if norm > 0.0f32 {
            scale = 1.0f32 / norm;
        }
    }
    #[unroll]
    for j in 0..columns {
        if is_column(0usize, d, j, threads) {
            w_dec[at + column(0usize, d, j, threads)] = atom[j] * scale;
        }
    }
}
