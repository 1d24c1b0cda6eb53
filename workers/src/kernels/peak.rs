//! Loops that do nothing but what a machine can do at most: the measure that kernels are held against.
//!
//! Each does a stated amount of work on the calling thread; whoever has a clock times it, one call per
//! thread.

use super::{
    Real,
    simd::{Kernel, Path},
};

/// Chains that run beside each other: more than latency times throughput of any machine we know.
const CHAINS: usize = 12;
/// Floats of a chain.
const LANES: usize = 16;

/// f32 operations of [`fma`] per round, a multiply-add counted as two.
pub const FMA_FLOPS: u64 = (2 * CHAINS * LANES) as u64;

/// Multiply-adds in registers, [`FMA_FLOPS`] operations a round. The result depends on all of them:
/// every sum grows by an eighth a round.
pub fn fma(path: Path, rounds: u64) -> f32 {
    super::encode::fma_peak(path, rounds).unwrap_or_else(|| portable(rounds))
}

/// Where there is nothing better, what the compiler makes of the same sums.
fn portable(rounds: u64) -> f32 {
    let (x, w) = (std::hint::black_box(0.5f32), std::hint::black_box([0.25f32; LANES]));
    let mut sums = [[0f32; LANES]; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            sum.iter_mut().zip(w).for_each(|(sum, w)| *sum = x.fma(w, *sum));
        }
    }
    sums.iter().flatten().sum()
}

/// Integer operations of [`int8`] per round, a multiply-add counted as two.
pub const INT8_OPS: u64 = (2 * 4 * CHAINS * LANES) as u64;

/// Eight-bit multiply-adds in registers, [`INT8_OPS`] operations a round; `None` without AVX-512 VNNI.
pub fn int8(rounds: u64) -> Option<i32> {
    super::encode::int8_peak(rounds)
}

/// Bytes that [`triad`] moves per element: two reads and a write. What the cache fetches before it
/// overwrites is not counted.
pub const TRIAD_BYTES: u64 = 12;

/// `a = b + s·c` over arrays of one length, [`TRIAD_BYTES`] an element (McCalpin's STREAM).
pub fn triad(path: Path, s: f32, a: &mut [f32], b: &[f32], c: &[f32]) {
    path.run(Triad { s, a, b, c });
}

struct Triad<'a> {
    s: f32,
    a: &'a mut [f32],
    b: &'a [f32],
    c: &'a [f32],
}

impl Kernel for Triad<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((a, &b), &c) in self.a.iter_mut().zip(self.b).zip(self.c) {
            *a = self.s.fma(c, b);
        }
    }
}

/// Sum of an array: 4 bytes read an element, nothing written.
pub fn read(path: Path, values: &[f32]) -> f32 {
    path.run(Read(values))
}

struct Read<'a>(&'a [f32]);

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run(self) -> f32 {
        const WIDE: usize = 4 * LANES;
        let (blocks, tail) = self.0.as_chunks::<WIDE>();
        let mut sums = [0f32; WIDE];
        for block in blocks {
            for l in 0..WIDE {
                sums[l] += block[l];
            }
        }
        sums.iter().chain(tail).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done() {
        for path in Path::available() {
            // Every chain adds an eighth per round, and nothing is rounded.
            assert_eq!(portable(8), (CHAINS * LANES) as f32);
            assert_eq!(fma(path, 1000), 125.0 * (CHAINS * LANES) as f32);
            let (b, c) = (vec![1f32; 1001], vec![2f32; 1001]);
            let mut a = vec![0f32; 1001];
            triad(path, 3.0, &mut a, &b, &c);
            assert_eq!(a, vec![7f32; 1001]);
            assert_eq!(read(path, &a), 7007.0);
        }
    }

    #[test]
    fn integers_add_up() {
        if let Some(sum) = int8(10) {
            assert_eq!(sum, 10 * (4 * CHAINS * LANES) as i32 * -6);
        }
    }
}
