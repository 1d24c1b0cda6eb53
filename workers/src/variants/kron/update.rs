//! Steps of a parameter, row by row, from sums over the rows of a batch.

use rayon::prelude::*;

use super::pass::RowSums;
use crate::{
    kernels::{Path, adam::AdamStep, simd::Kernel, vector},
    skeleton::parameters::{Parameter, Piece},
};

/// Rows of parameters that one task updates; their sums are added in order.
const BLOCK: usize = 32;

/// Steps every row of a parameter; atoms stay unit. Returns `Σ (sum of a row's weights)·row`, from before.
pub(super) fn update(
    path: Path,
    rows: &mut Parameter<f32>,
    sums: &RowSums<f32>,
    adam: &AdamStep<f32>,
    unit: bool,
) -> Vec<f64> {
    let d = sums.width();
    let blocks = rows.pieces(BLOCK * d).enumerate();
    let block = |(block, piece)| path.run(UpdateRows { first: block * BLOCK, piece, sums, adam, unit });
    let parts: Vec<Vec<f32>> = blocks.map(block).collect();
    let mut total = vec![0f64; d];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(total, part)| *total += f64::from(part));
    }
    total
}

struct UpdateRows<'a> {
    first: usize,
    piece: Piece<'a, f32>,
    sums: &'a RowSums<'a, f32>,
    adam: &'a AdamStep<f32>,
    unit: bool,
}

impl Kernel for UpdateRows<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run(mut self) -> Vec<f32> {
        let d = self.sums.width();
        let (mut gradient, mut through, mut runs) = (vec![0f32; d], vec![0f32; d], Vec::new());
        for row in 0..self.piece.value.len() / d {
            let weight = self.sums.row(self.first + row, &mut runs, &mut gradient);
            let mut values = self.piece.row(row, d);
            vector::axpy(weight, values.value, &mut through);
            if self.unit {
                let parallel = vector::dot(&gradient, values.value);
                vector::axpy(-parallel, values.value, &mut gradient);
            }
            values.descend(self.adam, &gradient);
            if self.unit {
                vector::normalize(values.value);
            }
        }
        through
    }
}
