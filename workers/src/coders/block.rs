//! A block of rows through a coder: products with all atoms as one dense product, then row by row.

use rayon::prelude::*;

use super::{Coder, Gram, Room};
use crate::{
    codes::Codes,
    kernels::{Path, Real, product::Panels, simd::Kernel},
};

/// Rows of a task: 96 rows against 1024 atoms are 384 KiB of products, which the second level holds.
const TASK_ROWS: usize = 96;

/// Codes of rows, with the values in full precision beside them.
#[derive(Debug, Clone)]
pub struct Coded<R> {
    /// The codes, latents ascending in each row.
    pub codes: Codes,
    /// Values parallel to `codes.latents`.
    pub values: Vec<R>,
}

/// Codes of `x`, `[rows, depth]`: `panels` are the atoms as outputs, `gram` their products. Each row is
/// coded by itself. Runs on the current rayon pool.
pub fn code<R: Real, C: Coder<R>>(
    path: Path,
    coder: &C,
    panels: &Panels<R>,
    gram: Gram<R>,
    x: &[R],
) -> Coded<R> {
    let task = |x: &[R]| path_code(path, coder, panels, gram, x);
    let blocks: Vec<Vec<Vec<(u32, R)>>> =
        x.par_chunks((TASK_ROWS * panels.depth()).max(1)).map(task).collect();
    assemble(&blocks, gram.n())
}

fn path_code<R: Real, C: Coder<R>>(
    path: Path,
    coder: &C,
    panels: &Panels<R>,
    gram: Gram<R>,
    x: &[R],
) -> Vec<Vec<(u32, R)>> {
    let mut q = vec![R::ZERO; x.len() / panels.depth().max(1) * gram.n()];
    panels.times_here(path, x, &mut q);
    path.run(Rows { coder, gram, q: &mut q })
}

struct Rows<'a, R, C> {
    coder: &'a C,
    gram: Gram<'a, R>,
    q: &'a mut [R],
}

impl<R: Real, C: Coder<R>> Kernel for Rows<'_, R, C> {
    type Output = Vec<Vec<(u32, R)>>;

    #[inline(always)]
    fn run(self) -> Self::Output {
        let (mut room, mut rows) = (Room::default(), Vec::new());
        // A loop, not `map`: a closure keeps the vector width of its crate.
        for q in self.q.chunks_exact_mut(self.gram.n()) {
            self.coder.code(self.gram, q, &mut room);
            rows.push(room.pairs());
        }
        rows
    }
}

/// Rows in order. Values that are zero as f32 have no place in codes.
#[allow(clippy::cast_possible_truncation, reason = "codes carry f32; f64 is for golden numbers")]
fn assemble<R: Real>(blocks: &[Vec<Vec<(u32, R)>>], n_latents: usize) -> Coded<R> {
    let mut coded = Coded { codes: Codes::new(n_latents), values: Vec::new() };
    for row in blocks.iter().flatten() {
        let kept = || row.iter().filter(|(_, value)| value.f64() as f32 != 0.0);
        coded.codes.push_row(kept().map(|&(latent, value)| (latent, value.f64() as f32)));
        coded.values.extend(kept().map(|&(_, value)| value));
    }
    coded
}
