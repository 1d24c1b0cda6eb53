//! Rows times encoder rows in f32, without tensor cores: tiles in shared memory, sums in registers.
//!
//! Each sum is one chain of fused multiply-adds in ascending order of the columns, beginning with the bias: the
//! chain of the kernels for the CPU, so the same bits where the device's `fma` rounds once.

use cubecl::prelude::*;

use crate::{
    Runtime,
    card::{Card, Floats, units},
};

/// Rows and latents of the tile of a cube.
const TILE: u32 = 64;
/// Columns of `x` and `w` that lie in shared memory at a time.
const DEPTH: u32 = 16;
/// Rows and latents of the tile of a thread.
const EACH: u32 = 4;
/// Threads of a cube: 16 × 16.
const UNITS: u32 = 256;

/// Sums are `bias[l] + Σ_j x[r, j]·w[l, j]` of rows `[rows, d]` and of `width` latents from `first` on.
#[derive(Debug, Clone, Copy)]
pub struct Product<'a> {
    /// Rows, `[rows, d]`, centred.
    pub x: &'a Floats,
    /// Encoder rows, `[n_latents, d]`.
    pub w: &'a Floats,
    /// Encoder biases, `[n_latents]`.
    pub bias: &'a Floats,
    /// Columns.
    pub d: usize,
    /// Rows.
    pub rows: usize,
    /// The first latent.
    pub first: usize,
    /// Latents.
    pub width: usize,
}

impl Product<'_> {
    /// The sums, into `out`, `[rows, width]`.
    pub fn run<R: Runtime>(&self, card: &Card<R>, out: &Floats) {
        let tiles = |count: usize| u32::try_from(count.div_ceil(TILE as usize)).unwrap_or(u32::MAX);
        let count = CubeCount::Static(tiles(self.width), tiles(self.rows), 1);
        product::launch::<R>(
            card.client(),
            count,
            units(UNITS),
            self.x.arg(),
            self.w.arg(),
            self.bias.arg(),
            out.arg(),
            self.d as u32,
            self.rows as u32,
            self.first as u32,
            self.width as u32,
        );
    }
}

#[cube(launch)]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn product(
    x: &Array<f32>,
    w: &Array<f32>,
    bias: &Array<f32>,
    out: &mut Array<f32>,
    d: u32,
    rows: u32,
    first: u32,
    width: u32,
) {
    let mut of_x = SharedMemory::<f32>::new(comptime!((TILE * DEPTH) as usize));
    let mut of_w = SharedMemory::<f32>::new(comptime!((TILE * DEPTH) as usize));
    let (row0, col0) = (CUBE_POS_Y * TILE, CUBE_POS_X * TILE);
    let (across, down) = (UNIT_POS % 16u32, UNIT_POS / 16u32);
    let mut sums = Array::<f32>::new(comptime!((EACH * EACH) as usize));
    #[unroll]
    for j in 0..EACH {
        let latent = col0 + across + j * 16u32;
        let start = select(latent < width, bias[(first + min(latent, width - 1u32)) as usize], 0.0f32);
        #[unroll]
        for i in 0..EACH {
            sums[(i * EACH + j) as usize] = start;
        }
    }
    let mut from = 0u32;
    while from < d {
        #[unroll]
        for part in 0..comptime!(TILE * DEPTH / UNITS) {
            let at = part * UNITS + UNIT_POS;
            let (line, column) = (at / DEPTH, from + at % DEPTH);
            let (row, latent) = (row0 + line, col0 + line);
            let place = ((at % DEPTH) * TILE + line) as usize;
            let inside = column < d;
            of_x[place] = if inside && row < rows { x[(row * d + column) as usize] } else { 0.0f32.runtime() };
            of_w[place] = if inside && latent < width {
                w[((first + latent) as usize) * (d as usize) + (column as usize)]
            } else {
                0.0f32.runtime()
            };
        }
        sync_cube();
        #[unroll]
        for k in 0..DEPTH {
            let mut a = Array::<f32>::new(comptime!(EACH as usize));
            let mut b = Array::<f32>::new(comptime!(EACH as usize));
            #[unroll]
            for i in 0..EACH {
                a[i as usize] = of_x[(k * TILE + down + i * 16u32) as usize];
                b[i as usize] = of_w[(k * TILE + across + i * 16u32) as usize];
            }
            #[unroll]
            for i in 0..EACH {
                #[unroll]
                for j in 0..EACH {
                    let at = (i * EACH + j) as usize;
                    sums[at] = fma(a[i as usize], b[j as usize], sums[at]);
                }
            }
        }
        sync_cube();
        from += DEPTH;
    }
    #[unroll]
    for i in 0..EACH {
        let row = row0 + down + i * 16u32;
        #[unroll]
        for j in 0..EACH {
            let latent = col0 + across + j * 16u32;
            if row < rows && latent < width {
                out[(row * width + latent) as usize] = sums[(i * EACH + j) as usize];
            }
        }
    }
}
