//! Rows cut into tiles of columns, for sums in which many latents share few rows.
//!
//! A latent of the main code fires in some rows of a batch, and its sum reads them once. Of the
//! auxiliary code it fires in every tenth row: 4096 rows of 768 floats, gathered a few hundred times
//! per latent, come from the third-level cache or from memory each time. A tile of all rows fits the
//! second level and serves all latents of a block before the next one is read.

use rayon::prelude::*;

use super::real::Real;

/// Columns of a tile: 4096 rows of 32 floats are 512 KiB.
pub const TILE: usize = 32;

/// `[ceil(d / TILE)][rows][TILE]`, padded with zeros.
#[derive(Debug, Clone)]
pub struct Tiled<R> {
    rows: usize,
    data: Vec<R>,
}

impl<R: Real> Tiled<R> {
    /// Copies `y − centre`; `y` is `[rows, d]`, `centre` `[d]`. Runs on the current rayon pool.
    pub fn of(y: &[R], centre: &[R]) -> Self {
        let d = centre.len();
        let rows = y.len() / d;
        let mut data = vec![R::ZERO; padded(d) * rows];
        data.par_chunks_mut((rows * TILE).max(1)).enumerate().for_each(|(tile, data)| {
            let columns = tile * TILE..((tile + 1) * TILE).min(d);
            let centre = &centre[columns.clone()];
            for (row, out) in y.chunks_exact(d).zip(data.chunks_exact_mut(TILE)) {
                let values = row[columns.clone()].iter().zip(centre);
                out.iter_mut().zip(values).for_each(|(out, (&y, &c))| *out = y - c);
            }
        });
        Tiled { rows, data }
    }

    /// The tiles in order, each `[rows, TILE]`.
    #[inline(always)]
    pub fn tiles(&self) -> impl Iterator<Item = &[R]> {
        self.data.chunks_exact((self.rows * TILE).max(1))
    }
}

/// `d` rounded up to whole tiles.
#[inline(always)]
pub fn padded(d: usize) -> usize {
    d.div_ceil(TILE) * TILE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_tile() {
        for d in [1usize, 31, 32, 33, 80] {
            let y: Vec<f32> = (0..7 * d).map(|i| i as f32).collect();
            let centre: Vec<f32> = (0..d).map(|i| i as f32 * 0.5).collect();
            let tiled = Tiled::of(&y, &centre);
            assert_eq!(tiled.tiles().count(), d.div_ceil(TILE));
            for (t, tile) in tiled.tiles().enumerate() {
                for (i, &value) in tile.iter().enumerate() {
                    let (row, column) = (i / TILE, t * TILE + i % TILE);
                    let expected = if column < d { y[row * d + column] - centre[column] } else { 0.0 };
                    assert_eq!(value, expected, "d={d} row {row} column {column}");
                }
            }
        }
    }
}
