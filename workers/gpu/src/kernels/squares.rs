//! How long the gradient of each latent is: made as [`super::update::step`] makes it, or as it lies in memory.

use cubecl::prelude::*;

use super::{
    dense::Dense,
    descent::Form,
    gather::Gathered,
    residual::address,
    spread::{column, is_column, load},
    tree,
    update::{Beside, sum_atom, sum_encoder},
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// `‖dw_enc‖² + ‖dw_dec‖² + db_enc²` of every latent, `[n]`, before what is parallel to an atom (`w_dec`, `[n, d_out]`)
/// is taken away.
pub fn squares<R: Runtime>(card: &Card<R>, gathered: &Gathered, w_dec: &Floats, beside: Beside) -> Floats {
    let Gathered { batch, lists, .. } = gathered;
    let (n, d_in, d_out) = (gathered.through.len(), batch.centre.len(), batch.d_out);
    let form = Form::of(d_in, d_out, beside, false);
    let (squares, absent): (Floats, Floats) = (card.room(n), card.room(1));
    squares_of_latents::launch::<R>(
        card.client(),
        cubes(n),
        form.units(),
        address([&batch.x, &batch.y, &gathered.sums, w_dec]),
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
        w_dec.arg(),
        squares.arg(),
        n,
        batch.part,
        gathered.y_rows,
        d_in,
        d_out,
        form,
        gathered.parts,
    );
    squares
}

/// The same of a gradient in memory: the same bits.
pub fn squares_of<R: Runtime>(card: &Card<R>, dense: &Dense, w_dec: &Floats, beside: Beside) -> Floats {
    let n = dense.b_enc.len();
    let [d_in, d_out] = [&dense.w_enc, &dense.w_dec].map(|part| part.len() / n.max(1));
    let form = Form::of(d_in, d_out, beside, false);
    let (squares, absent): (Floats, Floats) = (card.room(n), card.room(1));
    squares_of_dense::launch::<R>(
        card.client(),
        cubes(n),
        form.units(),
        address([&dense.w_enc, &dense.w_dec, w_dec]),
        dense.w_enc.arg(),
        dense.b_enc.arg(),
        dense.w_dec.arg(),
        beside.bias.unwrap_or(&absent).arg(),
        beside.pull.unwrap_or(&absent).arg(),
        w_dec.arg(),
        squares.arg(),
        n,
        d_in,
        d_out,
        form,
    );
    squares
}

#[cube(launch, address_type = "dynamic")]
fn squares_of_latents(
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
    w_dec: &Array<f32>,
    squares: &mut Array<f32>,
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
    let of_encoder = square(&g, 0.0f32, d_in, columns, threads);

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    sum_atom(&mut g, latent, starts, segments, rows, decoder, y, sums, y_rows, d_in, d_out, columns, threads);
    add_pull(&mut g, latent, pull, w_dec, d_out, form);
    let all = square(&g, of_encoder, d_out, columns, threads);
    put(all, through[latent], latent, bias, squares, form);
}

#[cube(launch, address_type = "dynamic")]
fn squares_of_dense(
    of_w_enc: &Array<f32>,
    of_b_enc: &Array<f32>,
    of_w_dec: &Array<f32>,
    bias: &Array<f32>,
    pull: &Array<f32>,
    w_dec: &Array<f32>,
    squares: &mut Array<f32>,
    n: usize,
    d_in: usize,
    d_out: usize,
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
    let of_encoder = square(&g, 0.0f32, d_in, columns, threads);

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    load(&mut g, of_w_dec, latent * d_out, d_out, columns, threads);
    add_pull(&mut g, latent, pull, w_dec, d_out, form);
    let all = square(&g, of_encoder, d_out, columns, threads);
    put(all, of_b_enc[latent], latent, bias, squares, form);
}

/// What the columns of this thread add to `before`.
#[cube]
fn square(
    g: &Array<f32>,
    before: f32,
    d: usize,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) -> f32 {
    let mut square = before;
    #[unroll]
    for j in 0..columns {
        let own = select(is_column(0usize, d, j, threads), g[j], 0.0f32);
        square = fma(own, own, square);
    }
    square
}

/// What the atom adds of itself to its own gradient.
#[cube]
fn add_pull(
    g: &mut Array<f32>,
    latent: usize,
    pull: &Array<f32>,
    w_dec: &Array<f32>,
    d: usize,
    #[comptime] form: Form,
) {
    if comptime!(form.has_pull) {
        #[unroll]
        for j in 0..comptime!(form.columns_out) {
            g[j] = fma(pull[latent], w_dec[latent * d + column(0usize, d, j, form.threads)], g[j]);
        }
    }
}

/// The sum of all threads and of the bias.
#[cube]
fn put(
    square: f32,
    of_bias: f32,
    latent: usize,
    bias: &Array<f32>,
    squares: &mut Array<f32>,
    #[comptime] form: Form,
) {
    let mut lanes = SharedMemory::<f32>::new(comptime!(form.threads));
    let sum = tree::total(square, &mut lanes, form.threads);
    if UNIT_POS == 0 {
        let mut g = of_bias;
        if comptime!(form.has_bias) {
            g += bias[latent];
        }
        squares[latent] = fma(g, g, sum);
    }
}
