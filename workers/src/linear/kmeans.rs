//! k-means of a sample: k-means++ and Lloyd's iterations, the same bits for any number of threads.
//!
//! Arthur & Vassilvitskii 2007 (doi:10.5555/1283383.1283494). What is drawn is a function of the seed and the
//! number of the centroid.

use rayon::prelude::*;

use crate::{
    kernels::{Path, simd::Kernel, vector},
    random::{hash, unit},
};

/// Rows of one task; sums over rows add these blocks in order.
const BLOCK_ROWS: usize = 256;
/// Lloyd's iterations: candidates for atoms need not be the best partition.
const ITERATIONS: usize = 10;
/// Stream of the random numbers used here.
const SEEDING: u64 = 0x4b4d_4541_4e53;

/// `n` centroids, `[n, d]`, of the rows `x`, `[rows, d]`; `rows` of them where there are fewer rows. Runs
/// on the current rayon pool.
pub fn centroids(path: Path, x: &[f32], d: usize, n: usize, seed: u64) -> Vec<f32> {
    let mut centroids = seeding(path, x, d, n.min(x.len() / d.max(1)), seed);
    for _ in 0..ITERATIONS {
        let nearest = assign(path, x, d, &centroids);
        if !move_to_means(x, d, &nearest, &mut centroids) {
            break;
        }
    }
    centroids
}

/// k-means++: each next centroid is a row drawn in proportion to its squared distance to those before.
fn seeding(path: Path, x: &[f32], d: usize, n: usize, seed: u64) -> Vec<f32> {
    let rows = x.len() / d.max(1);
    let (mut centroids, mut distances) = (Vec::with_capacity(n * d), vec![f32::INFINITY; rows]);
    for number in 0..n as u64 {
        let u = unit(hash(&[seed, SEEDING, number]));
        let row = draw(&distances, u);
        let centroid = &x[row * d..][..d];
        centroids.extend_from_slice(centroid);
        let blocks = x.par_chunks(BLOCK_ROWS * d).zip(distances.par_chunks_mut(BLOCK_ROWS));
        blocks.for_each(|(rows, distances)| path.run(Closer { rows, centroid, distances }));
    }
    centroids
}

/// The row at share `u` of the sum of `distances`; any row while all of them are infinite or zero.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a row number")]
fn draw(distances: &[f32], u: f64) -> usize {
    let sum = |block: &[f32]| block.iter().map(|&v| f64::from(v)).sum::<f64>();
    let sums: Vec<f64> = distances.chunks(BLOCK_ROWS).map(sum).collect();
    let total: f64 = sums.iter().sum();
    if !total.is_finite() || total <= 0.0 {
        return (u * distances.len() as f64) as usize;
    }
    let mut left = u * total;
    let mut at = 0;
    for sum in sums {
        if left < sum {
            break;
        }
        left -= sum;
        at += BLOCK_ROWS;
    }
    let inside = distances.iter().skip(at).position(|&v| {
        left -= f64::from(v);
        left < 0.0
    });
    // Rounding can leave a rest after the last row: then the last row that is not a centroid yet.
    inside.map_or_else(|| distances.iter().rposition(|&v| v > 0.0).unwrap_or(0), |row| at + row)
}

/// Lowers squared distances to those to one more centroid.
struct Closer<'a> {
    rows: &'a [f32],
    centroid: &'a [f32],
    distances: &'a mut [f32],
}

impl Kernel for Closer<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let d = self.centroid.len();
        let mut apart = vec![0f32; d];
        for (row, distance) in self.rows.chunks_exact(d).zip(self.distances) {
            apart.iter_mut().zip(row.iter().zip(self.centroid)).for_each(|(v, (a, b))| *v = a - b);
            *distance = distance.min(vector::dot(&apart, &apart));
        }
    }
}

/// The nearest centroid of every row; ties: the first.
pub fn assign(path: Path, x: &[f32], d: usize, centroids: &[f32]) -> Vec<u32> {
    let half_squares: Vec<f32> = centroids.chunks(d).map(|c| 0.5 * vector::dot(c, c)).collect();
    let of_block = |rows: &[f32]| path.run(Nearest { rows, centroids, half_squares: &half_squares, d });
    x.par_chunks(BLOCK_ROWS * d).flat_map_iter(of_block).collect()
}

/// `argmax_c ⟨x, c⟩ − ‖c‖²/2`.
struct Nearest<'a> {
    rows: &'a [f32],
    centroids: &'a [f32],
    half_squares: &'a [f32],
    d: usize,
}

/// Centroids that stay in the cache while all rows of a block pass.
const PANEL: usize = 64;

impl Kernel for Nearest<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run(self) -> Vec<u32> {
        let d = self.d;
        let mut best = vec![(f32::NEG_INFINITY, 0u32); self.rows.len() / d];
        for (panel, centroids) in self.centroids.chunks(PANEL * d).enumerate() {
            for (row, best) in self.rows.chunks_exact(d).zip(&mut best) {
                for (fours, centroids) in centroids.chunks(4 * d).enumerate() {
                    let first = panel * PANEL + fours * 4;
                    let here = centroids.len() / d;
                    let rows = std::array::from_fn(|i| &centroids[i.min(here - 1) * d..][..d]);
                    let dots = vector::dot4(row, rows);
                    for (i, dot) in dots.iter().enumerate().take(here) {
                        let score = dot - self.half_squares[first + i];
                        if score > best.0 {
                            #[allow(clippy::cast_possible_truncation, reason = "centroids are few")]
                            let number = (first + i) as u32;
                            *best = (score, number);
                        }
                    }
                }
            }
        }
        best.into_iter().map(|(_, number)| number).collect()
    }
}

/// Moves each centroid to the mean of its rows, added in order; one without rows stays. Says whether any moved.
fn move_to_means(x: &[f32], d: usize, nearest: &[u32], centroids: &mut [f32]) -> bool {
    let mut rows = vec![Vec::new(); centroids.len() / d];
    nearest.iter().enumerate().for_each(|(row, &c)| rows[c as usize].push(row));
    let moved = |(centroid, rows): (&mut [f32], &Vec<usize>)| {
        if rows.is_empty() {
            return false;
        }
        let mut sum = vec![0f64; d];
        for &row in rows {
            sum.iter_mut().zip(&x[row * d..][..d]).for_each(|(sum, &v)| *sum += f64::from(v));
        }
        let mut any = false;
        for (c, sum) in centroid.iter_mut().zip(sum) {
            #[allow(clippy::cast_possible_truncation, reason = "rows are f32")]
            let mean = (sum / rows.len() as f64) as f32;
            any |= mean != *c;
            *c = mean;
        }
        any
    };
    centroids.par_chunks_mut(d).zip(&rows).map(moved).reduce(|| false, |a, b| a | b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planted::normal;

    /// Twelve clusters far apart: every one gets its centroid, whatever the seed and the threads.
    #[test]
    fn clusters_are_found() {
        let (d, n, rows) = (9, 12, 700);
        let centre = |c: u64, i: usize| 5.0 * normal(&[1, c, i as u64]);
        let x: Vec<f32> = (0..rows * d)
            .map(|i| (centre((i / d % n) as u64, i % d) + 0.1 * normal(&[2, i as u64])) as f32)
            .collect();
        for seed in 0..3 {
            let of = |threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| centroids(Path::best(), &x, d, n, seed))
            };
            let found = of(1);
            assert_eq!(found, of(3));
            let missed = (0..n as u64).filter(|&c| {
                let near = |m: &[f32]| (0..d).all(|i| (f64::from(m[i]) - centre(c, i)).abs() < 0.2);
                !found.chunks(d).any(near)
            });
            assert!(missed.count() <= 1, "seed {seed}");
        }
    }

    /// The definition, pair by pair; the last panel is not full.
    #[test]
    fn the_nearest_is_the_nearest() {
        let d = 21;
        let x: Vec<f32> = (0..90 * d).map(|i| normal(&[3, i as u64]) as f32).collect();
        let c: Vec<f32> = (0..71 * d).map(|i| normal(&[4, i as u64]) as f32).collect();
        let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        for (row, &found) in x.chunks(d).zip(&assign(Path::best(), &x, d, &c)) {
            let least = c.chunks(d).map(|c| distance(row, c)).fold(f32::INFINITY, f32::min);
            assert!(distance(row, &c[found as usize * d..][..d]) <= least * (1.0 + 1e-5));
        }
    }

    #[test]
    fn fewer_rows_than_centroids_and_equal_rows() {
        assert_eq!(centroids(Path::best(), &[1.0, 2.0], 1, 5, 0).len(), 2);
        assert_eq!(centroids(Path::best(), &[3.0; 8], 2, 3, 0), [3.0; 6]);
        assert!(centroids(Path::best(), &[], 2, 3, 0).is_empty());
    }
}
