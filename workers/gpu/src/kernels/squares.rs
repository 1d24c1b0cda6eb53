//! How long the gradient of each latent is: made as [`super::update::step`] makes it, measured and forgotten.

use cubecl::prelude::*;

use super::{
    gather::Gathered,
    residual::address,
    spread::{Spread, add_segments, add_x, add_y, column, is_column},
    tree,
    update::Beside,
};
use crate::{
    Runtime,
    card::{Card, Floats, cubes},
};

/// How the kernel is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    threads: usize,
    columns_in: usize,
    columns_out: usize,
    has_bias: bool,
    has_pull: bool,
    parts: bool,
}

/// `‖dw_enc‖² + ‖dw_dec‖² + db_enc²` of every latent, `[n]`, before what is parallel to an atom (`w_dec`, `[n, d_out]`)
/// is taken away.
pub fn squares<R: Runtime>(card: &Card<R>, gathered: &Gathered, w_dec: &Floats, beside: Beside) -> Floats {
    let Gathered { batch, lists, .. } = gathered;
    let (n, d_in, d_out) = (gathered.through.len(), batch.centre.len(), batch.d_out);
    let spread = Spread::of(d_in.max(d_out));
    let threads = spread.threads;
    let form = Form {
        threads,
        columns_in: Spread::over(threads, d_in).columns,
        columns_out: Spread::over(threads, d_out).columns,
        has_bias: beside.bias.is_some(),
        has_pull: beside.pull.is_some(),
        parts: gathered.parts,
    };
    let (squares, absent): (Floats, Floats) = (card.room(n), card.room(1));
    squares_of_latents::launch::<R>(
        card.client(),
        cubes(n),
        spread.units(),
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
) {
    let latent = CUBE_POS;
    if latent >= n {
        terminate!();
    }
    let threads = comptime!(form.threads);
    let (from, to) = (starts[latent] as usize, starts[latent + 1] as usize);
    let (first, last) = (segments[latent] as usize, segments[latent + 1] as usize);

    let mut square = 0.0f32;
    let columns = comptime!(form.columns_in);
    let mut g = Array::<f32>::new(columns);
    add_segments(&mut g, sums, first, last, d_in + d_out + 1, 0usize, d_in, columns, threads);
    if first == last {
        add_x(&mut g, from, to, rows, encoder, x, centre, part, 0usize, d_in, columns, threads, form.parts);
    }
    #[unroll]
    for j in 0..columns {
        let own = select(is_column(0usize, d_in, j, threads), g[j], 0.0f32);
        square = fma(own, own, square);
    }

    let columns = comptime!(form.columns_out);
    let mut g = Array::<f32>::new(columns);
    add_segments(&mut g, sums, first, last, d_in + d_out + 1, d_in, d_out, columns, threads);
    if first == last {
        add_y(&mut g, from, to, rows, decoder, y, y_rows, 0usize, d_out, columns, threads);
    }
    #[unroll]
    for j in 0..columns {
        if comptime!(form.has_pull) {
            g[j] = fma(pull[latent], w_dec[latent * d_out + column(0usize, d_out, j, threads)], g[j]);
        }
        let own = select(is_column(0usize, d_out, j, threads), g[j], 0.0f32);
        square = fma(own, own, square);
    }

    let mut lanes = SharedMemory::<f32>::new(threads);
    let sum = tree::total(square, &mut lanes, threads);
    if UNIT_POS == 0 {
        let mut g = through[latent];
        if comptime!(form.has_bias) {
            g += bias[latent];
        }
        squares[latent] = fma(g, g, sum);
    }
}
