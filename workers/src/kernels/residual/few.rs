//! The same residual where the code has few latents and each row many of them, as AuxK has.
//!
//! Row by row, a row gathers its 128 to 256 atoms twice from wherever they lie. Here a tile of the columns
//! of all atoms stays in the second-level cache while some hundred rows decode, and then a piece of the
//! atoms while the same rows project.

use rayon::prelude::*;

use super::{Coded, Residual, Rows, cut, project};
use crate::kernels::{
    lanes::{self, LaneStarts, Moments},
    real::Real,
    simd::{Kernel, Path},
    strip::{self, Strip},
    tiled::TILE,
    vector,
};

/// Blocks of rows that decode and project together: their pairs, too, stay in the cache.
const GROUP_BLOCKS: usize = 4;
/// Numbers in the atoms that rows project on together: 256 KiB in f32.
const PIECE: usize = 65_536;

/// [`super::residual`] of a code that holds none but `latents`, ascending; the same bits.
pub fn residual_of_few<R: Real>(
    path: Path,
    target: &[R],
    coded: &Coded<R>,
    latents: &[u32],
    lanes: LaneStarts,
    mut room: Vec<R>,
) -> Residual<R> {
    let d = coded.offset.len();
    room.resize(target.len(), R::ZERO);
    let mut along_atoms = vec![R::ZERO; coded.codes.nnz()];
    let atoms = Atoms::of(coded, latents);
    let blocks = lanes::blocks(lanes);
    let mut tasks = cut(&blocks, target, coded, &mut room, &mut along_atoms);
    let groups = tasks.par_chunks_mut(GROUP_BLOCKS);
    let sums: Vec<Moments> =
        groups.flat_map_iter(|blocks| path.run(Group { atoms: &atoms, blocks })).collect();
    Residual { e: room, along_atoms, moments: lanes::total(&blocks, &sums, d) }
}

/// A tile of an atom, on cache lines.
#[derive(Clone)]
#[repr(align(64))]
struct Part<R>([R; TILE]);

/// The atoms of some latents, tile by tile.
struct Atoms<R> {
    n: usize,
    /// `[ceil(d / TILE)][n]`, padded with zeros.
    tiles: Vec<Part<R>>,
    /// Which of the atoms, for each pair of the code.
    of_pairs: Vec<u32>,
}

impl<R: Real> Atoms<R> {
    fn of(coded: &Coded<R>, latents: &[u32]) -> Self {
        let (d, n) = (coded.offset.len(), latents.len());
        let mut tiles = vec![Part([R::ZERO; TILE]); d.div_ceil(TILE) * n];
        tiles.par_chunks_mut(n.max(1)).enumerate().for_each(|(tile, parts)| {
            let columns = tile * TILE..((tile + 1) * TILE).min(d);
            for (part, &latent) in parts.iter_mut().zip(latents) {
                part.0[..columns.len()].copy_from_slice(&coded.w_dec[latent as usize * d..][columns.clone()]);
            }
        });
        let mut places = vec![0u32; coded.codes.n_latents];
        (0u32..).zip(latents).for_each(|(place, &latent)| places[latent as usize] = place);
        let of_pairs = coded.codes.latents.par_iter().map(|&latent| places[latent as usize]).collect();
        Atoms { n, tiles, of_pairs }
    }
}

/// Rows that share the cache.
struct Group<'a, 'b, R> {
    atoms: &'b Atoms<R>,
    blocks: &'b mut [Rows<'a, R>],
}

impl<R: Real> Kernel for Group<'_, '_, R> {
    /// Of each block.
    type Output = Vec<Moments>;

    #[inline(always)]
    fn run(self) -> Vec<Moments> {
        let Group { atoms, blocks } = self;
        for (tile, parts) in atoms.tiles.chunks_exact(atoms.n.max(1)).enumerate() {
            for block in &mut *blocks {
                block.decode_tile(tile * TILE, parts, &atoms.of_pairs);
            }
        }
        project_by_piece(atoms, blocks);
        let mut sums = Vec::with_capacity(blocks.len());
        for block in blocks {
            sums.push(block.moments());
        }
        sums
    }
}

impl<R: Real> Rows<'_, R> {
    /// `e` at the columns of the tile that starts at `first`.
    #[inline(always)]
    fn decode_tile(&mut self, first: usize, parts: &[Part<R>], of_pairs: &[u32]) {
        let Coded { codes, values, offset, .. } = *self.coded;
        let d = offset.len();
        let columns = first..(first + TILE).min(d);
        let mut start = [R::ZERO; TILE];
        start[..columns.len()].copy_from_slice(&offset[columns.clone()]);
        let rows = self.target.chunks_exact(d).zip(self.e.chunks_exact_mut(d));
        for (row, (target, e)) in (self.first..).zip(rows) {
            let span = codes.offsets[row]..codes.offsets[row + 1];
            let mut sum: Strip<R, 2, 16> = strip::load(&start, 0);
            for (&place, &value) in of_pairs[span.clone()].iter().zip(&values[span]) {
                strip::fma(value, &parts[place as usize].0, 0, &mut sum);
            }
            let outs = e[columns.clone()].iter_mut().zip(&target[columns.clone()]);
            outs.zip(sum.as_flattened()).for_each(|((e, &target), &x_hat)| *e = target - x_hat);
        }
    }

    #[inline(always)]
    fn moments(&self) -> Moments {
        let d = self.coded.offset.len();
        let mut moments = Moments::zero(d);
        for e in self.e.chunks_exact(d) {
            moments.squared_norm += vector::dot(e, e).f64();
        }
        lanes::add_columns(self.e, d, &mut moments.column_sums);
        moments
    }
}

/// The products of `e` with its atoms, some atoms at a time.
#[inline(always)]
fn project_by_piece<R: Real>(atoms: &Atoms<R>, blocks: &mut [Rows<R>]) {
    let Some(coded) = blocks.first().map(|block| block.coded) else { return };
    let (d, offsets) = (coded.offset.len(), &coded.codes.offsets);
    let piece = (PIECE / d).max(1);
    let row_starts = blocks.iter().flat_map(|b| &offsets[b.first..b.first + b.target.len() / d]);
    let mut next: Vec<usize> = row_starts.copied().collect();
    for end in (0..atoms.n + piece).step_by(piece).skip(1) {
        let mut next = next.iter_mut();
        for block in &mut *blocks {
            let dots_start = offsets[block.first];
            for ((row, e), next) in (block.first..).zip(block.e.chunks_exact(d)).zip(&mut next) {
                let rest = &atoms.of_pairs[*next..offsets[row + 1]];
                let span = *next..*next + rest.partition_point(|&place| (place as usize) < end);
                let dots = &mut block.along_atoms[span.start - dots_start..span.end - dots_start];
                *next = span.end;
                project(e, &coded.codes.latents[span], coded.w_dec, dots);
            }
        }
    }
}
