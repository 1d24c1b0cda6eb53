//! Gradients and targets that a variant states row by row, wherever the learner is.

use std::borrow::Cow;

use super::{Left, Loss, Part};
use crate::{
    codes::Codes,
    kernels::{
        Real,
        lanes::{self, Moments},
        product::Panels,
        residual::{Along, along},
        vector,
    },
    linear::product::cross,
    skeleton::{gradient::Term, rows::Rows},
};

impl<R: Real> Loss<'_, '_, '_, R> {
    /// Rows where they can be read.
    pub fn here<'a>(&self, rows: &'a Rows<R>) -> Cow<'a, [R]> {
        match (self.step.card, rows) {
            (Some(card), Rows::Card(there)) => Cow::Owned(R::widen(card.download(there))),
            _ => Cow::Borrowed(rows),
        }
    }

    /// What a code leaves of the target, without a place in the loss.
    pub fn unexplained(&mut self, codes: &Codes, values: &[R]) -> (Rows<R>, Moments) {
        let Left { e, moments, .. } = self.left(codes, values);
        (e, moments)
    }

    /// `⟨y, atom⟩` of every pair of a code, and the sums of `y`, `[rows, d_out]`.
    pub fn against_atoms(&self, codes: &Codes, y: &[R]) -> Along<R> {
        let (step, p) = (self.step, self.step.parameters);
        let Some(card) = step.card else {
            return along(step.path, y, codes, (&p.w_dec.value, p.d_out()), step.lanes);
        };
        let along_atoms = R::widen(card.along(&card.upload(&R::narrow(y)), codes));
        Along { along_atoms, moments: lanes::moments(step.path, y, p.d_out(), step.lanes) }
    }

    /// Adds `gradient`, `[rows, d_out]`, to the gradient of the loss with respect to what `part` decodes to.
    /// The part's residual then stands for both: whoever wants the residual itself asks before.
    pub fn pull_decoded(&mut self, part: &mut Part<R>, gradient: &[R]) {
        let Along { along_atoms, moments } = self.against_atoms(&part.codes, gradient);
        vector::add(&along_atoms, &mut part.slope);
        self.add_offset_gradient(&moments.column_sums);
        let share = R::ONE / part.rate;
        match (self.step.card, &mut part.e) {
            (Some(card), Rows::Card(e)) => {
                let factor = R::narrow(&[share])[0];
                card.add(e, factor, &card.upload(&R::narrow(gradient)));
            }
            (_, e) => vector::axpy_on(self.step.path, share, gradient, e),
        }
    }

    /// A code takes part in the gradient of a loss that was computed elsewhere: `gradient`, `[rows, d_out]`, is that
    /// with respect to what the code decodes to.
    pub fn push_decoded(&mut self, codes: Codes, values: &[R], gradient: Vec<R>) {
        let Along { along_atoms: slope, moments } = self.against_atoms(&codes, &gradient);
        self.add_offset_gradient(&moments.column_sums);
        match self.step.card {
            None => self.push_term(Term::new(&codes, values, &slope, gradient)),
            Some(card) => {
                let y = vec![(codes.n_latents, card.upload(&R::narrow(&gradient)))];
                self.push_card_term(codes, [values, &slope], y);
            }
        }
    }

    /// What a dense map of the rows leaves of the target, `[rows, d_out]`: the map, `[d_out, d_in]`, is the
    /// `index`-th extra parameter.
    pub fn unmapped(&mut self, index: usize) -> Rows<R> {
        let (step, map) = (self.step, self.step.parameters.extra(index));
        if let Some(card) = step.card {
            return Rows::Card(card.unmapped(&R::narrow(map)));
        }
        let mut left = self.room(step.target.len());
        Panels::of_rows(map, step.parameters.d_in).times(step.path, step.x, &mut left);
        left.iter_mut().zip(step.target).for_each(|(left, &y)| *left = y - *left);
        Rows::Here(left)
    }

    /// Adds to the gradient of that map what `part`, which explains what it leaves, asks of it: `Σ g xᵀ`, g the
    /// gradient of what is reconstructed.
    pub fn push_map(&mut self, index: usize, part: &Part<R>) {
        let (step, p) = (self.step, self.step.parameters);
        let sums = match (step.card, &part.e) {
            (Some(card), Rows::Card(e)) => R::widen(card.cross(e)),
            _ => cross(step.path, step.lanes, (&part.e, p.d_out()), (step.x, p.d_in)),
        };
        vector::axpy(part.rate, &sums, self.extra_gradient(index));
    }
}
