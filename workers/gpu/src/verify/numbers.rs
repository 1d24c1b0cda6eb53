//! Numbers for checks: from a hash of their position, the same everywhere.

use crate::{
    Runtime,
    card::{Card, Floats},
};

/// A well-mixed number of every number (Steele et al. 2014, splitmix64).
pub(super) fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `len` numbers between −1 and 1.
#[allow(clippy::cast_precision_loss, reason = "24 bits are exact")]
pub(super) fn floats(seed: u64, len: usize) -> Vec<f32> {
    let unit = |i| (mix(seed << 40 | i) >> 40) as f32 / 8_388_608.0 - 1.0;
    (0..len as u64).map(unit).collect()
}

/// The same on the card.
pub(super) fn on_card<R: Runtime>(card: &Card<R>, seed: u64, len: usize) -> (Vec<f32>, Floats) {
    let numbers = floats(seed, len);
    let buffer = card.upload(&numbers);
    (numbers, buffer)
}

/// Fills memory that the card hands out next with what no kernel should read: rooms for `len` numbers have it
/// where the card gives freed memory out again.
pub(super) fn poison<R: Runtime>(card: &Card<R>, lens: &[usize]) {
    let rooms: Vec<Floats> = lens.iter().map(|&len| card.upload(&vec![f32::NAN; len])).collect();
    drop(rooms);
}

/// A code as compressed rows.
#[derive(Debug, Clone, Default)]
pub(super) struct Csr {
    pub(super) offsets: Vec<u32>,
    pub(super) latents: Vec<u32>,
}

impl Csr {
    /// Of rows whose latents are given.
    #[allow(clippy::cast_possible_truncation, reason = "small")]
    pub(super) fn of(rows: impl IntoIterator<Item = Vec<u32>>) -> Self {
        let mut csr = Csr { offsets: vec![0], latents: Vec::new() };
        for row in rows {
            csr.latents.extend(row);
            csr.offsets.push(csr.latents.len() as u32);
        }
        csr
    }

    /// Rows of up to `most` of `n` latents, each at most once, ascending. Latent 0 is in every row that has
    /// any, and every fifth row has none.
    pub(super) fn random(seed: u64, rows: usize, n: usize, most: usize) -> Self {
        let row = |row: u64| {
            let of = |i: u64| mix(seed << 50 | row << 20 | i);
            if row % 5 == 3 || most == 0 {
                return Vec::new();
            }
            let count = 1 + of(0) % most as u64;
            let mut latents: Vec<u32> = (1..count).map(|i| (of(i) % n as u64) as u32).chain([0]).collect();
            latents.sort_unstable();
            latents.dedup();
            latents
        };
        Csr::of((0..rows as u64).map(row))
    }

    /// Positions of the pairs of a row.
    pub(super) fn span(&self, row: usize) -> std::ops::Range<usize> {
        self.offsets[row] as usize..self.offsets[row + 1] as usize
    }

    /// How many rows.
    pub(super) fn rows(&self) -> usize {
        self.offsets.len() - 1
    }
}
