//! Rows that become columns.

use cubecl::prelude::*;

use super::residual::address;
use crate::{
    Runtime,
    card::{Card, Floats, cubes, units},
};

/// Side of the tile of a cube.
const TILE: usize = 32;
/// Lines of a tile that are moved at once.
const LINES: usize = 8;

/// `xᵀ`, `[d, rows]`, of `x`, `[rows, d]`.
pub fn transpose<R: Runtime>(card: &Card<R>, x: &Floats, d: usize) -> Floats {
    let (into, rows) = (card.room(x.len()), x.len() / d.max(1));
    if !x.is_empty() {
        let across = d.div_ceil(TILE);
        transpose_tiles::launch::<R>(
            card.client(),
            cubes(across * rows.div_ceil(TILE)),
            units((TILE * LINES) as u32),
            address([x]),
            x.arg(),
            into.arg(),
            rows,
            d,
            across,
        );
    }
    into
}

#[cube(launch, address_type = "dynamic")]
fn transpose_tiles(x: &Array<f32>, into: &mut Array<f32>, rows: usize, d: usize, across: usize) {
    // One number of padding per line keeps threads out of each other's banks.
    let mut tile = SharedMemory::<f32>::new(comptime!(TILE * (TILE + 1)));
    let unit = UNIT_POS as usize;
    let (lane, line) = (unit % TILE, unit / TILE);
    let (row, column) = (CUBE_POS / across * TILE, CUBE_POS % across * TILE);
    #[unroll]
    for i in 0..comptime!(TILE / LINES) {
        let r = line + comptime!(i * LINES);
        if row + r < rows && column + lane < d {
            tile[r * comptime!(TILE + 1) + lane] = x[(row + r) * d + column + lane];
        }
    }
    sync_cube();
    #[unroll]
    for i in 0..comptime!(TILE / LINES) {
        let c = line + comptime!(i * LINES);
        if column + c < d && row + lane < rows {
            into[(column + c) * rows + row + lane] = tile[lane * comptime!(TILE + 1) + c];
        }
    }
}
