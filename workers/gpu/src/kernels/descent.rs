//! What one cube does to the parameters of its latent, given the gradient: projection, Adam, renormalisation.

use cubecl::prelude::*;

use super::{
    adam::{Step, descend},
    moments::descend_row,
    spread::{Spread, is_column, load, store},
    tree,
    update::Beside,
    weights::{Matrix, store_pieces, store_rounded},
};
use crate::card::units;

/// How a kernel that steps is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Form {
    pub(super) threads: usize,
    pub(super) columns_in: usize,
    pub(super) columns_out: usize,
    pub(super) has_bias: bool,
    pub(super) has_pull: bool,
    pub(super) unit_norm: bool,
}

impl Form {
    pub(super) fn of(d_in: usize, d_out: usize, beside: Beside, unit_norm: bool) -> Self {
        let threads = Spread::of(d_in.max(d_out)).threads;
        Form {
            threads,
            columns_in: Spread::over(threads, d_in).columns,
            columns_out: Spread::over(threads, d_out).columns,
            has_bias: beside.bias.is_some(),
            has_pull: beside.pull.is_some(),
            unit_norm,
        }
    }

    /// Threads of a cube.
    #[allow(clippy::cast_possible_truncation, reason = "at most 256")]
    pub(super) fn units(self) -> CubeDim {
        units(self.threads as u32)
    }
}

/// One step of a latent's encoder row, with gradient `g`.
#[cube]
pub(super) fn step_encoder(
    g: &Array<f32>,
    latent: usize,
    w_enc: &mut Matrix,
    step: &Step,
    d: usize,
    pitch: usize,
    #[comptime] form: Form,
) {
    let threads = comptime!(form.threads);
    let columns = comptime!(form.columns_in);
    let mut row = Array::<f32>::new(columns);
    load(&mut row, &w_enc.value, latent * d, d, columns, threads);
    descend_row(g, &mut row, latent, d, &mut w_enc.kept, step, columns, threads);
    store(&row, &mut w_enc.value, latent * d, d, columns, threads);
    store_rounded(&row, &mut w_enc.rounded, latent, pitch, d, columns, threads);
}

/// One step of the bias of a latent, with gradient `g` but for a bias of its own; its pieces go behind the rounded
/// encoder row.
#[cube]
pub(super) fn step_bias(
    g: f32,
    latent: usize,
    bias: &Array<f32>,
    b_enc: &mut Array<f32>,
    m: &mut Array<f32>,
    v: &mut Array<f32>,
    w_enc: &mut Matrix,
    step: &Step,
    d: usize,
    pitch: usize,
    #[comptime] form: Form,
) {
    let mut g = g;
    if comptime!(form.has_bias) {
        g += bias[latent];
    }
    let now = descend(g, latent, b_enc[latent], m, v, step);
    b_enc[latent] = now;
    store_pieces(now, &mut w_enc.rounded, latent, pitch, d);
}

/// One step of a latent's atom, with gradient `g` but for what the atom adds of itself.
#[cube]
pub(super) fn step_atom(
    g: &mut Array<f32>,
    latent: usize,
    pull: &Array<f32>,
    w_dec: &mut Matrix,
    step: &Step,
    d: usize,
    pitch: usize,
    #[comptime] form: Form,
) {
    let threads = comptime!(form.threads);
    let columns = comptime!(form.columns_out);
    let mut pulled = 0.0f32;
    if comptime!(form.has_pull) {
        pulled = pull[latent];
    }
    let mut part = SharedMemory::<f32>::new(threads);
    let mut atom = Array::<f32>::new(columns);
    load(&mut atom, &w_dec.value, latent * d, d, columns, threads);
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
    descend_row(g, &mut atom, latent, d, &mut w_dec.kept, step, columns, threads);
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
        atom[j] = atom[j] * scale;
    }
    store(&atom, &mut w_dec.value, latent * d, d, columns, threads);
    store_rounded(&atom, &mut w_dec.rounded, latent, pitch, d, columns, threads);
}
