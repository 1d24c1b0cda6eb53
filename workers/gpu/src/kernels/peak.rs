//! What a card can do: its memory by a copy, its arithmetic by the library's product of two square matrices.

use cubecl::prelude::*;

use super::{
    factors::{Beyond, Factors, Rounding},
    product::Product,
    tensor_product::TensorProduct,
};
use crate::{
    Runtime,
    card::{Card, Floats, Lost, cubes, units},
};

/// Threads of a cube.
const THREADS: usize = 256;
/// Numbers a thread moves at once.
const VECTOR: usize = 4;

/// Reads `bytes` and writes as many, and waits for the end.
///
/// # Errors
/// The card is lost.
pub fn copy<R: Runtime>(card: &Card<R>, bytes: usize) -> Result<(), Lost> {
    let len = (bytes / size_of::<f32>()).next_multiple_of(VECTOR);
    let (from, to): (Floats, Floats) = (card.room(len), card.room(len));
    move_numbers::launch::<R>(
        card.client(),
        cubes((len / VECTOR).div_ceil(THREADS)),
        units(THREADS as u32),
        VECTOR,
        from.vectors(VECTOR),
        to.vectors(VECTOR),
        len / VECTOR,
    );
    card.download(&to.part(0, VECTOR)).map(drop)
}

#[cube(launch)]
fn move_numbers<N: Size>(from: &Array<Vector<f32, N>>, to: &mut Array<Vector<f32, N>>, len: usize) {
    let i = CUBE_POS * THREADS + UNIT_POS as usize;
    if i < len {
        to[i] = from[i];
    }
}

/// Multiplies two matrices of `side` in `rounding`, or in f32 without one, and waits for the end.
///
/// # Errors
/// The card is lost, or has no tensor cores.
pub fn multiply<R: Runtime>(card: &Card<R>, rounding: Option<Rounding>, side: usize) -> Result<(), Lost> {
    let out: Floats = card.room(side * side);
    let matrix = card.upload(&vec![1.0f32; side * side]);
    match rounding {
        None => {
            let bias = card.upload(&vec![0.0f32; side]);
            let (x, w, d, rows, width) = (&matrix, &matrix, side, side, side);
            Product { x, w, bias: &bias, d, rows, first: 0, width }.run(card, &out);
        }
        Some(rounding) => {
            let factors = Factors::room(card, rounding, side, side);
            factors.fill(card, &matrix, 0, side, Beyond::Zeros);
            let product = TensorProduct { x: &factors, w: &factors, rows: side, width: side };
            product.run(card, &out).map_err(|e| Lost(e.to_string()))?;
        }
    }
    card.download(&out.part(0, 8)).map(drop)
}
