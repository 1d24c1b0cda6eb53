//! Description length of codes: what a token costs to write down, by which dictionaries of different k
//! and n are compared at equal distortion.
//!
//! Ayonrinde et al. 2024 (*Interpretability as Compression: MDL-SAEs*, arXiv:2410.11179). Each latent is
//! coded by itself, with its own frequencies, its magnitude by half-octave bin: an upper bound, since
//! correlations between latents are not used, and signs are not counted.

/// `Σ_latents H(bin of the magnitude, zero included)` in bits per row. Each item is the histogram of a
/// latent that fired in `rows` rows at most; empty if it never did.
pub fn bits_per_row<'a>(histograms: impl IntoIterator<Item = &'a [i64]>, rows: i64) -> f64 {
    histograms.into_iter().map(|histogram| entropy_bits(histogram, rows)).sum()
}

fn entropy_bits(histogram: &[i64], rows: i64) -> f64 {
    let fires: i64 = histogram.iter().sum();
    let share = |count: i64| count as f64 / rows.max(1) as f64;
    let term = |p: f64| if p > 0.0 { -p * p.log2() } else { 0.0 };
    term(share((rows - fires).max(0))) + histogram.iter().map(|&count| term(share(count))).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_entropies() {
        // Bernoulli(1/4): 2 − (3/4)·log2(3).
        let quarter = 2.0 - 0.75 * 3f64.log2();
        assert!((bits_per_row([&[25i64][..]], 100) - quarter).abs() < 1e-12);
        // Independent latents add up; one that never fires costs nothing.
        assert!((bits_per_row([&[25i64][..], &[0, 25], &[], &[0, 0]], 100) - 2.0 * quarter).abs() < 1e-12);
        // Always on, evenly in 256 bins: 8 bits.
        assert!((bits_per_row([&[4i64; 256][..]], 1024) - 8.0).abs() < 1e-12);
        assert_eq!(bits_per_row([&[][..]], 0), 0.0);
    }
}
