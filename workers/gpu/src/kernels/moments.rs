//! Adam's moments of the rows of a matrix: in f32, or in bytes with two scales per row.

use cubecl::prelude::*;

use super::{
    adam::{Step, moments, moved},
    bytes::{self, Sign, byte, number, scale_of},
    rows,
    spread::{column, is_column},
    tree,
};
use crate::{
    Runtime,
    card::{Buffer, Card, Floats, Ints, Lost},
};

/// Columns of a thread that are taken together. In f32 their moments are read before those of the first are
/// written, since a store holds later loads up; in bytes four times the threads make whole words.
const AHEAD: usize = 4;

/// Moments of `[n, d]` weights on a card.
#[derive(Debug, Clone)]
pub enum Moments {
    /// Four bytes each.
    Floats {
        /// Mean of gradients.
        m: Floats,
        /// Mean of squared gradients.
        v: Floats,
    },
    /// One byte each.
    Bytes(Bytes),
}

/// Moments in bytes.
#[derive(Debug, Clone)]
pub struct Bytes {
    /// `[n, pitch]`.
    m: Buffer<u8>,
    /// `[n, pitch]`.
    v: Buffer<u8>,
    /// Of `m` and of `v`, `[n, 2]`.
    scales: Floats,
    d: usize,
}

impl Moments {
    /// In f32.
    pub fn floats<R: Runtime>(card: &Card<R>, m: &[f32], v: &[f32]) -> Self {
        Moments::Floats { m: card.upload(m), v: card.upload(v) }
    }

    /// In bytes, rows of `d`.
    pub fn bytes<R: Runtime>(card: &Card<R>, m: &[f32], v: &[f32], d: usize) -> Self {
        let rows = m.len() / d.max(1);
        let coded = |of: &[f32], scales: &[f32], at: usize, sign| {
            let mut all = vec![0; rows * bytes::pitch(d)];
            for (row, into) in all.chunks_mut(bytes::pitch(d).max(1)).enumerate() {
                let numbers = of[row * d..][..d].iter().enumerate();
                numbers
                    .zip(into)
                    .for_each(|((c, &x), into)| *into = bytes::coded(x, c, scales[row * 2 + at], sign));
            }
            card.upload(&all)
        };
        let of = |row: usize| {
            let of_v = bytes::scale(&v[row * d..][..d]);
            // Where nothing can be divided by, nothing is divided.
            [if of_v > 0.0 { bytes::scale(&m[row * d..][..d]) } else { 0.0 }, of_v]
        };
        let scales: Vec<f32> = (0..rows).flat_map(of).collect();
        Moments::Bytes(Bytes {
            m: coded(m, &scales, 0, Sign::Signed),
            v: coded(v, &scales, 1, Sign::Unsigned),
            scales: card.upload(&scales),
            d,
        })
    }

    /// Both as numbers, `[n, d]`.
    ///
    /// # Errors
    /// The card is lost.
    pub fn download<R: Runtime>(&self, card: &Card<R>) -> Result<(Vec<f32>, Vec<f32>), Lost> {
        match self {
            Moments::Floats { m, v } => Ok((card.download(m)?, card.download(v)?)),
            Moments::Bytes(bytes) => bytes.download(card),
        }
    }

    /// Those of the rows of a list begin again at zero.
    pub fn forget<R: Runtime>(&self, card: &Card<R>, d: usize, list: &Ints) {
        let zero = |of: &Floats, d: usize| {
            rows::scatter(card, &card.upload(&vec![0.0; list.len() * d]), d, list, of);
        };
        match self {
            Moments::Floats { m, v } => [m, v].into_iter().for_each(|of| zero(of, d)),
            // Whatever the bytes are: with scales of zero they stand for zeros.
            Moments::Bytes(Bytes { scales, .. }) => zero(scales, 2),
        }
    }

    /// What they take on the card, in bytes.
    pub fn taken(&self) -> usize {
        match self {
            Moments::Floats { m, v } => 4 * (m.len() + v.len()),
            Moments::Bytes(Bytes { m, v, scales, .. }) => m.len() + v.len() + 4 * scales.len(),
        }
    }

    /// The most positions of a buffer.
    pub(super) fn positions(&self) -> usize {
        match self {
            Moments::Floats { m, .. } => m.len(),
            Moments::Bytes(bytes) => bytes.m.len().div_ceil(4),
        }
    }

    pub(super) fn arg<R: Runtime>(&self) -> KeptArgs<R> {
        match self {
            Moments::Floats { m, v } => KeptArgs::Floats(TwoLaunch::new(m.arg(), v.arg())),
            Moments::Bytes(Bytes { m, v, scales, .. }) => {
                KeptArgs::Bytes(CodedLaunch::new(m.words(), v.words(), scales.arg()))
            }
        }
    }
}

impl Bytes {
    fn download<R: Runtime>(&self, card: &Card<R>) -> Result<(Vec<f32>, Vec<f32>), Lost> {
        let scales = card.download(&self.scales)?;
        let numbers = |of: &Buffer<u8>, at: usize, sign| {
            let bytes = card.download(of)?;
            let rows = bytes.chunks(bytes::pitch(self.d).max(1)).zip(scales.chunks(2));
            let row = |(row, scales): (&[u8], &[f32])| {
                let scale = scales[at];
                row[..self.d].iter().map(|&byte| bytes::decoded(byte, scale, sign)).collect::<Vec<f32>>()
            };
            Ok(rows.flat_map(row).collect())
        };
        Ok((numbers(&self.m, 0, Sign::Signed)?, numbers(&self.v, 1, Sign::Unsigned)?))
    }
}

/// [`Moments`] as kernels take them.
#[derive(CubeType, CubeLaunch)]
#[allow(dead_code, reason = "launches make the variants")]
pub(super) enum Kept {
    Floats(Two),
    Bytes(Coded),
}

#[derive(CubeType, CubeLaunch)]
pub(super) struct Two {
    m: Array<f32>,
    v: Array<f32>,
}

#[derive(CubeType, CubeLaunch)]
pub(super) struct Coded {
    m: Array<u32>,
    v: Array<u32>,
    scales: Array<f32>,
}

/// What becomes of the columns `value` of this thread, of row `row`, with gradient `g`; their moments are stepped.
/// What is beyond the row's end becomes anything. All threads have to call it.
#[cube]
pub(super) fn descend_row(
    g: &Array<f32>,
    value: &mut Array<f32>,
    row: usize,
    d: usize,
    kept: &mut Kept,
    step: &Step,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    match kept {
        Kept::Floats(two) => descend_floats(g, value, row * d, d, two, step, columns, threads),
        Kept::Bytes(coded) => descend_bytes(g, value, row, d, coded, step, columns, threads),
    }
}

#[cube]
fn descend_floats(
    g: &Array<f32>,
    value: &mut Array<f32>,
    at: usize,
    d: usize,
    kept: &mut Two,
    step: &Step,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    let mut mean = Array::<f32>::new(AHEAD);
    let mut square = Array::<f32>::new(AHEAD);
    #[unroll]
    for j in 0..columns {
        if comptime!(j % AHEAD == 0) {
            #[unroll]
            for next in j..comptime!((j + AHEAD).min(columns)) {
                let i = at + column(0usize, d, next, threads);
                mean[comptime!(next % AHEAD)] = kept.m[i];
                square[comptime!(next % AHEAD)] = kept.v[i];
            }
        }
        let (was_mean, was_square) = (mean[comptime!(j % AHEAD)], square[comptime!(j % AHEAD)]);
        let (now_mean, now_square) = moments(g[j], was_mean, was_square, step);
        value[j] = moved(value[j], now_mean, now_square, step);
        if is_column(0usize, d, j, threads) {
            let i = at + column(0usize, d, j, threads);
            kept.m[i] = now_mean;
            kept.v[i] = now_square;
        }
    }
}

/// Twice over the columns: bytes need the scale, which is known when all are stepped. The second time they are stepped
/// again and not remembered, since registers are few.
#[cube]
fn descend_bytes(
    g: &Array<f32>,
    value: &mut Array<f32>,
    row: usize,
    d: usize,
    kept: &mut Coded,
    step: &Step,
    #[comptime] columns: usize,
    #[comptime] threads: usize,
) {
    let unit = UNIT_POS as usize;
    let in_row = (d + 3) / 4;
    let at = row * in_row;
    let (m_was, v_was) = (kept.scales[row * 2], kept.scales[row * 2 + 1]);
    let mut most = SharedMemory::<f32>::new(comptime!(2 * threads));
    let mut m_most = 0.0f32;
    let mut v_most = 0.0f32;
    #[unroll]
    for j in 0..columns {
        let (mean, square) = stepped(g[j], kept, at, column(0usize, d, j, threads), m_was, v_was, step);
        value[j] = moved(value[j], mean, square, step);
        if is_column(0usize, d, j, threads) {
            let size = mean.abs();
            m_most = select(size > m_most, size, m_most);
            v_most = select(square > v_most, square, v_most);
        }
    }
    most[unit] = m_most;
    most[unit + threads] = v_most;
    tree::largest(&mut most, 2usize, threads);
    let v_scale = scale_of(most[1]);
    // Where nothing can be divided by, nothing is divided.
    let m_scale = select(v_scale > 0.0f32, scale_of(most[0]), 0.0f32);
    let mut pairs = SharedMemory::<u32>::new(comptime!(AHEAD * threads));
    #[unroll]
    for first in 0..comptime!(columns.div_ceil(AHEAD)) {
        #[unroll]
        for j in comptime!(first * AHEAD)..comptime!(((first + 1) * AHEAD).min(columns)) {
            let c = column(0usize, d, j, threads);
            let (mean, square) = stepped(g[j], kept, at, c, m_was, v_was, step);
            let pair =
                byte(mean, c, m_scale, Sign::Signed) | byte(square, c, v_scale, Sign::Unsigned) << 8u32;
            let pair = select(is_column(0usize, d, j, threads), pair, 0u32);
            pairs[unit + comptime!((j % AHEAD) * threads)] = pair;
        }
        sync_cube();
        let word = unit + comptime!(first * AHEAD * threads / 4);
        if word < in_row {
            let mut m = 0u32;
            let mut v = 0u32;
            #[unroll]
            for i in 0..AHEAD {
                let pair = pairs[unit * AHEAD + i];
                m |= (pair & 255u32) << comptime!(8 * i as u32);
                v |= (pair >> 8u32) << comptime!(8 * i as u32);
            }
            kept.m[at + word] = m;
            kept.v[at + word] = v;
        }
        sync_cube();
    }
    if unit == 0 {
        kept.scales[row * 2] = m_scale;
        kept.scales[row * 2 + 1] = v_scale;
    }
}

/// Both moments of column `c` after gradient `g`, of the row whose bytes begin at word `at`.
#[cube]
fn stepped(g: f32, kept: &Coded, at: usize, c: usize, m_scale: f32, v_scale: f32, step: &Step) -> (f32, f32) {
    let (word, shift) = (at + c / 4, c as u32 % 4 * 8);
    let mean = number(kept.m[word] >> shift & 255u32, m_scale, Sign::Signed);
    let square = number(kept.v[word] >> shift & 255u32, v_scale, Sign::Unsigned);
    moments(g, mean, square, step)
}
