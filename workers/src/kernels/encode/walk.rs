//! In which order panels of latents are looked at, and what a part of them says about the rest.

/// Panels looked at before any latent is kept: 16 × 32 latents give a row its first threshold.
pub(super) const SAMPLED: usize = 16;
/// Panels per latent kept below which most panels have something to keep.
const DENSE: usize = 8;
/// Standard deviations between the rank that is expected of a part and the rank that is trusted.
const CAUTION: f32 = 4.0;

/// A walk over all panels by a stride near the golden section of their number. A panel holds every
/// so many-th latent: whatever a stretch of neighbours has in common (the prefixes of a nested
/// dictionary, say), every panel and every beginning of the walk has its share of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk {
    panels: usize,
    stride: usize,
}

impl Walk {
    /// Over so many panels.
    pub(super) fn new(panels: usize) -> Self {
        let near = (panels as f32 * 0.618) as usize;
        let stride = (near.max(1)..).find(|&s| coprime(s, panels)).unwrap_or(1);
        Walk { panels, stride }
    }

    /// The `step`-th panel.
    #[inline(always)]
    pub(super) fn panel(&self, step: usize) -> usize {
        step * self.stride % self.panels
    }

    /// How many panels there are.
    pub(super) fn len(&self) -> usize {
        self.panels
    }

    /// How many panels are looked at before any latent is kept.
    pub(super) fn sampled(&self) -> usize {
        SAMPLED.min(self.panels)
    }

    /// Whether most panels have a latent that a row keeps: some `5k` are kept on the way to `k`.
    pub(super) fn is_dense(&self, k: usize) -> bool {
        self.panels <= DENSE * k
    }

    /// A rank at which the estimates seen so far lie below the `k`-th of all, but for about one row
    /// in thirty thousand: of the best `k`, a part `f` of the latents holds `kf ± √(kf(1−f))`.
    #[inline(always)]
    pub(super) fn rank(&self, k: usize, seen: usize) -> usize {
        let (k_of_all, f) = (k as f32, seen as f32 / self.panels as f32);
        let expected = k_of_all * f;
        let trusted = CAUTION.mul_add((expected * (1.0 - f)).sqrt(), expected) + 1.0;
        (trusted.ceil() as usize).min(k)
    }
}

fn coprime(a: usize, b: usize) -> bool {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_panel_is_visited_once() {
        for panels in 1..400 {
            let walk = Walk::new(panels);
            let mut seen: Vec<usize> = (0..panels).map(|step| walk.panel(step)).collect();
            seen.sort_unstable();
            assert!(seen.iter().copied().eq(0..panels), "{panels}");
        }
    }

    #[test]
    fn the_rank_grows_to_k() {
        let walk = Walk::new(96);
        let ranks: Vec<usize> = (1..=96).map(|seen| walk.rank(32, seen)).collect();
        assert!(ranks.is_sorted() && ranks[95] == 32, "{ranks:?}");
        assert!((14..=16).contains(&ranks[15]), "{ranks:?}");
    }
}
