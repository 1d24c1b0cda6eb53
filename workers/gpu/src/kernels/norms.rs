//! Lengths of the rows of a matrix, or of the parts they are cut into.

use cubecl::prelude::*;

use super::{residual::address, scan::THREADS, tree};
use crate::{
    Runtime,
    card::{Card, Floats, cubes, units},
};

/// `Σ‖part‖` of every row of `w` (`[n, d]`), whose parts are as wide as `widths` say, together `d`: `[n]`.
pub fn norms<R: Runtime>(card: &Card<R>, w: &Floats, widths: &[u32]) -> Floats {
    let d = widths.iter().map(|&width| width as usize).sum::<usize>();
    let norms = card.room(w.len() / d.max(1));
    if !norms.is_empty() {
        norms_of_rows::launch::<R>(
            card.client(),
            cubes(norms.len()),
            units(THREADS as u32),
            address([w]),
            w.arg(),
            card.upload(widths).arg(),
            norms.arg(),
            norms.len(),
            d,
            widths.len(),
        );
    }
    norms
}

/// One cube per row.
#[cube(launch, address_type = "dynamic")]
fn norms_of_rows(
    w: &Array<f32>,
    widths: &Array<u32>,
    norms: &mut Array<f32>,
    n: usize,
    d: usize,
    parts: usize,
) {
    let row = CUBE_POS;
    if row >= n {
        terminate!();
    }
    let mut lanes = SharedMemory::<f32>::new(THREADS);
    let mut at = row * d;
    let mut norm = 0.0f32;
    for part in 0..parts {
        let end = at + widths[part] as usize;
        let mut square = 0.0f32;
        let mut c = at + UNIT_POS as usize;
        while c < end {
            square = fma(w[c], w[c], square);
            c += THREADS;
        }
        norm += tree::total(square, &mut lanes, THREADS).sqrt();
        at = end;
    }
    if UNIT_POS == 0 {
        norms[row] = norm;
    }
}
