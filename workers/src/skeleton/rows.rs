//! Numbers per row, where the learner is.

use std::ops::{Deref, DerefMut};

use crate::{
    card::{CardResidual, CardRows},
    kernels::{Real, lanes::Moments, residual::Residual},
};

/// Numbers per row, `[rows, d_out]`: here, or on the card of the learner. Read as a slice, what lies on a
/// card is empty: kinds that read residuals themselves do not run on cards.
#[derive(Debug)]
pub enum Rows<R> {
    /// In memory.
    Here(Vec<R>),
    /// On a card.
    Card(CardRows),
}

impl<R> Rows<R> {
    /// None.
    pub const NONE: Rows<R> = Rows::Here(Vec::new());

    /// Memory to reuse; none, from a card.
    pub fn into_here(self) -> Vec<R> {
        match self {
            Rows::Here(rows) => rows,
            Rows::Card(_) => Vec::new(),
        }
    }

    /// What lies on a card.
    pub fn card(&self) -> Option<&CardRows> {
        match self {
            Rows::Here(_) => None,
            Rows::Card(rows) => Some(rows),
        }
    }
}

impl<R> Deref for Rows<R> {
    type Target = [R];

    fn deref(&self) -> &[R] {
        match self {
            Rows::Here(rows) => rows,
            Rows::Card(_) => &[],
        }
    }
}

impl<R> DerefMut for Rows<R> {
    fn deref_mut(&mut self) -> &mut [R] {
        match self {
            Rows::Here(rows) => rows,
            Rows::Card(_) => &mut [],
        }
    }
}

/// What a code leaves unexplained, here or on a card.
#[derive(Debug)]
pub(super) struct Left<R> {
    pub(super) e: Rows<R>,
    /// `⟨e, atom⟩` of every pair.
    pub(super) along_atoms: Vec<R>,
    pub(super) moments: Moments,
}

impl<R> From<Residual<R>> for Left<R> {
    fn from(Residual { e, along_atoms, moments }: Residual<R>) -> Self {
        Left { e: Rows::Here(e), along_atoms, moments }
    }
}

impl<R: Real> From<CardResidual> for Left<R> {
    fn from(CardResidual { e, along_atoms, moments }: CardResidual) -> Self {
        Left { e: Rows::Card(e), along_atoms: R::widen(along_atoms), moments }
    }
}
