//! Reconstructions by prefixes of the dictionary, each of which has to do alone.

use super::{Loss, Part};
use crate::{
    card::CardNested,
    codes::Codes,
    kernels::{
        Real,
        lanes::Moments,
        nested::{Nested, Prefixes, nested},
        residual::Coded,
        vector,
    },
    skeleton::{gradient::Term, rows::Rows},
};

/// What prefixes leave, where the learner is: see [`Nested`].
struct Left<R> {
    suffixes: Vec<Rows<R>>,
    along_atoms: Vec<R>,
    squared_errors: Vec<f64>,
    moments: Moments,
    column_sums: Vec<f64>,
}

impl<R> From<Nested<R>> for Left<R> {
    fn from(of: Nested<R>) -> Self {
        let Nested { suffixes, along_atoms, squared_errors, moments, column_sums } = of;
        let suffixes = suffixes.into_iter().map(Rows::Here).collect();
        Left { suffixes, along_atoms, squared_errors, moments, column_sums }
    }
}

impl<R: Real> From<CardNested> for Left<R> {
    fn from(of: CardNested) -> Self {
        let CardNested { suffixes, along_atoms, squared_errors, moments, column_sums } = of;
        let suffixes = suffixes.into_iter().map(Rows::Card).collect();
        Left { suffixes, along_atoms: R::widen(along_atoms), squared_errors, moments, column_sums }
    }
}

impl<R: Real> Loss<'_, '_, '_, R> {
    /// Adds `scale·Σ_j weights[j]·Σ‖target − b_dec − values·w_dec‖²` over nested dictionaries: of the `j`-th
    /// reconstruction only the latents below `ends[j]` take part. `ends` ascend up to the number of latents,
    /// and the last weight is positive. The part is that of all latents.
    pub fn reconstruct_nested(
        &mut self,
        (codes, values): (Codes, Vec<R>),
        ends: &[usize],
        weights: &[f64],
        scale: f64,
    ) -> (Part<R>, Vec<Rows<R>>) {
        let last = weights.last().copied().unwrap_or(1.0);
        let against_last: Vec<R> = weights.iter().map(|weight| R::of(weight / last)).collect();
        let left = self.left_nested(&codes, &values, Prefixes { ends, weights: &against_last });
        let Left { mut suffixes, along_atoms, squared_errors, moments, column_sums } = left;
        self.report(&codes, &values, moments.squared_norm);
        let squares = weights.iter().zip(&squared_errors).map(|(weight, square)| weight * square);
        self.add_error(&Moments { squared_norm: squares.sum::<f64>() / last, column_sums }, scale * last);
        let rate = R::of(-2.0 * scale * last);
        let mut slope = along_atoms;
        vector::scale(rate, &mut slope);
        let e = suffixes.pop().unwrap_or(Rows::NONE);
        (Part { codes, values, slope, e, moments, rate }, suffixes)
    }

    fn left_nested(&mut self, codes: &Codes, values: &[R], prefixes: Prefixes<R>) -> Left<R> {
        let (step, p) = (self.step, self.step.parameters);
        if let Some(card) = step.card {
            let weights = R::narrow(prefixes.weights);
            return card.nested(codes, &R::narrow(values), prefixes.ends, &weights).into();
        }
        let coded = Coded { codes, values, w_dec: &p.w_dec.value, offset: &p.b_dec.value };
        let rooms = prefixes.ends.iter().map(|_| self.rooms.take()).collect();
        nested(step.path, step.target, &coded, prefixes, step.lanes, rooms).into()
    }

    /// A nested part takes part in the gradient; `suffixes` and `ends` are those of its prefixes.
    pub fn push_nested(&mut self, part: Part<R>, suffixes: Vec<Rows<R>>, ends: &[usize]) {
        let Part { codes, mut values, slope, e, rate, .. } = part;
        vector::scale(rate, &mut values);
        let suffixes = suffixes.into_iter().chain([e]).zip(ends.iter().copied());
        if self.step.card.is_some() {
            let y = suffixes.filter_map(|(y, end)| Some((end, y.card()?.clone()))).collect();
            return self.push_card_term(codes, [&values, &slope], y);
        }
        let mut begin = 0;
        for (y, end) in suffixes {
            let [decoder, encoder] = [&values, &slope];
            self.push_term(Term::of_latents(begin..end, &codes, decoder, encoder, y.into_here()));
            begin = end;
        }
    }
}
