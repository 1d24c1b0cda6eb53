//! Sums over the threads of a cube, in one fixed order, without planes: those differ between devices.

use cubecl::prelude::*;

/// Numbers that one thread adds at each level.
const FAN: usize = 8;

/// Sums side by side: `part[s·threads + t]` is what thread `t` (below the power of two `threads`) adds to
/// sum `s`, and `part[s]` is afterwards the sum. At most eight sums. All threads have to call it, and find
/// the sums ready when they return.
#[cube]
pub(super) fn add_up(part: &mut SharedMemory<f32>, #[comptime] sums: usize, #[comptime] threads: usize) {
    let unit = UNIT_POS as usize;
    sync_cube();
    #[unroll]
    for level in 0..comptime!(levels(threads)) {
        let width = comptime!(width(threads, level));
        let next = comptime!(width / FAN.min(width));
        let adds = unit < comptime!(sums * next);
        let mut sum = 0.0f32;
        if adds {
            let at = unit / next * width + unit % next;
            #[unroll]
            for i in 0..comptime!(FAN.min(width)) {
                sum += part[at + i * next];
            }
        }
        sync_cube();
        if adds {
            part[unit] = sum;
        }
        sync_cube();
    }
}

/// The sum of one number per thread, for all of them. `part` has at least `threads` numbers.
#[cube]
pub(super) fn total(number: f32, part: &mut SharedMemory<f32>, #[comptime] threads: usize) -> f32 {
    part[UNIT_POS as usize] = number;
    add_up(part, 1usize, threads);
    let sum = part[0];
    sync_cube();
    sum
}

fn levels(threads: usize) -> usize {
    (0..).take_while(|&level| width(threads, level) > 1).count()
}

fn width(threads: usize, level: usize) -> usize {
    (0..level).fold(threads, |width, _| width / FAN.min(width))
}

/// How the columns of a row are spread over the threads of a cube: thread `t` has `t`, `t + threads`, …
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Spread {
    /// A power of two.
    pub(super) threads: usize,
    /// Columns per thread, the last ones beyond the row.
    pub(super) columns: usize,
}

impl Spread {
    /// Of rows of `d`. As few threads as keep what a thread holds small: others go to further cubes.
    pub(super) fn of(d: usize) -> Self {
        let threads = match d {
            0..=96 => 32,
            97..=192 => 64,
            193..=512 => 128,
            _ => 256,
        };
        Spread::over(threads, d)
    }

    /// Of rows of `d` over so many threads.
    pub(super) fn over(threads: usize, d: usize) -> Self {
        Spread { threads, columns: d.div_ceil(threads).max(1) }
    }

    /// Threads of a cube.
    #[allow(clippy::cast_possible_truncation, reason = "at most 256")]
    pub(super) fn units(self) -> CubeDim {
        crate::card::units(self.threads as u32)
    }
}

/// Column number `j` of this thread, from `first` on; beyond the row's end `d`, its last one.
#[cube]
pub(super) fn column(first: usize, d: usize, #[comptime] j: usize, #[comptime] threads: usize) -> usize {
    let column = first + UNIT_POS as usize + comptime!(j * threads);
    select(column < d, column, d - 1)
}

/// Whether column number `j` of this thread is one of the row.
#[cube]
pub(super) fn is_column(first: usize, d: usize, #[comptime] j: usize, #[comptime] threads: usize) -> bool {
    first + UNIT_POS as usize + comptime!(j * threads) < d
}
