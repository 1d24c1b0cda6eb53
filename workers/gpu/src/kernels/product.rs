//! Rows times encoder rows in f32, without tensor cores: tiles in shared memory, sums in registers.
//!
//! Each sum is one chain of fused multiply-adds in ascending order of the columns, beginning with the bias: the
//! chain of the kernels for the CPU, so the same bits where the device's `fma` rounds once.
//!
//! A cube has a tile of 128 rows × 128 latents, a thread 8 × 8 of its sums. Tiles lie in shared memory as they
//! lie in memory, two columns a vector; one vector of padding per line keeps threads out of each other's
//! banks. Two tiles in turn: while one is multiplied the next is fetched, so there is one barrier per eight
//! columns.

use cubecl::prelude::*;

use crate::{
    Runtime,
    card::{Card, Floats, units},
};

/// Rows, and latents, of the tile of a cube.
const TILE: u32 = 128;
/// Columns that lie in shared memory at a time, in vectors of two.
const DEPTH: u32 = 4;
/// Vectors from one line of a tile to the next: an odd number.
const PITCH: u32 = DEPTH + 1;
/// Rows, and latents, of a thread.
const EACH: u32 = 8;
/// Threads of a cube: two for each line of a tile, each fetches four columns of it.
const UNITS: u32 = TILE * 2;
/// Sums are `bias[l] + Σ_j x[r, j]·w[l, j]` of rows `[rows, d]` and of `width` latents from `first` on.
/// `rows·d`, `width·d` and `rows·width` are below 2^32; `w` may be longer.
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
        if self.rows == 0 || self.width == 0 {
            return;
        }
        let four = if self.d.is_multiple_of(4) { 4 } else { 1 };
        #[allow(clippy::cast_possible_truncation, reason = "below 2^32 as documented")]
        // SAFETY: indices of `x`, `w` and `bias` stay below the given numbers of rows and latents, which the
        // kernel clamps to, those of `out` are checked by it; the buffers are as long as documented.
        unsafe {
            let x = self.x.part(0, self.rows * self.d);
            let (w, skip) = self.w.lines(self.first, self.width, self.d);
            let (bias, _) = self.bias.lines(self.first, self.width, 1);
            product::launch_unchecked::<R>(
                card.client(),
                CubeCount::Static(tiles(self.width), tiles(self.rows), 1),
                units(UNITS),
                four,
                x.vectors(four),
                w.vectors(four),
                bias.arg(),
                out.arg(),
                self.d as u32,
                self.rows as u32,
                skip as u32,
                self.width as u32,
                four as u32,
            );
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "rows and latents are below 2^32")]
fn tiles(count: usize) -> u32 {
    count.div_ceil(TILE as usize) as u32
}

type Two = Vector<f32, Const<2>>;
type Four = Vector<f32, Const<4>>;

#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments, reason = "arguments of a kernel")]
fn product<N: Size>(
    x: &Array<Vector<f32, N>>,
    w: &Array<Vector<f32, N>>,
    bias: &Array<f32>,
    out: &mut Array<f32>,
    d: u32,
    rows: u32,
    skip: u32,
    width: u32,
    #[comptime] n: u32,
) {
    let mut of_x = SharedMemory::<Two>::new(comptime!((2 * TILE * PITCH) as usize));
    let mut of_w = SharedMemory::<Two>::new(comptime!((2 * TILE * PITCH) as usize));
    // What this thread fetches: one vector of a line of each tile.
    let (line, part) = (UNIT_POS / 2u32, UNIT_POS % 2u32);
    let row_x = min(CUBE_POS_Y * TILE + line, rows - 1u32) * d;
    let row_w = (skip + min(CUBE_POS_X * TILE + line, width - 1u32)) * d;
    let place = line * PITCH + part * 2u32;
    // What it sums: eight threads side by side take latents side by side, so a store fills whole sectors.
    let (across, down) = (thread_across(), thread_down());
    let (row0, latent0) = (CUBE_POS_Y * TILE + down, CUBE_POS_X * TILE + across);
    let mut sums = Array::<f32>::new(comptime!((EACH * EACH) as usize));
    #[unroll]
    for j in 0..EACH {
        let start = bias[(skip + min(latent0 + j * 8u32, width - 1u32)) as usize];
        #[unroll]
        for i in 0..EACH {
            sums[(i * EACH + j) as usize] = start;
        }
    }
    keep(&mut of_x, place, fetch::<N>(x, row_x, part * 4u32, d, n));
    keep(&mut of_w, place, fetch::<N>(w, row_w, part * 4u32, d, n));
    sync_cube();
    let mut tile = 0u32;
    let mut from = 0u32;
    while from < d {
        let next = from + comptime!(DEPTH * 2);
        let next_x = fetch::<N>(x, row_x, next + part * 4u32, d, n);
        let next_w = fetch::<N>(w, row_w, next + part * 4u32, d, n);
        multiply(&of_x, &of_w, &mut sums, tile + down * PITCH, tile + across * PITCH);
        tile = comptime!(TILE * PITCH) - tile;
        keep(&mut of_x, tile + place, next_x);
        keep(&mut of_w, tile + place, next_w);
        sync_cube();
        from = next;
    }
    #[unroll]
    for i in 0..EACH {
        let row = row0 + i * 4u32;
        #[unroll]
        for j in 0..EACH {
            let latent = latent0 + j * 8u32;
            if row < rows && latent < width {
                out[(row * width + latent) as usize] = sums[(i * EACH + j) as usize];
            }
        }
    }
}

/// The first latent of a thread within the tile: 32 threads have 32 rows × 64 latents, eight of them side by side.
#[cube]
fn thread_across() -> u32 {
    (UNIT_POS / 32u32) % 2u32 * 64u32 + UNIT_POS % 8u32
}

/// The first row of a thread within the tile; its others are four apart.
#[cube]
fn thread_down() -> u32 {
    UNIT_POS / 64u32 * 32u32 + UNIT_POS / 8u32 % 4u32
}

/// Four columns of a line that begins at `line`; zeros beyond the last column, which add nothing.
#[cube]
fn fetch<N: Size>(of: &Array<Vector<f32, N>>, line: u32, column: u32, d: u32, #[comptime] n: u32) -> Four {
    let mut four = Four::new(0.0f32);
    #[unroll]
    for v in 0..comptime!(4 / n) {
        if column + v * n < d {
            let found = of[((line + column) / n + v) as usize];
            #[unroll]
            for e in 0..n {
                four[(v * n + e) as usize] = found[e as usize];
            }
        }
    }
    four
}

/// Puts four columns into a tile.
#[cube]
fn keep(tile: &mut SharedMemory<Two>, place: u32, four: Four) {
    #[unroll]
    for half in 0..2u32 {
        let mut two = Two::new(0.0f32);
        two[0usize] = four[(half * 2u32) as usize];
        two[1usize] = four[(half * 2u32 + 1u32) as usize];
        tile[(place + half) as usize] = two;
    }
}

/// Adds eight columns to all sums of a thread, in ascending order.
#[cube]
fn multiply(
    of_x: &SharedMemory<Two>,
    of_w: &SharedMemory<Two>,
    sums: &mut Array<f32>,
    from_x: u32,
    from_w: u32,
) {
    for part in 0..DEPTH {
        let mut a = Array::<Two>::new(comptime!(EACH as usize));
        #[unroll]
        for i in 0..EACH {
            a[i as usize] = of_x[(from_x + i * comptime!(4 * PITCH) + part) as usize];
        }
        #[unroll]
        for j in 0..EACH {
            let b = of_w[(from_w + j * comptime!(8 * PITCH) + part) as usize];
            #[unroll]
            for e in 0..2u32 {
                #[unroll]
                for i in 0..EACH {
                    let at = (i * EACH + j) as usize;
                    sums[at] = fma(a[i as usize][e as usize], b[e as usize], sums[at]);
                }
            }
        }
    }
}
