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

/// Rounds of a register loop: some ten milliseconds.
const ROUNDS: u64 = 1 << 21;
/// Floats per array: 64 MB, twice the last cache of a large machine.
const FLOATS: usize = 1 << 24;

impl Machine {
    /// Measures; takes about a second.
    pub(super) fn measure(path: Path, threads: &Threads) -> Machine {
        let mut arrays = peak::Arrays::new(FLOATS);
        let mut sink = 0.0;
        let (mut fma_flop, mut int8_op, mut bytes) = (0.0, None, 0.0);
        let [fma_s, int8_s, memory_s] = in_turns(
            8,
            [
                &mut || fma_flop = threads.install(|| peak::fma(path, ROUNDS)),
                &mut || int8_op = threads.install(|| peak::int8(path, ROUNDS)),
                &mut || bytes = threads.install(|| arrays.triad(path)),
            ],
        );
        sink += arrays.any();
        std::hint::black_box(sink);
        Machine {
            flops: fma_flop / fma_s,
            int8_ops: int8_op.map(|op| op / int8_s),
            bytes_per_s: bytes / memory_s,
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
