//! Counter-based random numbers: a value is a function of (seed, stream, index), never of how many
//! were drawn before. So no generator state is ever saved, and a replay draws the same numbers.

/// SplitMix64's finaliser (Steele, Lea, Flood 2014): a bijection of 64-bit words.
#[inline]
pub const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A 64-bit hash of a sequence of words. Stable for ever: plans, samples and splits depend on it.
#[inline]
pub fn hash(words: &[u64]) -> u64 {
    words.iter().fold(0x9E37_79B9_7F4A_7C15, |state, &word| {
        mix(state.wrapping_add(0x9E37_79B9_7F4A_7C15) ^ mix(word.wrapping_add(0xD1B5_4A32_D192_ED03)))
    })
}

/// Uniform in `[0, 1)` from the upper 53 bits of a hash.
#[inline]
pub fn unit(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1u64 << 53) as f64
}
