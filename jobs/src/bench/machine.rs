//! What this machine can do at most: fused multiply-adds, int8 products, memory.

use atomflow_workers::{
    kernels::{Path, peak},
    threads::Threads,
};

use super::{clock::in_turns, table::Report};

/// The ceilings, with the threads that are used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Machine {
    /// f32 fused multiply-adds in registers, FLOP/s.
    pub(super) flops: f64,
    /// int8 products in registers, OP/s; `None` without VNNI.
    pub(super) int8_ops: Option<f64>,
    /// Bytes read and written per second by `a = b + s·c` over arrays far beyond the caches.
    pub(super) bytes_per_s: f64,
}

/// Rounds of a register loop: a tenth of a second, in which the threads find cores of their own.
const ROUNDS: u64 = 30_000_000;
/// Floats per array and thread: 32 MB, beyond the share of a thread in any last cache.
const FLOATS: usize = 1 << 23;

impl Machine {
    /// Measures; takes about a second.
    pub(super) fn measure(path: Path, threads: &Threads) -> Machine {
        let count = threads.count() as f64;
        let mut integers = false;
        let [fma_s, int8_s] = in_turns(
            8,
            [&mut || drop(threads.on_each(|| peak::fma(path, ROUNDS))), &mut || {
                integers = threads.on_each(|| peak::int8(ROUNDS)).iter().all(Option::is_some)
            }],
        );
        // The slowest thread: bandwidth is shared.
        let triads = threads.on_each(|| triad(path)).into_iter().fold(0.0, f64::max);
        Machine {
            flops: count * (ROUNDS * peak::FMA_FLOPS) as f64 / fma_s,
            int8_ops: integers.then(|| count * (ROUNDS * peak::INT8_OPS) as f64 / int8_s),
            bytes_per_s: count * (FLOATS as u64 * peak::TRIAD_BYTES) as f64 / triads,
        }
    }

    pub(super) fn tell(&self, threads: &Threads, path: Path, report: &mut Report) {
        let int8 = self.int8_ops.map_or("no VNNI".to_owned(), |ops| format!("int8 {:.0} GOP/s", ops / 1e9));
        report.note(format!(
            "this machine, {} threads, {path:?}: FMA {:.1} GFLOP/s, {int8}, memory {:.1} GB/s",
            threads.count(),
            self.flops / 1e9,
            self.bytes_per_s / 1e9,
        ));
        report.figure("threads", threads.count());
        report.figure("path", format!("{path:?}"));
        report.figure("fma_peak_gflops", self.flops / 1e9);
        report.figure("int8_peak_gops", self.int8_ops.map(|ops| ops / 1e9));
        report.figure("memory_peak_gb_s", self.bytes_per_s / 1e9);
    }
}

/// Seconds of the best of several walks over arrays far beyond the caches.
fn triad(path: Path) -> f64 {
    let (mut a, b, c) = (vec![0f32; FLOATS], vec![1f32; FLOATS], vec![2f32; FLOATS]);
    let [best] = in_turns(5, [&mut || peak::triad(path, 3.0, &mut a, &b, &c)]);
    best
}
