//! The E-step of one row.

use super::{
    prior::{MOST_ACTIVE, Prior, View, Weighed},
    states::Set,
};

/// What the E-step needs beside the row.
#[derive(Debug, Clone, Copy)]
pub struct Inference<'a, P> {
    /// The prior.
    pub prior: &'a P,
    /// `W·Wᵀ`, `[n, n]`.
    pub gram: &'a [f64],
    /// Number of latents.
    pub n: usize,
    /// σ².
    pub noise: f64,
    /// `1/T`.
    pub sharpness: f64,
    /// Candidates per row.
    pub candidates: usize,
    /// Sets of candidates.
    pub sets: &'a [Set],
}

/// What two latents of a row do together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairOf {
    /// The one.
    pub a: usize,
    /// The other.
    pub b: usize,
    /// `⟨v_a·v_b⟩`.
    pub product: f64,
    /// `⟨s_a ≠ 0 and s_b ≠ 0⟩`.
    pub together: f64,
}

/// Expectations over the states that were weighed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Posterior {
    /// `log Σ p(y, s)` less that of the state in which nothing is active; at temperature 1.
    pub log_evidence: f64,
    /// `⟨s ≠ 0⟩`, `[n]`.
    pub active: Vec<f64>,
    /// `⟨v⟩`, `[n]`.
    pub mean: Vec<f64>,
    /// `⟨v²⟩`, `[n]`.
    pub squares: Vec<f64>,
    /// Of two candidates, `h ≠ h′`, both ways round.
    pub pairs: Vec<PairOf>,
    /// The most probable state: latents, ascending, with expected values.
    pub best: Vec<(usize, f64)>,
}

impl<P: Prior> Inference<'_, P> {
    /// Of the row whose products with the atoms are `q`, `[n]`.
    pub fn posterior(&self, q: &[f64]) -> Posterior {
        let mut states = self.alone(q);
        let candidates = self.choose(&states);
        for set in self.sets {
            let members = set.iter().filter_map(|&(at, sign)| candidates.get(at).map(|&h| (h, sign)));
            let view = self.view(q, members);
            states.push((view, self.prior.weigh(&view, self.noise)));
        }
        self.expectations(&states, &candidates)
    }

    /// Each latent alone, with each sign.
    fn alone(&self, q: &[f64]) -> Vec<(View, Weighed)> {
        let signs = self.prior.signs();
        let one = |(h, sign): (usize, f64)| {
            let view = self.view(q, [(h, sign)].into_iter());
            (view, self.prior.weigh(&view, self.noise))
        };
        (0..self.n).flat_map(|h| signs.iter().map(move |&sign| (h, sign))).map(one).collect()
    }

    /// The latents that explain the row best alone, ascending.
    fn choose(&self, alone: &[(View, Weighed)]) -> Vec<usize> {
        let signs = self.prior.signs().len();
        let best = |of: &[(View, Weighed)]| of.iter().map(|s| s.1.log).fold(f64::NEG_INFINITY, f64::max);
        let scores: Vec<f64> = alone.chunks(signs).map(best).collect();
        let mut order: Vec<usize> = (0..self.n).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        order.truncate(self.candidates);
        order.sort_unstable();
        order
    }

    fn view(&self, q: &[f64], members: impl Iterator<Item = (usize, f64)>) -> View {
        let mut view = View::default();
        for (h, sign) in members.take(MOST_ACTIVE) {
            let at = view.active;
            (view.latents[at], view.signs[at], view.q[at]) = (h, sign, q[h]);
            for other in 0..=at {
                let product = self.gram[h * self.n + view.latents[other]];
                (view.gram[at][other], view.gram[other][at]) = (product, product);
            }
            view.active += 1;
        }
        view
    }

    fn expectations(&self, states: &[(View, Weighed)], candidates: &[usize]) -> Posterior {
        let most = states.iter().map(|s| s.1.log).fold(0.0, f64::max);
        let total = |sharp: f64| {
            let each = states.iter().map(|s| (sharp * (s.1.log - most)).exp());
            (-sharp * most).exp() + each.sum::<f64>()
        };
        let all = total(self.sharpness);
        let zeros = vec![0.0; self.n];
        let mut out = Posterior {
            log_evidence: most + total(1.0).ln(),
            active: zeros.clone(),
            mean: zeros.clone(),
            squares: zeros,
            ..Posterior::default()
        };
        let width = candidates.len();
        let mut pairs = vec![(0.0, 0.0); width * width];
        let mut places = vec![0; self.n];
        candidates.iter().enumerate().for_each(|(at, &h)| places[h] = at);
        for (view, weighed) in states {
            let p = (self.sharpness * (weighed.log - most)).exp() / all;
            out.add(p, view, weighed, |a, b| places[a] * width + places[b], &mut pairs);
        }
        let of = |i: usize| {
            let (product, together) = pairs[i];
            PairOf { a: candidates[i / width], b: candidates[i % width], product, together }
        };
        out.pairs = (0..width * width).filter(|i| i / width != i % width).map(of).collect();
        out.best = best(states);
        out
    }
}

impl Posterior {
    fn add(
        &mut self,
        p: f64,
        view: &View,
        weighed: &Weighed,
        place: impl Fn(usize, usize) -> usize,
        pairs: &mut [(f64, f64)],
    ) {
        for a in 0..view.active {
            let h = view.latents[a];
            self.active[h] += p;
            self.mean[h] += p * weighed.mean[a];
            self.squares[h] += p * weighed.second[a][a];
            for b in (0..view.active).filter(|&b| b != a) {
                let pair = &mut pairs[place(h, view.latents[b])];
                pair.0 += p * weighed.second[a][b];
                pair.1 += p;
            }
        }
    }
}

/// The state with the largest probability, the first of equals; nothing, if no other beats it.
fn best(states: &[(View, Weighed)]) -> Vec<(usize, f64)> {
    let mut top: (f64, Option<&(View, Weighed)>) = (0.0, None);
    for state in states {
        if state.1.log > top.0 {
            top = (state.1.log, Some(state));
        }
    }
    let values = |(view, weighed): &(View, Weighed)| {
        (0..view.active).map(|a| (view.latents[a], weighed.mean[a])).collect::<Vec<_>>()
    };
    let mut best = top.1.map(values).unwrap_or_default();
    best.sort_unstable_by_key(|pair| pair.0);
    best
}
