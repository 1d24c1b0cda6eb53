//! Several cards as one: each holds every parameter and has a share of the rows of a batch.
//!
//! Every card finds codes and residuals of its rows and sums its gradient; the gradients of all are added
//! up, by the cards among themselves where they can, and every card takes the same step. Against shards of
//! latents no residual travels and nothing waits for the card before; but all of the gradient does travel,
//! and nothing is divided: for dictionaries that fit on one card and have fewer latents than a batch has rows.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use rayon::prelude::*;

use super::{
    Against, CardGradient, CardNested, CardResidual, CardRows, CardTerm, Matrix, OnCard, Replica, Scatter,
    cluster::{rows_of, sent_to},
    pairs::{beside_rows, largest_of_batch},
    wire::Incoming,
};
use crate::{
    codes::Codes,
    kernels::{
        adam::AdamStep,
        encode::{Among, Selected, Selection},
        lanes::Moments,
    },
    skeleton::{parameters::Parameters, update::Atoms},
};

/// An autoencoder that several cards hold whole.
#[derive(Debug)]
pub(super) struct Replicated {
    d_in: usize,
    replicas: Vec<Box<dyn Replica>>,
    /// The rows of the batch that each card has.
    shares: Mutex<Vec<Range<usize>>>,
}

/// Rows that each card has its share of, in the order of the cards.
type Shared = Vec<CardRows>;

/// `rows` in as many stretches as there are cards, as equal as can be.
pub(super) fn shares(rows: usize, cards: usize) -> Vec<Range<usize>> {
    (0..cards).map(|at| at * rows / cards..(at + 1) * rows / cards).collect()
}

/// Rows that are cut by row, `[rows, width]`.
fn cut<'a>(all: &'a [f32], share: &Range<usize>, rows: usize) -> &'a [f32] {
    let width = all.len() / rows.max(1);
    &all[share.start * width..share.end * width]
}

/// What belongs to the pairs of some rows.
fn pairs_of<'a>(all: &'a [f32], codes: &Codes, share: &Range<usize>) -> &'a [f32] {
    &all[codes.offsets[share.start]..codes.offsets[share.end]]
}

fn share_of(rows: &CardRows, at: usize) -> CardRows {
    let all = rows.0.downcast_ref::<Shared>();
    // Rows of another cluster: the card will say that it does not know them.
    all.and_then(|all| all.get(at)).unwrap_or(rows).clone()
}

impl Replicated {
    /// An autoencoder of rows of `d_in` whose `replicas` have begun with the same parameters.
    pub(super) fn new(d_in: usize, replicas: Vec<Box<dyn Replica>>) -> Self {
        Replicated { d_in, replicas, shares: Mutex::default() }
    }

    fn shares(&self) -> Vec<Range<usize>> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows of the batch.
    fn rows(&self) -> usize {
        self.shares().last().map_or(0, |share| share.end)
    }

    /// What every card answers, all at once; each is asked with its number and its share of the rows.
    fn each<T: Send>(&self, ask: impl Fn(usize, &Range<usize>, &dyn Replica) -> T + Sync) -> Vec<T> {
        let shares = self.shares();
        let all = self.replicas.par_iter().zip(&shares).enumerate();
        all.map(|(at, (replica, share))| ask(at, share, &**replica)).collect()
    }

    /// What every card answers, whatever the batch.
    fn all<T: Send>(&self, ask: impl Fn(&dyn Replica) -> T + Sync) -> Vec<T> {
        self.replicas.par_iter().map(|replica| ask(&**replica)).collect()
    }

    /// Adds up the gradients of all cards, so that each has the sum.
    fn exchange(&self) {
        let done = self.all(|on| on.reduce());
        if !done.iter().all(|done| *done) {
            let sum = added(self.all(|on| on.gradient()));
            self.all(|on| on.set_gradient(&sum));
        }
    }

    /// `rows` of every card, once more together.
    fn shared(rows: Shared) -> CardRows {
        CardRows(Arc::new(rows))
    }

    fn first<T: Default>(&self, ask: impl FnOnce(&dyn Replica) -> T) -> T {
        self.replicas.first().map_or_else(T::default, |on| ask(&**on))
    }
}

/// The sums of gradients, in their order.
fn added(gradients: Vec<[Vec<f32>; 3]>) -> [Vec<f32>; 3] {
    let add = |mut sum: [Vec<f32>; 3], parts: [Vec<f32>; 3]| {
        for (sum, part) in sum.iter_mut().zip(parts) {
            sum.par_iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        }
        sum
    };
    gradients.into_iter().reduce(add).unwrap_or_default()
}

/// The sum of lists of one length, in their order.
fn added_wide(parts: Vec<Vec<f64>>) -> Vec<f64> {
    let add = |mut sum: Vec<f64>, part: Vec<f64>| {
        sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sum
    };
    parts.into_iter().reduce(add).unwrap_or_default()
}

/// The moments of the rows of all cards, in their order.
fn together<'a>(parts: impl Iterator<Item = &'a Moments>) -> Moments {
    parts.cloned().reduce(|all, part| all.joined(&part)).unwrap_or_else(|| Moments::zero(0))
}

/// `k` of a selection over `own` of `rows` rows that finds no less than the whole batch may take of them.
fn for_all(k: usize, rows: usize, own: usize) -> usize {
    k.saturating_mul(rows).div_ceil(own.max(1))
}

impl OnCard for Replicated {
    fn begin(&self, x: Incoming, target: Option<&[f32]>) -> Scatter {
        let rows = rows_of(x, self.d_in);
        *self.shares.lock().unwrap_or_else(PoisonError::into_inner) = shares(rows, self.replicas.len());
        let scatters = self.each(|at, share, on| {
            let own = match x {
                Incoming::Here(x) => Incoming::Here(cut(x, share, rows)),
                Incoming::Sent(_) => sent_to(x, at),
            };
            on.begin(own, target.map(|target| cut(target, share, rows)))
        });
        scatters.into_iter().fold(Scatter::default(), Scatter::joined)
    }

    fn select(
        &self,
        selection: Selection<f32>,
        among: Option<Among>,
    ) -> (Selected<f32>, Option<Selected<f32>>) {
        let rows = self.rows();
        let parts = self.each(|_, share, on| {
            let own = match selection {
                Selection::BatchTopK(k) => Selection::BatchTopK(for_all(k, rows, share.len())),
                other => other,
            };
            on.select(own, among)
        });
        let (parts, dead): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let mut selected = beside_rows(&parts);
        if let Selection::BatchTopK(k) = selection {
            selected = largest_of_batch(&selected.codes, &selected.values, k);
        }
        let dead: Option<Vec<_>> = dead.into_iter().collect();
        (selected, dead.filter(|_| among.is_some()).map(|dead| beside_rows(&dead)))
    }

    fn select_weighted(&self, k: usize, weights: &[f32]) -> Selected<f32> {
        let rows = self.rows();
        let parts = self.each(|_, share, on| on.select_weighted(for_all(k, rows, share.len()), weights));
        let all = beside_rows(&parts);
        largest_of_batch(&all.codes, &all.values, k)
    }

    fn select_among(&self, among: Among) -> Selected<f32> {
        beside_rows(&self.each(|_, _, on| on.select_among(among)))
    }

    fn residual(&self, against: Against, codes: &Codes, values: &[f32]) -> CardResidual {
        let parts = self.each(|at, share, on| {
            let own = codes.of_rows(share.clone());
            let values = pairs_of(values, codes, share);
            match against {
                Against::Target => on.residual(Against::Target, &own, values),
                Against::Instead(rows) => on.residual(Against::Instead(&share_of(rows, at)), &own, values),
                Against::Rows(rows) => on.residual(Against::Rows(&share_of(rows, at)), &own, values),
            }
        });
        let moments = together(parts.iter().map(|part| &part.moments));
        let along_atoms = parts.iter().flat_map(|part| &part.along_atoms).copied().collect();
        let e = Self::shared(parts.into_iter().map(|part| part.e).collect());
        CardResidual { e, along_atoms, moments }
    }

    fn nested(&self, codes: &Codes, values: &[f32], ends: &[usize], weights: &[f32]) -> CardNested {
        let parts = self.each(|_, share, on| {
            on.nested(&codes.of_rows(share.clone()), pairs_of(values, codes, share), ends, weights)
        });
        let suffix = |j: usize| Self::shared(parts.iter().map(|part| part.suffixes[j].clone()).collect());
        CardNested {
            suffixes: (0..ends.len()).map(suffix).collect(),
            along_atoms: parts.iter().flat_map(|part| &part.along_atoms).copied().collect(),
            moments: together(parts.iter().map(|part| &part.moments)),
            squared_errors: added_wide(parts.iter().map(|part| part.squared_errors.clone()).collect()),
            column_sums: added_wide(parts.iter().map(|part| part.column_sums.clone()).collect()),
        }
    }

    fn along(&self, y: &CardRows, codes: &Codes) -> Vec<f32> {
        self.each(|at, share, on| on.along(&share_of(y, at), &codes.of_rows(share.clone()))).concat()
    }

    fn add(&self, to: &CardRows, factor: f32, rows: &CardRows) {
        self.each(|at, _, on| on.add(&share_of(to, at), factor, &share_of(rows, at)));
    }

    fn unmapped(&self, map: &[f32]) -> CardRows {
        Self::shared(self.each(|_, _, on| on.unmapped(map)))
    }

    fn cross(&self, y: &CardRows) -> Vec<f32> {
        let parts = self.each(|at, _, on| [on.cross(&share_of(y, at)), Vec::new(), Vec::new()]);
        let [sum, ..] = added(parts);
        sum
    }

    fn norms(&self, of: Matrix, widths: &[usize]) -> Vec<f32> {
        self.first(|on| on.norms(of, widths))
    }

    fn encoder(&self, latents: &[u32]) -> (Vec<f32>, Vec<f32>) {
        self.first(|on| on.encoder(latents))
    }

    fn gather(&self, terms: &[CardTerm]) -> Vec<f64> {
        let through = added_wide(self.each(|at, share, on| {
            let own = |term: &CardTerm| CardTerm {
                codes: term.codes.of_rows(share.clone()),
                decoder: pairs_of(&term.decoder, &term.codes, share).to_vec(),
                encoder: pairs_of(&term.encoder, &term.codes, share).to_vec(),
                y: term.y.iter().map(|(end, y)| (*end, share_of(y, at))).collect(),
            };
            on.gather(&terms.iter().map(own).collect::<Vec<_>>())
        }));
        self.exchange();
        through
    }

    fn squares(&self, gradient: &CardGradient) -> f64 {
        self.first(|on| on.squares(gradient))
    }

    fn update(&self, gradient: &CardGradient, adam: &AdamStep<f32>, atoms: Atoms) {
        self.all(|on| on.update(gradient, adam, atoms));
    }

    fn restart(&self, latents: &[u32], encoder: &[f32], atoms: &[f32]) {
        self.all(|on| on.restart(latents, encoder, atoms));
    }

    fn set_b_dec(&self, b_dec: &[f32]) {
        self.all(|on| on.set_b_dec(b_dec));
    }

    fn download(&self, rows: &CardRows) -> Vec<f32> {
        self.each(|at, _, on| on.download(&share_of(rows, at))).concat()
    }

    fn upload(&self, rows: &[f32]) -> CardRows {
        let count = self.rows();
        Self::shared(self.each(|_, share, on| on.upload(cut(rows, share, count))))
    }

    /// Every card has the same ones.
    fn biases(&self) -> (Vec<f32>, Vec<f32>) {
        self.first(|on| on.biases())
    }

    fn read(&self, parameters: &mut Parameters<f32>) {
        self.first(|on| on.read(parameters));
    }

    fn write(&self, parameters: &Parameters<f32>) {
        self.all(|on| on.write(parameters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shared_out_whole() {
        assert_eq!(shares(7, 3), [0..2, 2..4, 4..7]);
        assert_eq!(shares(1, 2), [0..0, 0..1]);
        assert_eq!(cut(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], &(1..3), 3), [2.0, 3.0, 4.0, 5.0]);
        assert_eq!(cut(&[], &(0..0), 0), [0.0; 0]);
    }

    /// However uneven the shares and wherever the largest are, no card is asked for too few.
    #[test]
    fn enough_is_asked_of_every_card() {
        for (rows, cards, k) in [(7, 3, 2), (4096, 8, 64), (5, 8, 1), (1, 2, 3)] {
            for share in shares(rows, cards).into_iter().filter(|share| !share.is_empty()) {
                assert!(for_all(k, rows, share.len()) * share.len() >= k * rows, "{rows} {cards} {k}");
            }
        }
    }

    #[test]
    fn sums_go_by_the_order_of_cards() {
        let part = |first: f32, bias: f32| [vec![first, 1.0], vec![bias], vec![2.0, 2.0]];
        let parts = vec![part(1e8, 1.0), part(-1e8, 2.0), part(0.5, 3.0)];
        assert_eq!(added(parts), [vec![0.5, 3.0], vec![6.0], vec![6.0, 6.0]]);
        assert_eq!(added(Vec::new()), [const { Vec::<f32>::new() }; 3]);
    }
}
