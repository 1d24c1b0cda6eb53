//! What lies on a card, in bytes: counted as the card allocates it, to say beforehand what fits.

use super::{Arithmetic, MomentsIn, Precision};

/// Scores of a chunk of latents, in numbers; a chunk has at least so many latents.
const SCORES: u64 = 1 << 26;
const CHUNK_LATENTS: u64 = 128;
/// What one pair of row and latent takes in codes, weights and lists.
const PAIR_BYTES: u64 = 64;

/// An autoencoder on one card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Width of rows.
    pub d_in: u64,
    /// Width of atoms.
    pub d_out: u64,
    /// Latents on this card.
    pub n_latents: u64,
    /// How it computes.
    pub arithmetic: Arithmetic,
}

impl Held {
    /// Parameters, moments and rounded copies.
    pub fn parameters(&self) -> u64 {
        let Held { d_in, d_out, n_latents: n, arithmetic } = *self;
        let of = |d: u64, rounded: u64| {
            let moments = match arithmetic.moments {
                MomentsIn::F32 => 2 * 4 * d,
                // A byte each in whole words, and two scales.
                MomentsIn::Bits8 => 2 * d.next_multiple_of(4) + 2 * 4,
            };
            let copy = if arithmetic.precision == Precision::Bf16 { 2 * rounded } else { 0 };
            n * (4 * d + moments + copy)
        };
        // Biases have f32 moments; zeros stand where nothing is subtracted.
        of(d_in, rounded(d_in)) + of(d_out, d_out.next_multiple_of(8)) + 12 * (n + d_out) + 4 * d_in
    }

    /// The gradient of all latents, where it is added to those on other cards.
    pub fn gradient(&self) -> u64 {
        4 * (self.d_in + self.d_out + 1) * self.n_latents
    }

    /// Rows of a batch, as they travelled with those of the next, centred rows, a target and so many residuals, and a
    /// chunk of scores: at most, with `k` pairs a row.
    pub fn batch(&self, rows: u64, k: u64, residuals: u64) -> u64 {
        let Held { d_in, d_out, n_latents, arithmetic } = *self;
        let width = (SCORES / rows.max(1) / CHUNK_LATENTS * CHUNK_LATENTS).max(CHUNK_LATENTS).min(n_latents);
        let factors = match arithmetic.precision {
            Precision::F32 => 0,
            Precision::Tf32 => 4 * (d_in + 8) * (rows + width),
            Precision::Bf16 => 2 * rounded(d_in) * rows,
        };
        let pairs = rows * k.min(n_latents);
        // Sums of segments of long lists, see `workers/gpu/src/kernels/lists.rs`.
        let segments = 2 * (pairs / (pairs.div_ceil(2048).max(512) + 1));
        4 * (4 * d_in + (2 + residuals) * d_out) * rows
            + 4 * rows * width
            + factors
            + PAIR_BYTES * pairs
            + 4 * segments * (d_in + d_out + 1)
    }

    /// The frozen encoder that finds codes, and the atoms that they decode to.
    pub fn dictionary(&self) -> u64 {
        let row =
            if self.arithmetic.precision == Precision::Bf16 { 2 * rounded(self.d_in) } else { 4 * self.d_in };
        self.n_latents * (row + 4 + 4 * self.d_out) + 4 * self.d_in
    }
}

/// Numbers of a rounded encoder row with its bias behind it.
fn rounded(d: u64) -> u64 {
    (d.next_multiple_of(2) + 3).next_multiple_of(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Per weight: 4 bytes of value, two moments of 4 bytes or one, 2 bytes of rounded copy.
    #[test]
    fn weights_take_what_they_are_kept_in() {
        let held = |precision, moments| Held {
            d_in: 4096,
            d_out: 4096,
            n_latents: 131_072,
            arithmetic: Arithmetic { precision, moments },
        };
        let per_weight = |held: Held| held.parameters() as f64 / (2.0 * 4096.0 * 131_072.0);
        let expected = [
            (Precision::F32, MomentsIn::F32, 12.0),
            (Precision::Tf32, MomentsIn::Bits8, 6.0),
            (Precision::Bf16, MomentsIn::F32, 14.0),
            (Precision::Bf16, MomentsIn::Bits8, 8.0),
        ];
        for (precision, moments, bytes) in expected {
            let found = per_weight(held(precision, moments));
            assert!((found - bytes).abs() < 0.01, "{precision:?} {moments:?}: {found}");
        }
        assert_eq!(
            held(Precision::F32, MomentsIn::F32).dictionary(),
            (2 * 131_072 + 1) * 4096 * 4 + 131_072 * 4
        );
    }
}
