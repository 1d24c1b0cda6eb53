//! Sums over the threads of a cube, in one fixed order, without planes: those differ between devices.

use cubecl::prelude::*;

/// Numbers that one thread adds at each level.
const FAN: usize = 8;

/// What two numbers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fold {
    Sum,
    Larger,
}

/// Sums side by side: `part[s·threads + t]` is what thread `t` (below the power of two `threads`) adds to
/// sum `s`, and `part[s]` is afterwards the sum. At most eight sums. All threads have to call it, and find
/// the sums ready when they return.
#[cube]
pub(super) fn add_up(part: &mut SharedMemory<f32>, #[comptime] sums: usize, #[comptime] threads: usize) {
    fold(part, sums, threads, Fold::Sum);
}

/// The largest numbers side by side, of numbers that are not negative, as [`add_up`] has sums.
#[cube]
pub(super) fn largest(part: &mut SharedMemory<f32>, #[comptime] sums: usize, #[comptime] threads: usize) {
    fold(part, sums, threads, Fold::Larger);
}

#[cube]
fn fold(
    part: &mut SharedMemory<f32>,
    #[comptime] sums: usize,
    #[comptime] threads: usize,
    #[comptime] fold: Fold,
) {
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
                let number = part[at + i * next];
                if comptime!(fold == Fold::Sum) {
                    sum += number;
                } else {
                    sum = select(number > sum, number, sum);
                }
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
